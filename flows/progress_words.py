"""How far a stage has come, in words for a terminal, a log and the Prefect UI."""

from __future__ import annotations

from typing import Any

BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def progress_words(done: int, total: int | None, unit: str, figures: dict[str, Any]) -> str:
    """As in `120 of 3,000 documents, loss 2.31` or `1.2 GB of 5.4 GB, 34.1 MB/s, 2:03 left`."""
    if unit == "bytes":
        words = [f"{byte_words(done)} of {byte_words(total) if total else '?'}"]
    else:
        words = [f"{done:,} of {f'{total:,}' if total else '?'} {unit}"]
    return ", ".join([*words, *(_figure(name, value) for name, value in figures.items())])


def _figure(name: str, value: Any) -> str:
    if name == "bytes_per_second":
        return f"{byte_words(value)}/s"
    if name == "seconds_left":
        return f"{duration_words(value)} left"
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


def byte_words(num_bytes: float) -> str:
    """Three digits or so, in decimal units: `999 B`, `1.5 kB`, `384 MB`."""
    size, unit = float(num_bytes), 0
    while size >= 999.5 and unit < len(BYTE_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {BYTE_UNITS[unit]}" if unit and size < 99.95 else f"{size:.0f} {BYTE_UNITS[unit]}"


def duration_words(seconds: float) -> str:
    """`0:07`, `2:03`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
