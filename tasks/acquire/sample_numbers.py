"""Documents of computed truths (numbers, dates, measures), of which the sample corpus can have any number."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_wordings import remark


class Draft(NamedTuple):
    """A document before its style is chosen: paragraphs of plain-style sentences."""

    title: str
    paragraphs: list[list[str]]


_NUMBER_OPENINGS = (
    "{n}という数の性質を調べる。",
    "ここでは整数{n}を例にして計算の基本を確かめる。",
    "{n}は{digits}けたの整数である。",
    "算数の練習として、{n}をいろいろな角度から見ていく。",
    "数の性質を知るには、{n}のような具体的な例がよい。",
    "ノートの最初の行に{n}と書き、この数について順に述べる。",
    "大きさの見当をつけるため、{n}の前後の数も取り上げる。",
)

# Each group states one property; a document takes several groups and one sentence of each.
_NUMBER_SENTENCES = (
    (
        "{n}は{parity}である。",
        "{n}を2で割ると余りは{odd}であり、したがって{parity}である。",
        "一の位が{last}なので、{n}は{parity}に分けられる。",
        "偶数か奇数かを問われれば、{n}は{parity}である。",
    ),
    (
        "{n}の各位の数を足すと{digit_sum}になる。",
        "けたごとの数字の合計は、{n}の場合は{digit_sum}である。",
        "{n}に現れる数字をすべて加えた値は{digit_sum}となる。",
    ),
    (
        "{n}を{m}倍すると{product}になる。",
        "{n}と{m}の積は{product}である。",
        "{m}に{n}を掛けて得られる値は{product}である。",
        "一個{n}円の品物を{m}個買うと、代金は{product}円になる。",
    ),
    (
        "{n}に{k}を足すと{total}になる。",
        "{k}と{n}の和は{total}である。",
        "{n}人の町に{k}人が移り住めば、合わせて{total}人になる。",
        "足し算で確かめると、{n}と{k}から{total}が得られる。",
    ),
    (
        "{n}を{d}で割ると、商は{quotient}で余りは{remainder}である。",
        "{d}で割ったときの余りを求めると、{n}の余りは{remainder}になる。",
        "{n}個の品を{d}個ずつ箱に詰めると、{quotient}箱できて{remainder}個が手元に残る計算になる。",
    ),
    (
        "{n}の次の整数は{next}で、前の整数は{previous}である。",
        "数直線の上では、{n}は{previous}と{next}の間にある。",
        "{previous}に1を加えると{n}になり、もう一度1を加えると{next}になる。",
    ),
    (
        "{n}を二乗すると{square}になる。",
        "一辺が{n}の正方形の面積は{square}である。",
        "{n}に同じ数をもう一度掛けた答えは{square}である。",
    ),
    (
        "{n}を素数の積で表すと{factors}となる。",
        "素因数分解を行うと、{n}は{factors}と書くことができる。",
        "{n}をつくる素数を小さい順に掛ければ、{factors}という形になる。",
    ),
    (
        "{n}の二倍は{double}で、三倍は{triple}である。",
        "{n}を二つ合わせると{double}、三つ合わせると{triple}になる。",
        "{double}を半分にすると{n}に戻る計算になる。",
    ),
    (
        "{n}の数字を逆の順に読むと{reverse}になる。",
        "右から左へ数字を並べ替えると、{n}は{reverse}に変わる計算である。",
        "{reverse}という数は、{n}の数字を後ろから並べたものである。",
    ),
    (
        "{n}を二進法で書くと{binary}となる。",
        "コンピューターの中では、{n}は二進法の{binary}として扱われる。",
        "{binary}という二進法の列は、十進法の{n}を表している。",
    ),
    (
        "{n}から{small}を引くと{difference}になる。",
        "{n}と{small}の差は{difference}である。",
        "{n}枚の紙のうち{small}枚を使えば、{difference}枚がまだある。",
    ),
)

_WEEKDAYS = ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日")
_DATE_OPENINGS = (
    "暦の計算の例として、いくつかの日付を取り上げる。",
    "日付と曜日の関係を、次の例で確かめる。",
    "ここでは{x}を含む五つほどの日付を調べる。",
    "曜日は七日ごとに同じものになる。{x}から始めて例を見ていく。",
    "昔の日記を読むとき、曜日がわかると便利である。",
    "古い手紙や写真に書かれた日付について、暦の上で確かめる。",
)
_DATE_SENTENCES = (
    "{x}は{w}である。",
    "暦を調べると、{x}は{w}にあたる。",
    "{x}の曜日を計算すると{w}になる。",
    "{w}であった日の例に{x}がある。",
    "{x}は、その年の{nth}日目にあたる。",
    "{year}年は{days}日あり、{x}より後には{left}日ある。",
    "{x}の{gap}日後は{later}で、曜日は{later_w}である。",
    "{later}から{gap}日さかのぼると{x}になる。",
    "{x}から{later}までは{gap}日ある。",
    "{year}年は{leap}で、{x}はその{nth}日目の{w}である。",
    "{x}の次の日は{tomorrow}で、{tomorrow_w}になる。",
)

_MEASURES = (
    ("キロメートル", "メートル", 1000), ("メートル", "センチメートル", 100), ("センチメートル", "ミリメートル", 10),
    ("時間", "分", 60), ("分", "秒", 60), ("日", "時間", 24), ("週間", "日", 7), ("トン", "キログラム", 1000),
    ("キログラム", "グラム", 1000), ("リットル", "ミリリットル", 1000), ("ヘクタール", "アール", 100), ("ダース", "個", 12),
    ("アール", "平方メートル", 100), ("世紀", "年", 100), ("平方キロメートル", "ヘクタール", 100),
)  # fmt: skip
_MEASURE_OPENINGS = (
    "単位を換える練習の例を集める。",
    "大きな単位を小さな単位に直す計算を確かめる。",
    "ここでは{x}をはじめとする量の言い換えを取り上げる。",
    "同じ量でも、単位が違えば数の大きさが変わることがある。",
    "長さや重さや時間を表す単位について、計算の例を見ていく。",
    "買い物や工作では、{x}のような量を別の単位で言い直すことがある。",
)
_MEASURE_SENTENCES = (
    "{x}は{y}である。",
    "{x}を{small}に直すと{y}になる。",
    "{y}は{x}と同じ量である。",
    "1{big}が{rate}{small}なので、{x}は{y}となる。",
    "{y}をまとめて{big}で表せば、{x}になる。",
    "{x}と{more}を合わせると{sum}で、{small}では{sum_small}になる。",
    "{x}の二倍は{double}で、{small}に直せば{double_small}である。",
    "{small}の目盛りで{y}を測り取ると、その量は{x}にあたる。",
)


def number_draft(dice: Dice) -> Draft:
    """A document on one integer of four to seven digits."""
    number = dice.within(10 ** dice.within(3, 6), 9_999_999)
    values = _number_values(number, dice)
    groups = dice.some(_NUMBER_SENTENCES, dice.within(7, 9))
    sentences = [dice.pick(group).format_map(values) for group in groups]
    sentences.append(remark(dice, "数の性質", "計算の順序"))
    return Draft(f"{number}という数", _paragraphs(dice, dice.pick(_NUMBER_OPENINGS).format_map(values), sentences))


def date_draft(dice: Dice) -> Draft:
    """A document on the weekdays of some dates between 1900 and 2099."""
    patterns = dice.some(_DATE_SENTENCES[1:], dice.within(6, 8))
    sentences = [pattern.format_map(_date_values(dice)) for pattern in patterns]
    main = _date_values(dice)
    first = str(main["x"])
    sentences += [_DATE_SENTENCES[0].format_map(main), remark(dice, "曜日の計算", "昔の暦")]
    return Draft(f"{first}の曜日", _paragraphs(dice, dice.pick(_DATE_OPENINGS).format(x=first), sentences))


def measure_draft(dice: Dice) -> Draft:
    """A document on amounts given in two units each."""
    sentences, first = [], ""
    for big, small, rate in dice.some(_MEASURES, dice.within(6, 8)):
        values = _measure_values(dice, big, small, rate)
        first = first or values["x"]
        sentences.append(dice.pick(_MEASURE_SENTENCES).format_map(values))
    sentences += [remark(dice, "単位の換算", "量の見当"), remark(dice, "かさや長さ", "重さ")]
    return Draft(f"{first}の換算", _paragraphs(dice, dice.pick(_MEASURE_OPENINGS).format(x=first), sentences))


def product_sentence(dice: Dice) -> str:
    """One true plain sentence about two integers of four digits, for documents that need just one."""
    left, right = dice.within(1000, 9999), dice.within(1000, 9999)
    return f"{left}と{right}の積は{left * right}になる。"


def _paragraphs(dice: Dice, opening: str, sentences: list[str]) -> list[list[str]]:
    cut = dice.within(2, len(sentences) - 2)
    return [[part + "。" for part in opening.split("。") if part], sentences[:cut], sentences[cut:]]


def _number_values(number: int, dice: Dice) -> dict[str, object]:
    factor, addend, divisor = dice.within(12, 989), dice.within(1000, 99_999), dice.within(7, 97)
    small = dice.within(100, 999)
    return {
        "n": number, "m": factor, "k": addend, "d": divisor, "small": small, "digits": len(str(number)),
        "parity": "奇数" if number % 2 else "偶数", "odd": number % 2, "last": number % 10,
        "digit_sum": sum(map(int, str(number))), "product": number * factor, "total": number + addend,
        "quotient": number // divisor, "remainder": number % divisor, "next": number + 1, "previous": number - 1,
        "square": number * number, "factors": _factors(number), "double": 2 * number, "triple": 3 * number,
        "reverse": str(number)[::-1], "binary": f"{number:b}", "difference": number - small,
    }  # fmt: skip


def _factors(number: int) -> str:
    """The prime factors in ascending order, joined by ×."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return "×".join(map(str, [*found, number] if number > 1 else found))


