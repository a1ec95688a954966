"""A filter file of Uzushio as a section of our config."""

from __future__ import annotations

from pathlib import Path

import yaml

from data_contracts.errors import UsageError
from tasks.curation.config import FilterConfig
from tasks.curation.filters.uzushio import Uzushio
from tasks.curation.presets import WITH_MARKERS
from tasks.curation.uzushio.hocon import read_hocon


def filters_section(file: Path, variables: tuple[str, ...], ignore_unknown: bool) -> str:
    """YAML with the section `filters`: a cascade of one step, and a normalisation that leaves paths and link markers.

    variables: words `name=value`. Raises UsageError for a word without `=`, ConfigError for what the file holds.
    """
    given = {}
    for word in variables:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise UsageError(f"`--var {word}`: expected NAME=VALUE", hint="as in `--var kenlm=/models/ja.bin`")
        given[name] = value
    stages = read_hocon(file, given, ignore_unknown=ignore_unknown)
    section = FilterConfig(normalization=WITH_MARKERS, cascade=(Uzushio.model_validate({"stages": stages}),))
    values = {"filters": section.model_dump(mode="json")}
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=120)
