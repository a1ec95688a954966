"""Uzushio's own filter files: HOCON, `filters: [{class, parameters..}]`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_contracts.errors import ConfigError
from tasks.curation.uzushio.stage import UzushioStage
from tasks.curation.uzushio.stages import STAGES_BY_NAME

CAPITAL = re.compile("(?<!^)(?=[A-Z])")


def read_hocon(
    path: Path, variables: Mapping[str, str] | None = None, *, ignore_unknown: bool = False
) -> tuple[UzushioStage, ...]:
    """The filters of a file in order; `${name}` takes its value from `variables`, as from `-P` in Uzushio.

    Relative paths of lists and models are taken from the folder of the file where they exist there. Uzushio ignores
    parameters that a filter does not have; here they raise ConfigError unless `ignore_unknown`, as do an unknown class,
    a value that does not fit and a file that is no HOCON.
    """
    filters = _parsed(path, variables or {}).get("filters", None)
    if not isinstance(filters, list):
        raise ConfigError(
            f"`{path}`: found no list `filters`, expected `filters: [{{class: ..}}, ..]`",
            hint="see scripts/pipeline_03a.conf of Uzushio for an example",
        )
    return tuple(_stage(path, number, dict(entry), ignore_unknown) for number, entry in enumerate(filters, 1))


def _parsed(path: Path, variables: Mapping[str, str]) -> Any:
    from pyhocon import ConfigFactory
    from pyhocon.exceptions import ConfigException
    from pyparsing import ParseBaseException

    try:
        content: Any = ConfigFactory.parse_string(path.read_text(encoding="utf-8"), resolve=False)
        return content.with_fallback(ConfigFactory.from_dict(dict(variables)))
    except FileNotFoundError:
        raise ConfigError(f"`{path}`: no such file, expected a HOCON file with `filters`") from None
    except ConfigException as error:
        raise ConfigError(f"`{path}`: {error}", hint="give each variable with `--var name=value`") from None
    except (ParseBaseException, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"`{path}`: {error}; expected HOCON") from None


def _stage(path: Path, number: int, entry: dict[str, Any], ignore_unknown: bool) -> UzushioStage:
    name = entry.pop("class", None)
    if name not in STAGES_BY_NAME:
        close = difflib.get_close_matches(str(name), STAGES_BY_NAME, 1)
        raise ConfigError(
            f"`{path}`: filter {number} has the class {name!r}, expected one of {', '.join(STAGES_BY_NAME)}",
            hint=f"did you mean `{close[0]}`?" if close else "classes with a package before their name are not read",
        )
    stage = STAGES_BY_NAME[name]
    values = {CAPITAL.sub("_", key).lower(): value for key, value in entry.items()}
    unknown = [key for key in values if key not in stage.model_fields or key == "name"]
    if unknown and not ignore_unknown:
        known = ", ".join(field for field in stage.model_fields if field != "name") or "none"
        raise ConfigError(
            f"`{path}`: filter {number}, {name}, has the parameter `{unknown[0]}`, expected one of: {known}",
            hint="Uzushio ignores it silently; take it out, or ignore it here too (--ignore-unknown)",
        )
    try:
        chosen = stage(**{key: _value(stage, key, values[key], path) for key in values if key not in unknown})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "values"
        raise ConfigError(f"`{path}`: filter {number}, {name}, `{field}`: {first['msg']}") from None
    return chosen


def _value(stage: type[UzushioStage], key: str, value: Any, file: Path) -> Any:
    """Paths relative to the file's folder if they lie there, all else as it is."""
    if stage.model_fields[key].annotation not in (Path, Path | None):
        return value
    beside = file.parent / str(value)
    return beside.absolute() if beside.exists() else Path(str(value))
