"""Records to the columns of documents; what is no document is told apart with the reason."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from data_contracts.rows import DOCUMENTS
from tasks.acquire.config import Source
from tasks.acquire.lines import HEAD_BYTES, Lines, Record, TooLong


class Unreadable(Exception):
    """Why a line is no document."""


class Understood(NamedTuple):
    """What became of lines: documents, as columns of DOCUMENTS; rows of QUARANTINE; blank lines."""

    columns: list[list[str]]
    quarantine: list[dict[str, Any]]
    num_blank: int


def understand(lines: Lines, file: str, source_name: str, config: Source) -> Understood:
    """Every line as a document, a row of quarantine, or blank. file: its name in ledgers."""
    rows: list[tuple[str, ...]] = []
    bad: dict[int, str] = {}
    num_blank = 0
    prefix, parse, usual = f"{source_name}/{file}:", orjson.loads, _UsualLayout(config)
    for number, content in enumerate(lines.records(), lines.first):
        try:
            record = parse(content) if type(content) is bytes else record_of(content, config)
            place = f"{prefix}{number}"
            rows.append(usual.document_of(record, place) or document_of(record, place, config))
        except (orjson.JSONDecodeError, Unreadable) as error:
            if isinstance(content, bytes) and not content.strip():
                num_blank += 1
            else:
                bad[number - lines.first] = _reason(content, error)
    columns = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in DOCUMENTS.names]
    return Understood(columns, _quarantine(lines, file, bad), num_blank)


class _UsualLayout:
    """A short cut for the LLM-JP layout and nothing else, {text, meta: {id, title, url}}: most of what is ever read."""

    def __init__(self, config: Source) -> None:
        self.text_field, self.id_field = config.text_field, config.id_field
        self.num_fields = 2 if config.text_field != "meta" and config.id_field not in ("title", "url") else -1

    def document_of(self, record: Any, place: str) -> tuple[str, str, str, str, str, str] | None:
        """What `document_of` makes of the record; none where it has another layout."""
        if type(record) is not dict or len(record) != self.num_fields:
            return None
        text, meta = record.get(self.text_field), record.get("meta")
        if type(text) is not str or type(meta) is not dict or len(meta) != 3:
            return None
        identifier, title, url = meta.get(self.id_field), meta.get("title"), meta.get("url")
        if type(identifier) is not str or type(title) is not str or type(url) is not str or not identifier:
            return None
        return identifier, text, place, url, title, "{}"


def record_of(content: Record, config: Source) -> Any:
    """The object that a columnar source gave. Raises Unreadable for a line of which only the head was kept."""
    if isinstance(content, TooLong):
        raise Unreadable(
            f"too long: {content.num_bytes:,} bytes, expected at most {config.max_line_bytes:,} "
            "(`source.max_line_bytes`)"
        )
    return content


def document_of(record: Any, place: str, config: Source) -> tuple[str, str, str, str, str, str]:
    """The row (data_contracts.rows.DOCUMENTS) of a record in LLM-JP layout or flat. Raises Unreadable."""
    if not isinstance(record, dict):
        raise Unreadable(f"a JSON {type(record).__name__}, expected an object")
    rest = record.copy()
    text = rest.pop(config.text_field, None)
    if not isinstance(text, str):
        found = "no field" if text is None else f"a {type(text).__name__}"
        raise Unreadable(f"{found} `{config.text_field}`, expected text")
    meta = rest.pop("meta", None)
    if isinstance(meta, dict):
        rest = {**meta, **rest}
    elif meta is not None:
        rest["meta"] = meta
    identifier = rest.pop(config.id_field, None)
    title, url = rest.pop("title", None), rest.pop("url", None)
    return (
        place if identifier in (None, "") else str(identifier),
        text,
        place,
        "" if url is None else str(url),
        "" if title is None else str(title),
        _json(rest),
    )


def _reason(content: Record, error: Exception) -> str:
    if not isinstance(error, orjson.JSONDecodeError) or not isinstance(content, bytes):
        return str(error)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as encoding:
        return f"not UTF-8: {encoding.reason} at byte {encoding.start} of the line"
    return f"not JSON: {error}"


def _quarantine(lines: Lines, file: str, bad: dict[int, str]) -> list[dict[str, Any]]:
    """Rows (data_contracts.rows.QUARANTINE) of the records at the indices of `bad`, which holds the reasons."""
    if not bad:
        return []
    records, offsets = lines.records(), lines.byte_offsets()
    return [
        {
            "file": file,
            "line": lines.first + index,
            "byte_offset": offsets[index],
            "reason": reason,
            "raw": _raw(records[index])[:HEAD_BYTES],
        }
        for index, reason in bad.items()
    ]


def _raw(content: Record) -> bytes:
    if isinstance(content, TooLong):
        return content.head
    if isinstance(content, bytes):
        return content.rstrip(b"\r")
    try:
        return orjson.dumps(content, default=str)
    except orjson.JSONEncodeError:
        return repr(content).encode(errors="backslashreplace")


def _json(fields: dict[str, Any]) -> str:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError as error:
        raise Unreadable(f"fields that cannot be kept as JSON: {error}") from None
