"""From a recipe, a file and `--set` to one validated config; every refusal names the key and the valid choices."""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data_contracts.errors import ConfigError
from flows.recipes import PipelineConfig, recipe_values

MAX_SHOWN_CHARACTERS = 200
"""Of a refused value in a message."""


def load_config(
    recipe: str, file: Path | None = None, assignments: tuple[str, ...] = (), month: str | None = None
) -> PipelineConfig:
    """The config of a recipe, changed by a YAML file, then by `key.path=value` words; in both, `{month}` is the month.

    Raises UsageError for an unknown recipe, ConfigError for what the tree refuses.
    """
    values = recipe_values(recipe)
    if file is not None:
        values = merged(values, _read_yaml(file, month))
        values["recipe"] = recipe
    for assignment in assignments:
        values = merged(values, _parse_assignment(_filled(assignment, month), values))
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error), hint="`tsuzuki show RECIPE` prints every key with its value") from None


def merged(values: Any, changes: Any, path: str = "") -> Any:
    """`values` with `changes` laid over it, level by level; lists change by index when `changes` maps numbers.

    A section whose `kind` changes starts anew: of the old kind it keeps only what the new kind knows too; so do filters
    whose `preset` is named.
    """
    if isinstance(values, list) and isinstance(changes, dict) and changes and all(str(k).isdigit() for k in changes):
        return _merged_list(values, changes, path)
    if not isinstance(values, dict) or not isinstance(changes, dict):
        return changes
    if "kind" in changes and changes["kind"] != values.get("kind") and path == "source":
        known = _source_fields(changes["kind"])
        values = {key: value for key, value in values.items() if key in known}
    if "preset" in changes and path == "filters":
        values = {}
    result = dict(values)
    for key, change in changes.items():
        result[key] = merged(result.get(key), change, f"{path}.{key}".lstrip("."))
    return result


def _merged_list(values: list[Any], changes: dict[str, Any], path: str) -> list[Any]:
    result = list(values)
    for index, change in changes.items():
        if int(index) >= len(result):
            raise ConfigError(f"`{path}.{index}`: found {len(result)} items there, expected an index below that")
        result[int(index)] = merged(result[int(index)], change, f"{path}.{index}")
    return result


def _source_fields(kind: str) -> set[str]:
    """Fields shared by the sources of every kind: sampling, languages, limits."""
    from tasks.acquire.config import Source

    return set(Source.model_fields)


def _filled(text: str, month: str | None) -> str:
    return text if month is None else text.replace("{month}", month)


def _read_yaml(file: Path, month: str | None) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_filled(file.read_text(encoding="utf-8"), month))
    except FileNotFoundError:
        raise ConfigError(
            f"`{file}`: no such file, expected a YAML config", hint="`tsuzuki show RECIPE > FILE`"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"`{file}`: {error}; expected a YAML config") from None
    if not isinstance(content, dict):
        raise ConfigError(f"`{file}`: found a {type(content).__name__}, expected a mapping of config sections")
    return content


def _parse_assignment(assignment: str, values: dict[str, Any]) -> dict[str, Any]:
    path, separator, text = assignment.partition("=")
    if not separator or not path:
        raise ConfigError(f"`--set {assignment}`: expected KEY=VALUE, as in `--set pretrain.max_steps=20`")
    _check_path(path, values)
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"`--set {assignment}`: {error}; expected a YAML value") from None
    if isinstance(value, str):
        value = _number_like(value)
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def _number_like(text: str) -> Any:
    """YAML 1.1 reads `1e-3` as text; people mean the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _check_path(path: str, values: dict[str, Any]) -> None:
    """Raises ConfigError where a key of the path can exist in no config, with the keys that can."""
    models: list[Any] = [PipelineConfig]
    walked: list[str] = []
    for key in path.split("."):
        fields: dict[str, Any] = {}
        for model in models:
            fields |= {name: field.annotation for name, field in model.model_fields.items()}
        if models and not key.isdigit() and key not in fields:
            close = difflib.get_close_matches(key, fields, 1)
            raise ConfigError(
                f"`{'.'.join([*walked, key])}`: no such key, expected one of {', '.join(sorted(fields))}",
                hint=f"did you mean `{'.'.join([*walked, close[0]])}`?" if close else "see `tsuzuki show RECIPE`",
            )
        walked.append(key)
        models = models if key.isdigit() else _models_in(fields.get(key))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config models an annotation may hold, through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, list, typing.Annotated):
        return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
    return []


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        found = "" if isinstance(item["input"], dict) else f"found {_shortened(item['input'])}: "
        lines.append(f"`{path}`: {found}{item['msg']}")
    return "\n".join(lines)


def _shortened(value: Any) -> str:
    """Its repr, cut at every level: YAML's aliases make a value of gigabytes from a line."""
    cut = reprlib.Repr()
    cut.maxlevel = 2
    cut.maxstring = cut.maxother = MAX_SHOWN_CHARACTERS
    return cut.repr(value)
