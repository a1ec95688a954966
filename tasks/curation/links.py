"""How much of a document is web and e-mail addresses."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import SPACE, character_classes, decode, text_buffers

IN_URL, CLOSES_SENTENCE, IN_LOCAL_PART, IN_DOMAIN, LETTER, ALPHANUMERIC = 1, 2, 4, 8, 16, 32

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
URL_CHARACTERS = LETTERS + DIGITS + "-._~:/?#[]@!$&'()*+,;=%"
"""All that RFC 3986 lets stand in a URI."""

CLOSING_CHARACTERS = ".,;:!?')]"
"""What stands behind an address more often than at its end."""

LOCAL_PART_CHARACTERS = LETTERS + DIGITS + "._%+-"
DOMAIN_CHARACTERS = LETTERS + DIGITS + ".-"
AT, DOT, HYPHEN = ord("@"), ord("."), ord("-")


def address_share(texts: pa.Array) -> np.ndarray:
    """(documents,) float64 share of characters in addresses among those that are not white space; 0 for an empty text.

    A web address is http://, https://, ftp:// or www. in any case, not right behind an ASCII letter or digit, and all
    URL characters that follow, without the closing ones at the end; at least one has to be left. An e-mail address is
    a local part, @, and a domain whose last label is two or more letters.
    """
    data, bounds = text_buffers(texts)
    return _address_share(data, bounds, character_classes(), byte_classes())


@cache
def byte_classes() -> np.ndarray:
    """(256,) uint8: the classes of each byte as bits."""
    table = np.zeros(256, dtype=np.uint8)
    for bit, members in (
        (IN_URL, URL_CHARACTERS),
        (CLOSES_SENTENCE, CLOSING_CHARACTERS),
        (IN_LOCAL_PART, LOCAL_PART_CHARACTERS),
        (IN_DOMAIN, DOMAIN_CHARACTERS),
        (LETTER, LETTERS),
        (ALPHANUMERIC, LETTERS + DIGITS),
    ):
        table[list(members.encode())] |= bit
    return table


@numba.njit(cache=True, nogil=True)
def _address_share(data, bounds, classes, kinds):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    for document in range(len(shares)):
        start, end = bounds[document], bounds[document + 1]
        # `free`: the end of the last address, which the local part of a next one cannot reach into.
        hits, total, position, free = 0, 0, start, start
        while position < end:
            if data[position] >= 0x80:
                code, position = decode(data, position)
                total += (classes[code] & SPACE) == 0
                continue
            first, stop = position, position
            if data[position] == AT:
                first, stop = _mail_address(data, position, free, end, kinds)
            elif position == start or (kinds[data[position - 1]] & ALPHANUMERIC) == 0:
                stop = _web_address_end(data, position, end, kinds)
            if stop > position:
                hits += stop - first
                total += stop - position
                position = free = stop
            else:
                total += (classes[data[position]] & SPACE) == 0
                position += 1
        if total:
            shares[document] = hits / total
    return shares


@numba.njit(cache=True, nogil=True)
def _web_address_end(data, start, end, kinds):
    """Where the web address at `start` ends; `start` if there is none."""
    size = _prefix_size(data, start, end)
    if size == 0:
        return start
    stop = start + size
    while stop < end and kinds[data[stop]] & IN_URL:
        stop += 1
    while stop > start + size and kinds[data[stop - 1]] & CLOSES_SENTENCE:
        stop -= 1
    return stop if stop > start + size else start


@numba.njit(cache=True, nogil=True)
def _prefix_size(data, start, end):
    first = data[start] | 0x20
    if first == ord("w"):
        return 4 if _matches(data, start, end, b"www.") else 0
    if first == ord("f"):
        return 6 if _matches(data, start, end, b"ftp://") else 0
    if first == ord("h"):
        if _matches(data, start, end, b"http://"):
            return 7
        return 8 if _matches(data, start, end, b"https://") else 0
    return 0


@numba.njit(cache=True, nogil=True)
def _matches(data, start, end, word):
    """Whether `word`, lower case, stands at `start` in any case."""
    if end - start < len(word):
        return False
    for index in range(len(word)):
        byte = data[start + index]
        if ord("A") <= byte <= ord("Z"):
            byte |= 0x20
        if byte != word[index]:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _mail_address(data, at, free, end, kinds):
    """Start and end of the e-mail address around the @ at `at`; `at` twice if there is none."""
    first, last = at, at + 1
    while first > free and kinds[data[first - 1]] & IN_LOCAL_PART:
        first -= 1
    while last < end and kinds[data[last]] & IN_DOMAIN:
        last += 1
    while last > at + 1 and (data[last - 1] == DOT or data[last - 1] == HYPHEN):
        last -= 1
    label = last
    while label > at + 1 and kinds[data[label - 1]] & LETTER:
        label -= 1
    whole = first < at and last - label >= 2 and label > at + 2 and data[label - 1] == DOT
    return (first, last) if whole else (at, at)
