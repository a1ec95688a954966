"""What the cleaning of Wikipedia leaves behind as whole lines: tables, categories, sections of links."""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

TABLE_MARK = re.compile(r"^[ \t:]{0,20}(?:\{\||\||!)", re.MULTILINE)
STRAY_MARK = re.compile(r"\|[-}]")
CATEGORY_LINE = re.compile(
    r"^(?:\[\[:?(?:Category|カテゴリ|[a-z]{2,3}(?:-[a-z]{2,10})?):[^\[\]\n]{1,300}\]\][ \t]?)+$"
    r"|^(?:Category|カテゴリ):[^。\n]{1,300}$",
    re.MULTILINE,
)
LANGUAGE_LINE = re.compile(
    r"(?P<code>ar|bg|ca|cs|da|de|el|en|eo|es|et|eu|fa|fi|fr|he|hr|hu|ka|ko|lt|lv|ms|nl|nn|pl|pt|ro|ru|simple|sk|sl|sr|sv|"
    r"th|tr|uk|vi|zh):[^\s/。][^\n。]{0,100}"
)
LINKS_HEADING = re.compile(r"(?:外部リンク|関連リンク|関連項目|関連記事)")
NOTES_HEADING = re.compile(r"(?:脚注|注釈|出典|脚注・出典|注釈・出典|脚注と出典|参考文献|関連文献)")
HEADING_MARKS = " \t\u3000=#■●◆*"
LIST_MARKS = ("*", "・", "•", "●", "-", "－")
MAX_LINK_CHARACTERS = 120


def tables(text: str) -> Iterator[Span]:
    """Lines of table markup from `{|` to `|}`, and lines that are nothing but a mark of a row or an end."""
    waiting: list[Span] = []
    for mark in TABLE_MARK.finditer(text):
        stop = text.find("\n", mark.end())
        span = mark.start(), len(text) if stop < 0 else stop
        content = text[slice(*span)].strip(" \t:")
        if content.startswith("{|"):
            yield from _stray(text, waiting)
            waiting = [span]
        elif not waiting:
            yield from _stray(text, [span])
        else:
            waiting.append(span)
            if content.startswith("|}"):
                yield from waiting
                waiting = []
    yield from _stray(text, waiting)


def _stray(text: str, spans: list[Span]) -> Iterator[Span]:
    return (span for span in spans if STRAY_MARK.fullmatch(text[slice(*span)].strip(" \t:")))


def categories(text: str) -> Iterator[Span]:
    """Lines of categories and of links to other languages; without brackets, two or more of these at the very end."""
    end = _language_lines(text)
    yield from (match.span() for match in CATEGORY_LINE.finditer(text, 0, end))
    if end < len(text):
        yield end, len(text)


def _language_lines(text: str) -> int:
    """Where the lines `en:Tokyo` at the end of a text begin; its end if there are less than two languages."""
    first, codes = len(text), set()
    for start, line in _lines_from_end(text):
        match = LANGUAGE_LINE.fullmatch(line)
        if match:
            first = start
            codes.add(match["code"])
        elif line.strip():
            break
    return first if len(codes) > 1 else len(text)


def link_sections(text: str) -> Iterator[Span]:
    """The sections at the end of a text that hold links alone, or nothing; not a text that would hold nothing else."""
    first, has_items = len(text), False
    for start, line in _lines_from_end(text):
        heading = line.strip(HEADING_MARKS)
        if LINKS_HEADING.fullmatch(heading) or (NOTES_HEADING.fullmatch(heading) and not has_items):
            first, has_items = start, False
        elif line.strip():
            if not _is_link(line):
                break
            has_items = has_items or "://" not in line
    else:
        return
    if first < len(text):
        yield first, len(text)


def _is_link(line: str) -> bool:
    line = line.strip()
    return len(line) <= MAX_LINK_CHARACTERS and "。" not in line and ("://" in line or line.startswith(LIST_MARKS))


def _lines_from_end(text: str) -> Iterator[tuple[int, str]]:
    """Where each line begins, and the line; the last one first."""
    stop = len(text)
    while stop >= 0:
        start = text.rfind("\n", 0, stop) + 1
        yield start, text[start:stop]
        stop = start - 1