def _date_values(dice: Dice) -> dict[str, object]:
    day = date(1900, 1, 1) + timedelta(dice.below(73_000))
    gap = dice.within(8, 400)
    later, tomorrow = day + timedelta(gap), day + timedelta(1)
    nth = day.timetuple().tm_yday
    days = date(day.year, 12, 31).timetuple().tm_yday
    return {
        "x": _date_text(day), "w": _WEEKDAYS[day.weekday()], "year": day.year, "nth": nth, "days": days,
        "left": days - nth, "gap": gap, "later": _date_text(later), "later_w": _WEEKDAYS[later.weekday()],
        "leap": "うるう年" if days == 366 else "平年", "tomorrow": _date_text(tomorrow),
        "tomorrow_w": _WEEKDAYS[tomorrow.weekday()],
    }  # fmt: skip


def _date_text(day: date) -> str:
    return f"{day.year}年{day.month}月{day.day}日"


def _measure_values(dice: Dice, big: str, small: str, rate: int) -> dict[str, object]:
    amount, more = dice.within(2, 9999), dice.within(2, 999)
    return {
        "x": f"{amount}{big}", "y": f"{amount * rate}{small}", "big": big, "small": small, "rate": rate,
        "more": f"{more}{big}", "sum": f"{amount + more}{big}", "sum_small": f"{(amount + more) * rate}{small}",
        "double": f"{2 * amount}{big}", "double_small": f"{2 * amount * rate}{small}",
    }  # fmt: skip
