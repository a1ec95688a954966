"""Where e-mail addresses, Japanese phone numbers, postal codes and My Numbers stand in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

# Character by character, so that places in the folded text are places in the text. The long vowel marks, which are
# typed for dashes too, stay: they belong to words.
FOLDING = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("\u3000"): ord(" ")}
FOLDING |= {ord(dash): ord("-") for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2500"}

SIGN = re.compile("[0-9０-９]{4}|[@＠]")
"""Every number that is sought holds four digits in a row; lines without are passed over."""

# Each quantifier below has a bound, so that the time is linear in the text, whatever the text is.
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}(?P<top>[A-Za-z]{2,24})(?![A-Za-z0-9])"
)
PICTURES = frozenset({"bmp", "gif", "ico", "jpeg", "jpg", "png", "svg", "webp"})
OTHER_FILES = frozenset({"css", "js", "json", "mount", "path", "pdf", "service", "socket", "target", "timer", "ts"})
NOT_TOP_LEVEL = PICTURES | OTHER_FILES
"""What stands behind the dot in `icon@2x.png` and `getty@tty1.service`, which look like addresses."""

_DASH, _LABEL = "[-ーｰ]", "(?:TEL|Tel|tel|FAX|Fax|fax)"
_BEFORE = "(?:(?<![0-9A-Za-z.+-])|(?<=TEL)|(?<=Tel)|(?<=tel)|(?<=FAX)|(?<=Fax)|(?<=fax))"
_BEHIND = rf"(?!{_DASH}?\d|(?!{_LABEL})[A-Za-z])"
_AREAS = (("0[346]", r"\d{4}"), (r"0[1-9]\d", r"\d{3}"), (r"0[1-9]\d\d", r"\d\d"), (r"0[1-9]\d{3}", r"\d"))
"""Area code and exchange: six digits together, four more follow. Codes of two digits are those in use."""

_LANDLINE = "|".join(
    rf"{area}{_DASH}{exchange}{_DASH}\d{{4}}|\(?{area}\) ?{exchange}{_DASH}\d{{4}}|{area}\({exchange}\)\d{{4}}"
    for area, exchange in _AREAS
)
PHONE_START = re.compile(r"0[1-9]|\(0|\+8")
PHONE = re.compile(
    rf"{_BEFORE}(?:0[5789]0{_DASH}\d{{4}}{_DASH}\d{{4}}|0[5789]0 \d{{4}} \d{{4}}|0[36] \d{{4}} \d{{4}}"
    rf"|0[789]0[1-9]\d{{7}}|(?:0120|0800|0570|0990){_DASH}\d{{2,3}}{_DASH}\d{{3,4}}|{_LANDLINE}"
    rf"|\+81[- ]?(?:\(0\))?[- ]?[1-9](?:[- ]?\d){{8,9}}){_BEHIND}",
    re.ASCII,
)
BARE_PHONE = re.compile(
    rf"(?:{_LABEL}|電話|携帯|℡|☎|☏|📞)(?:番号)?[ .:()]{{0,3}}(?P<number>0[1-9]\d{{8,9}}){_BEHIND}", re.ASCII
)
"""Ten digits in a row are as often an ISBN or a serial number, so they need a word before them."""

POSTAL_CODE = re.compile(rf"(?:〒|郵便番号)[ :]{{0,3}}(?P<number>\d{{3}} ?{_DASH}? ?\d{{4}})(?!\d|{_DASH}\d)", re.ASCII)
MY_NUMBER = re.compile(r"(?:\d{12}|\d{4}(?P<dash>[- ])\d{4}(?P=dash)\d{4})(?![0-9A-Za-z]|[-. ]\d)", re.ASCII)
NOT_BEFORE_MY_NUMBER = re.compile(r"[0-9A-Za-z.\-]|(?<=\d) ", re.ASCII)
TIMESTAMP = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d")


class Place(NamedTuple):
    """Characters `start` to `stop` of a text are personal data of a kind."""

    start: int
    stop: int
    kind: str


def find(text: str, kinds: Container[str]) -> list[Place]:
    """Places of the wanted kinds of FINDERS, in order and apart; where two overlap, the kind that is listed first."""
    places: list[Place] = []
    start = stop = 0
    while sign := SIGN.search(text, stop):
        start = text.rfind("\n", stop, sign.start()) + 1 or stop
        stop = text.find("\n", sign.end())
        stop = stop if stop >= 0 else len(text)
        places += _in_line(text[start:stop], start, kinds)
    return places


def _in_line(line: str, offset: int, kinds: Container[str]) -> list[Place]:
    folded = line.translate(FOLDING)
    found = [
        Place(offset + start, offset + stop, kind)
        for kind, finder in FINDERS.items()
        if kind in kinds
        for start, stop in finder(folded)
    ]
    apart: list[Place] = []
    # Sorting keeps the order of kinds among places that begin together.
    for place in sorted(found, key=lambda place: place.start):
        if not apart or place.start >= apart[-1].stop:
            apart.append(place)
    return apart


def is_my_number(digits: str) -> bool:
    """Whether twelve digits end with the check digit of an individual number.

    The check digit is 11 - (sum of P_n x Q_n over n = 1 to 11) mod 11, or 0 if the remainder is 0 or 1, where P_n is
    the n-th digit from the right of the eleven others, and Q_n is n + 1 up to n = 6 and n - 5 from there. Source:
    Article 5 of the Ordinance of the Ministry of Internal Affairs and Communications No. 85 of 2014.
    """
    weights = (n + 1 if n <= 6 else n - 5 for n in range(1, 12))
    remainder = sum(int(digit) * weight for digit, weight in zip(digits[-2::-1], weights, strict=True)) % 11
    return int(digits[-1]) == (0 if remainder <= 1 else 11 - remainder)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" in text:
        for match in EMAIL.finditer(text):
            if match["top"].lower() not in NOT_TOP_LEVEL:
                yield match.span()


def _my_numbers(text: str) -> Iterator[tuple[int, int]]:
    """One number of twelve digits in eleven has a right check digit by chance; times to the minute are known ones."""
    for match in MY_NUMBER.finditer(text):
        start, digits = match.start(), match[0].replace("-", "").replace(" ", "")
        if start and NOT_BEFORE_MY_NUMBER.match(text, start - 1):
            continue
        if is_my_number(digits) and not TIMESTAMP.fullmatch(digits) and digits.strip(digits[0]):
            yield match.span()


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for begin in PHONE_START.finditer(text):
        if match := PHONE.match(text, begin.start()):
            yield match.span()
    yield from (match.span("number") for match in BARE_PHONE.finditer(text))


def _postal_codes(text: str) -> Iterator[tuple[int, int]]:
    if "〒" in text or "郵便番号" in text:
        yield from (match.span("number") for match in POSTAL_CODE.finditer(text))


FINDERS: dict[str, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "my_number": _my_numbers,
    "phone": _phones,
    "postal_code": _postal_codes,
}
