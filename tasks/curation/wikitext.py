"""What the cleaning of Wikipedia leaves behind, kind by kind, and how it is taken out of a text.

Every pattern has bounded quantifiers or classes without the character that it begins with, so that each kind takes
linear time on any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from tasks.curation.wikitext_lines import categories, link_sections, tables

Span = tuple[int, int]

MAX_ROUNDS = 10
SPACES = " \t\u3000"

REFERENCE_TAG = re.compile(r"<ref\b[^<>]*>|</ref\s{0,5}>|<references\b[^<>]*>")
COMMENT_MARK = re.compile("<!--|-->")
TEMPLATE = re.compile(r"\{\{\{[^{}]*\}\}\}|\{\{(?=[^\W_]|#)[^{}]*\}\}")
LINK = re.compile(r"\[\[(?P<target>[^\[\]|\n]{1,300})(?P<bar>\|)?(?P<label>[^\[\]\n]*)\]\]")
WEB_LINK = re.compile(r"\[https?://[^\s\[\]]+ (?P<label>[^\[\]\n]+)\]")
PICTURE = re.compile(r"\s*(?:ファイル|画像|メディア|File|Image|Media)\s*:", re.IGNORECASE)
NOT_A_PAGE = re.compile(r"[\W_]|[^\n]*(?:\s$|[$=])|(?:Category|カテゴリ):|[a-z]{2,3}:")
LETTER = re.compile(r"[^\W\d_]")
EMPHASIS = re.compile(r"(?<!')(?P<open>'{5}|'{3}|'{2})(?!')(?P<inside>[^'\n]+)(?P<close>'+)")
_NOTE = "(?:注釈?|註釈?|脚注|原注|訳注|出典|[Nn]ote|nb|N)"
_DEMAND = (
    "(?:要(?:出典|検証|追記|追加記述|校閲|説明|ページ番号|文献特定|曖昧さ回避)|出典無効|出典不明|リンク切れ|疑問点|独自研究|"
    "信頼性要検証|非一次資料|中立的観点|citation needed|clarification needed|dead link|編集|ソースを編集)"
)
NUMBERED_MARKS = re.compile(rf"(?:[\[［](?:{_NOTE}[ \u3000]?)?(?!0)\d{{1,3}}[\]］])+")
DEMAND_MARK = re.compile(
    rf"[\[［](?:{_DEMAND}[^\[\]［］\n]{{0,30}}|(?:いつ|誰|どこ|なぜ|何|どれ|どの)[^\[\]［］\n]{{0,10}}[?？])[\]］]"
)
NAME = re.compile(r"(?:^|[^!-~])[0-9A-Z][0-9A-Za-z]*$")
_SEPARATORS = " 、，,；;：:\u3000"
PARENTHESES = re.compile(
    rf"（[{_SEPARATORS}]*）|\([{_SEPARATORS}]*\)|(?<=（)[ \u3000]*[、，][ 、，\u3000]*|[、，][ \u3000]*(?=）)"
)
NAMES_OF_MARKS = re.compile("(?:点|テン|コンマ|カンマ|コロン|クォート|引用符|括弧|かっこ|カッコ|記号|符号|文字) ?$")


class Kind(NamedTuple):
    """find: the places of what is to go, in order and apart; signs: a text without any of these holds none."""

    find: Callable[[str], Iterator[Span]]
    signs: tuple[str, ...]


def clean(text: str, kinds: Collection[str]) -> tuple[str, list[str]]:
    """The text without the wanted ones of KINDS, and the pieces that went.

    What goes may bring together what goes next: nested templates, a section that held footnotes only. So all kinds are
    tried again until nothing is found. A text in which MAX_ROUNDS are not enough is no article; it stays as it was, as
    otherwise cleaning what was cleaned would find more.
    """
    cleaned, pieces = text, []
    wanted = [kind for name, kind in KINDS.items() if name in kinds]
    for _ in range(MAX_ROUNDS):
        before = cleaned
        for kind in wanted:
            if any(sign in cleaned for sign in kind.signs) and (spans := list(kind.find(cleaned))):
                pieces += [cleaned[start:stop] for start, stop in spans]
                cleaned = _cut(cleaned, spans)
        if cleaned == before:
            return cleaned, pieces
    return text, []


def _cut(text: str, spans: list[Span]) -> str:
    """The text without the spans, without lines that are blank for it, and without spaces where a line now ends."""
    kept, places, end = [], [], 0
    for start, stop in [*spans, (len(text), len(text))]:
        kept.append(text[end:start])
        places.append((places[-1] if places else 0) + start - end)
        end = stop
    joined = "".join(kept)
    parts, end = [], 0
    for place in places[:-1]:
        if place < end:
            continue
        start = joined.rfind("\n", end, place) + 1 or end
        stop = joined.find("\n", place)
        stop = len(joined) if stop < 0 else stop
        line = joined[start:stop].rstrip(SPACES)
        line = line.lstrip(" \t") if place == start else line
        parts += [joined[end:start], line]
        # The line end goes with a line that is blank now.
        end = stop if line else stop + 1
    return "".join([*parts, joined[end:]]).strip("\n")


def _references(text: str) -> Iterator[Span]:
    """<ref>…</ref>, each from the last opening tag before its end, and tags that stand alone."""
    opened = None
    for tag in REFERENCE_TAG.finditer(text):
        if tag[0].startswith("</"):
            if opened is not None:
                yield opened, tag.end()
            opened = None
        elif tag[0].endswith("/>") or tag[0].startswith("<references"):
            # Inside of an open reference it goes with that, or stays if that is never closed.
            if opened is None:
                yield tag.span()
        else:
            opened = tag.start()


def _comments(text: str) -> Iterator[Span]:
    opened = None
    for mark in COMMENT_MARK.finditer(text):
        if mark[0] == "<!--":
            opened = mark.start() if opened is None else opened
        elif opened is not None:
            yield opened, mark.end()
            opened = None


def _templates(text: str) -> Iterator[Span]:
    """The innermost ones; those around them in the next round."""
    yield from (match.span() for match in TEMPLATE.finditer(text))


def _links(text: str) -> Iterator[Span]:
    """Pictures; of other links the brackets and the page, so that what was shown stays."""
    found = [*LINK.finditer(text), *WEB_LINK.finditer(text)]
    for match in sorted(found, key=lambda match: match.start()):
        if match.re is WEB_LINK:
            yield match.start(), match.start("label")
            yield match.end() - 1, match.end()
        elif PICTURE.match(match["target"]):
            yield match.span()
        elif _is_page(text, match):
            shown = "label" if match["label"] else "target"
            yield match.start(), match.start(shown)
            yield match.end(shown), match.end()


def _is_page(text: str, match: re.Match[str]) -> bool:
    """Not a test of a shell, an index of R or a matrix."""
    target, before = match["target"], text[match.start() - 1 : match.start()]
    code = before.isascii() and (before.isalnum() or before in "_.$)") and before != "" and match[0].isascii()
    return not code and not NOT_A_PAGE.match(target) and LETTER.search(target) is not None


def _emphasis(text: str) -> Iterator[Span]:
    quotes = "``" in text
    for match in EMPHASIS.finditer(text):
        # Two apostrophes are as often an empty string of a program, or the end of a ``quotation''.
        strong = len(match["open"]) > 2 or not (quotes or match["inside"].isascii())
        if match["open"] == match["close"] and strong and not match["inside"][0].isspace():
            yield match.span("open")
            yield match.span("close")


def _footnotes(text: str) -> Iterator[Span]:
    spans = [match.span() for match in DEMAND_MARK.finditer(text)]
    spans += [match.span() for match in NUMBERED_MARKS.finditer(text) if _is_footnote(text, *match.span())]
    yield from sorted(spans)


def _is_footnote(text: str, start: int, stop: int) -> bool:
    """Not the label of an entry at the beginning of a line, nor an index, nor a citation that stands as a word."""
    line = text[max(0, start - 40) : start].rpartition("\n")[2]
    before, after = line.rstrip(SPACES)[-1:], text[stop : stop + 1]
    if not before:
        return False
    if line[-1] in SPACES:
        return before in "。．」』）"
    inside_word = after.isascii() and after.isalnum()
    if not before.isascii() or before in ".,":
        return before.isalnum() or not inside_word
    # `Linux[1]は` has a footnote; `argv[1]は` and `R[3]C[1]は` have an index.
    word = NAME.search(line)
    return word is not None and (not after.isascii() or after in "\n[")


def _parentheses(text: str) -> Iterator[Span]:
    """Parentheses around separators, and separators without a neighbour inside; what may be meant to be there stays."""
    for match in PARENTHESES.finditer(text):
        if match[0][0] not in "（(" or not _is_meant(text, match):
            yield match.span()


def _is_meant(text: str, match: re.Match[str]) -> bool:
    """A blank to fill in, a call `f()`, a mark that was named before: 「読点（、）」, `for ( ; ; )`."""
    inside, before = match[0][1:-1], text[max(0, match.start() - 10) : match.start()]
    if inside and not inside.strip():
        return True
    if len(inside) < 2 and NAMES_OF_MARKS.search(before):
        return True
    if match[0][0] == "（":
        return False
    return before.rstrip()[-1:].isascii() or (not before[-1:].isalnum() if not inside else len(inside) < 2)


KINDS = {
    "comments": Kind(_comments, ("<!--",)),
    "references": Kind(_references, ("<ref",)),
    "templates": Kind(_templates, ("{{",)),
    "tables": Kind(tables, ("{|", "|-", "|}")),
    "categories": Kind(categories, ("[[", "Category:", "カテゴリ:", "\nen:", "\nzh:", "\nde:", "\nfr:")),
    "links": Kind(_links, ("[[", "[http")),
    "emphasis": Kind(_emphasis, ("''",)),
    "footnotes": Kind(_footnotes, ("[", "［")),
    "parentheses": Kind(_parentheses, ("（", "(")),
    "link_sections": Kind(link_sections, ("脚注", "注釈", "出典", "文献", "リンク", "関連項目", "関連記事")),
}
