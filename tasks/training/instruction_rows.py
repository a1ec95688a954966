"""The prompt format, and how a row of instruction data becomes a prompt and a response."""

from __future__ import annotations

import json
from typing import Any

RESPONSE_HEADING = "### 応答:\n"


def prompt_of(instruction: str, given: str = "") -> str:
    """The prompt of an instruction and its input; the input's block is left out if there is none."""
    block = f"### 入力:\n{given}\n\n" if given else ""
    return f"### 指示:\n{instruction}\n\n{block}{RESPONSE_HEADING}"


def row_pair(line: bytes) -> tuple[str, str]:
    """Prompt and response of a JSONL row. Raises ValueError, which says what is wrong with it."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"found a {type(row).__name__}, expected an object")
    if "messages" in row:
        return _conversation_pair(row["messages"])
    prompt = prompt_of(_text(row, "instruction"), _text(row, "input", required=False))
    return prompt, _text(row, "output")


def _conversation_pair(messages: Any) -> tuple[str, str]:
    """The last answer is the response; everything before it is the prompt, turn by turn."""
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(m, dict) for m in messages):
        raise ValueError("`messages`: expected a list of at least two {role, content}")
    *before, last = messages
    if last.get("role") != "assistant" or before[-1].get("role") != "user":
        raise ValueError("`messages`: expected to end with a message of user and one of assistant")
    headings = {"system": "", "user": "### 指示:\n", "assistant": RESPONSE_HEADING}
    parts = []
    for message in before:
        role = message.get("role")
        if role not in headings:
            raise ValueError(f"`role`: found {role!r}, expected one of {', '.join(headings)}")
        parts.append(f"{headings[role]}{_text(message, 'content')}\n\n")
    return "".join(parts) + RESPONSE_HEADING, _text(last, "content")


def _text(row: dict[str, Any], name: str, *, required: bool = True) -> str:
    value = row.get(name, None if required else "")
    if not required and value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"`{name}`: found {'nothing' if value is None else type(value).__name__}, expected text")
    if required and not value.strip():
        raise ValueError(f"`{name}`: empty")
    return value
