"""The templates of a delivery, always with escaping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(**filters: Callable[..., Any]) -> Environment:
    """Loads the templates of this folder; a name that a template misses is an error, not an empty space."""
    loaded = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.filters.update(filters)
    return loaded
