"""Planted duplicates: disguised copies, and edits down to a wanted character-5-gram Jaccard similarity."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_numbers import product_sentence
from tasks.acquire.sample_wordings import CONNECTIVES, remark

GRAM = 5  # characters
NEAR = (0.812, 0.99)  # similarity of near-duplicates; nothing lies between 0.79 and 0.81, where a sketch would guess
VARIANT = (0.5, 0.75)  # similarity of distant variants, which are no duplicates
_ASIDES = (
    "実際のところ、",
    "よく言われるように、",
    "一般に、",
    "念のために記すと、",
    "あらためて述べると、",
    "補足すると、",
)
_TAILS = ("（後述）", "（再掲）", "（確認ずみ）", "（要点）")
_MAX_EDITS = 60
_TRIES = 4

Grams = frozenset[str]
Edit = Callable[[list[str], Dice], list[str]]


def squeeze(text: str) -> str:
    """The text in NFKC without any white space: what two exact duplicates have in common."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def grams(text: str) -> Grams:
    """All character 5-grams of the squeezed text (the text itself when it is shorter)."""
    flat = squeeze(text)
    return frozenset(flat[start : start + GRAM] for start in range(max(1, len(flat) - GRAM + 1)))


def jaccard(left: Grams, right: Grams) -> float:
    """Shared grams as a share of all grams of the two."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def disguise(text: str, dice: Dice) -> str:
    """An exact duplicate: the same squeezed text, as it is (two times in five) or in another Unicode form or layout."""
    return text if dice.chance(0.4) else dice.pick(_DISGUISES)(text)


def near_duplicate(text: str, others: Sequence[Grams], dice: Dice, low: float) -> tuple[str, float]:
    """An edit of `text` at a similarity drawn from [low, 0.985], and that similarity.

    It is a near-duplicate of all `others` (the first of which is `text`) too.
    """
    for _ in range(_TRIES):
        goal = dice.between(low, 0.985)
        window = (max(NEAR[0], goal - 0.015), min(NEAR[1], goal + 0.015))
        if best := _edited(text, others, dice, window, _SMALL_EDITS):
            return best
    while not (best := _edited(text, others, dice, NEAR, _SMALL_EDITS)):
        pass  # the wishes were too narrow for a short text: any near-duplicate will do, and one is soon found
    return best


def distant_variant(text: str, own: Grams, dice: Dice) -> tuple[str, float]:
    """An edit of `text` that shares much with it and is no duplicate, and their similarity in [0.5, 0.75]."""
    for _ in range(_TRIES):
        goal = dice.between(0.53, 0.72)
        if best := _edited(text, [own], dice, (goal - 0.03, goal + 0.03), _LARGE_EDITS):
            return best
    while not (best := _edited(text, [own], dice, VARIANT, _LARGE_EDITS)):
        pass
    return best


def _edited(
    text: str, others: Sequence[Grams], dice: Dice, window: tuple[float, float], edits: Sequence[Edit]
) -> tuple[str, float] | None:
    """Random edits, each kept if the result stays above the window's floor, until it is inside; None if it never is."""
    parts = _sentences(text)
    for _ in range(_MAX_EDITS):
        tried = dice.pick(edits)(parts, dice)
        mine = grams("".join(tried))
        similarity = jaccard(mine, others[0])
        if similarity < window[0] or any(jaccard(mine, other) < NEAR[0] for other in others[1:]):
            continue
        parts = tried
        if similarity <= window[1]:
            return "".join(parts), similarity
    return None


def _sentences(text: str) -> list[str]:
    """Pieces that end behind 。 (white space goes with the piece after it); joined they are the text."""
    return [piece + "。" for piece in text.split("。")[:-1]]


def _insert_aside(parts: list[str], dice: Dice) -> list[str]:
    place = dice.below(len(parts))
    body = parts[place].lstrip()
    margin = parts[place][: len(parts[place]) - len(body)]
    return [*parts[:place], margin + dice.pick(CONNECTIVES + _ASIDES) + body, *parts[place + 1 :]]


def _append_tail(parts: list[str], dice: Dice) -> list[str]:
    place = dice.below(len(parts))
    return [*parts[:place], parts[place][:-1] + dice.pick(_TAILS) + "。", *parts[place + 1 :]]


def _drop(parts: list[str], dice: Dice) -> list[str]:
    if len(parts) < 3:
        return parts
    place = dice.within(1, len(parts) - 1)
    return parts[:place] + parts[place + 1 :]


def _swap(parts: list[str], dice: Dice) -> list[str]:
    if len(parts) < 3:
        return parts
    place = dice.within(1, len(parts) - 2)
    return [*parts[:place], parts[place + 1], parts[place], *parts[place + 2 :]]


def _add_remark(parts: list[str], dice: Dice) -> list[str]:
    place = dice.within(1, len(parts))
    return [*parts[:place], remark(dice, "この項目", "関連する項目"), *parts[place:]]


def _add_product(parts: list[str], dice: Dice) -> list[str]:
    return [*parts, "計算の例を添える。" + product_sentence(dice)]


_SMALL_EDITS = (_insert_aside, _insert_aside, _append_tail, _swap, _drop, _add_remark)
_LARGE_EDITS = (_drop, _add_remark, _add_product, _add_remark, _insert_aside)


def _full_width(text: str) -> str:
    return "".join(chr(ord(sign) + 0xFEE0) if sign.isascii() and sign.isalnum() else sign for sign in text)


def _half_width_katakana(text: str) -> str:
    return "".join(_HALF_WIDTH.get(sign, sign) for sign in text)


def _decomposed(text: str) -> str:
    """Dakuten and handakuten as combining characters, as some file systems and old tools write them."""
    return unicodedata.normalize("NFD", text)


def _other_layout(text: str) -> str:
    return text.replace("。", "。\n").replace("、", "、 ")


def _ideographic_spaces(text: str) -> str:
    return "　" + text.replace("\n\n", "\n　").replace("。", "。　")


def _square_units(text: str) -> str:
    return (
        text.replace("キロメートル", "㌔㍍")
        .replace("メートル", "㍍")
        .replace("キログラム", "㌔㌘")
        .replace("は", "は ")
    )


_DISGUISES = (_full_width, _half_width_katakana, _decomposed, _other_layout, _ideographic_spaces, _square_units)
# U+FF66..U+FF9D normalise to full-width katakana; voiced ones are the plain one and a half-width mark.
_HALF_WIDTH = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF66, 0xFF9E)}
_HALF_WIDTH |= {
    unicodedata.normalize("NFKC", half + mark): half + mark
    for half in list(_HALF_WIDTH.values())
    for mark in "ﾞﾟ"
    if len(unicodedata.normalize("NFKC", half + mark)) == 1
}
