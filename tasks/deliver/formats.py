"""Figures as people read them; what is absent is a dash, never a guess."""

from __future__ import annotations

import math
import re
from typing import Any

DASH = "–"
MINUS = "\u2212"
NO_BREAK = "\u00a0"


def number(value: Any) -> str:
    """`3,214` for a whole number, four significant digits for another, a dash for none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return DASH
    if isinstance(value, int) or value.is_integer() or abs(value) >= 1e4:
        return f"{value:,.0f}".replace("-", MINUS)
    if value and abs(value) < 1e-3:
        return f"{value:.2e}".replace("-", MINUS)
    decimals = max(0, 3 - max(0, math.floor(math.log10(abs(value))))) if value else 0
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def compact(value: float) -> str:
    """A tick label: `1.2k`, `3M`, `0.05`, `2e-4`."""
    for bound, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= bound:
            return f"{value / bound:.3g}{suffix}"
    text = f"{value:.3g}"
    return re.sub(r"e([+-])0*", lambda m: "e" + m.group(1).replace("+", ""), text).replace("-", MINUS)


def percent(part: Any) -> str:
    """A share of one as `12.3 %`."""
    if not isinstance(part, int | float) or not math.isfinite(part):
        return DASH
    return f"{100 * part:.1f}{NO_BREAK}%".replace("-", MINUS)


def change(before: float | None, after: float | None) -> str:
    """Relative change as `+12.3 %`; a dash when either is absent or there is nothing to compare with."""
    if before is None or after is None or not before:
        return DASH
    text = f"{100 * (after / before - 1):+.1f}"
    return f"{'±0.0' if text in ('+0.0', '-0.0') else text}{NO_BREAK}%".replace("-", MINUS)


def size(num_bytes: Any) -> str:
    if not isinstance(num_bytes, int | float):
        return DASH
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: Any) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if not isinstance(seconds, int | float):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short(digest: str | None) -> str:
    """The first twelve digits of a key or digest."""
    return digest[:12] if digest else DASH


def excerpt(text: str, limit: int) -> str:
    """The beginning of a text on one line, with an ellipsis where it was cut."""
    flat = " ".join(text[: limit * 4].split())
    return flat if len(flat) <= limit and len(text) <= limit * 4 else flat[:limit] + "…"


def or_dash(text: str | None) -> str:
    return text or DASH


def words(name: str) -> str:
    """`num_documents_kept` as `documents kept`."""
    return name.removeprefix("num_").replace("_", " ").replace(".", " · ")


def is_link(url: str) -> bool:
    """Whether an address from outside may stand as a link: http(s), and no character that could end one."""
    return re.fullmatch(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]+", url) is not None
