"""What a filter must remove from the sample corpus: symbol spam, stubs, repetition, and lines that are no documents."""

from __future__ import annotations

import json
from collections.abc import Callable

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_numbers import product_sentence
from tasks.acquire.sample_truth import Fact

_SYMBOLS = "★☆◆◇■□●○▲△▼▽※→←↑↓♪♥♡♠♣♦♯†‡§¶＊＃＠＄％＆！？＋＝～｜／＼＜＞「」【】『』《》《》〓…‥─│┌┐└┘├┤┬┴┼"
_EMOJI = "😀😁😂🤣😊😍🤩😎🎉🎊🎁🎈💰💎🔥✨🌟💯👍👏🙌🚀🛒📣📢🔔❤💖💥⚡🌈🍀"
_CALLS = ("激安", "今すぐ", "クリック", "限定", "無料", "大特価", "必見", "急げ", "当選", "最安値")

_STUBS = (
    "{s}についての書きかけの項目。整理番号{n}。",
    "{s}（番号{n}）。加筆が必要。",
    "準備中：{s}の解説、第{n}稿。",
    "{n}号　{s}の写真は後日追加します。",
    "「{s}」を参照。旧番号は{n}。",
    "{s}の一覧へ移動しました（{n}）。",
    "この頁は{s}の見出し{n}だけを残しています。",
)


def symbol_spam(dice: Dice) -> tuple[str, str]:
    """Title and text of 200 to 500 characters, nine in ten of them symbols and emoji."""
    pieces, size = [], dice.within(180, 450)
    while size > 0:
        run = dice.within(8, 24)
        alphabet = _EMOJI if dice.chance(0.4) else _SYMBOLS
        pieces.append("".join(dice.pick(alphabet) for _ in range(run)))
        size -= run
        if dice.chance(0.5):
            pieces.append(dice.pick(_CALLS))
    return dice.pick(_SYMBOLS) + dice.pick(_CALLS) + dice.pick(_EMOJI), "".join(pieces)


def stub(facts: tuple[Fact, ...], dice: Dice) -> tuple[str, str]:
    """Title and text of a Japanese note of 15 to 60 characters."""
    topic = dice.pick(facts).topic
    return topic, dice.pick(_STUBS).format(s=topic, n=dice.within(1_000_000, 999_999_999))


def repetition(facts: tuple[Fact, ...], place: int, dice: Dice) -> tuple[str, str]:
    """Title and text that says one or two sentences 15 to 40 times; the fact differs for each `place`, while they last."""
    fact = facts[place % len(facts)]
    sentence = fact.worded(1) if place < len(facts) else product_sentence(dice)
    gap = dice.pick(("", "\n"))
    return fact.topic, gap.join([sentence] * dice.within(15, 40))


def broken_line(kind: str, text: str, number: int) -> bytes:
    """One line, without line end, that is no document in the way `kind` says; `text` is what it might have held."""
    return _BROKEN[kind]({"text": text, "meta": {"id": f"broken-{number:02d}", "title": "壊れた行", "url": ""}})


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _invalid_utf8(row: dict) -> bytes:
    line = _encode(row)
    return line[:40] + b"\xff\xfe\x80" + line[40:]


def _euc_jp(row: dict) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("euc_jp", "replace")


_BROKEN: dict[str, Callable[[dict], bytes]] = {
    "cut_json": lambda row: _encode(row)[: len(_encode(row["text"])) // 2],
    "invalid_utf8": _invalid_utf8,
    "other_encoding": _euc_jp,
    "bare_string": lambda row: _encode(row["text"]),
    "missing_text": lambda row: _encode({"meta": row["meta"]}),
    "number_as_text": lambda row: _encode({**row, "text": 12345}),
    "null_text": lambda row: _encode({**row, "text": None}),
    "list_as_text": lambda row: _encode({**row, "text": [row["text"]]}),
    "array": lambda row: _encode([row["text"], row["meta"]]),
    "two_documents": lambda row: _encode(row) + _encode(row),
    "raw_control_character": lambda row: _encode(row).replace("。".encode(), b"\x01", 1),
    "lone_surrogate": lambda row: _encode(row).replace("。".encode(), b"\\ud83d", 1),
}
BROKEN_KINDS = tuple(_BROKEN)
