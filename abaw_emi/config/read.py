"""The configuration of a run: read from TOML, changed by key, written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from abaw_emi.config.parts import FeatureConfig
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import ConfigError, Problem, UsageError
from abaw_emi.core.records import read_toml
from abaw_emi.core.suggest import suggest_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SHOWN = 200
"""Characters of an impossible value that a message shows."""


def read_config(path: Path) -> RunConfig:
    """The run that the TOML file at `path` describes; what it leaves out has its default.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds unknown keys or impossible values.
    """
    values = read_toml(path, ConfigError)
    return _validate(values, str(path), ConfigError)


def change_config(config: RunConfig, changes: Iterable[str]) -> RunConfig:
    """`config` with each `KEY=VALUE` of `changes` applied, such as `training.epochs=3`.

    The features of a model are numbered: `model.features.0.name=faces`; the next number adds one. One that is
    there goes by its folder, too: `model.features.text.rate=0.05`.

    Values are TOML; what is not TOML is taken as text.

    Raises:
        UsageError: a change is not KEY=VALUE, names no known key, or has an impossible value.
    """
    values = asdict(config)
    for change in changes:
        key, equals, text = change.partition("=")
        _add_feature(values, key)
        table, name = _find_table(values, key)
        if not equals or table is None:
            step = suggest_name(key, list_keys(config)) or "abaw-emi options lists them"
            raise UsageError(Problem(f"--set {change}", "not KEY=VALUE of a known key", next_step=step))
        try:
            table[name] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            table[name] = text
    return _validate(values, "--set", UsageError)


def replace_values(config: RunConfig, values: Mapping[str, Any], where: str) -> RunConfig:
    """`config` with these values at keys such as "data.fold"; what is None stays as it is.

    Raises:
        UsageError: a value is impossible; messages begin with `where`.
    """
    tables = asdict(config)
    for key, value in values.items():
        table, name = key.split(".")
        if value is not None:
            tables[table][name] = value
    return _validate(tables, where, UsageError)


def has_key(config: RunConfig, key: str) -> bool:
    """Whether `--set` can change this key of a run."""
    return _find_table(asdict(config), key)[0] is not None


def format_config(config: RunConfig) -> str:
    """The text of `run.toml`."""
    return tomli_w.dumps(asdict(config))


def _add_feature(values: dict[str, Any], key: str) -> None:
    """Adds a feature without a name where `key` has the number that follows the last one's."""
    place = len(values["model"]["features"])
    if key.strip().startswith(f"model.features.{place}."):
        new = asdict(FeatureConfig(name="new")) | {"name": None}
        values["model"]["features"] = (*values["model"]["features"], new)


def _find_table(values: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    """The table that holds the value of a dotted key, None for no such value, and the value's name in it."""
    *parents, name = key.strip().split(".")
    table: Any = values
    for parent in parents:
        if isinstance(table, dict):
            table = table.get(parent)
        elif isinstance(table, (list, tuple)):
            table = _find_feature(table, parent)
        else:
            return None, name
    known = isinstance(table, dict) and name in table and not isinstance(table[name], dict)
    return (table if known else None), name


def _find_feature(features: Sequence[dict[str, Any]], asked: str) -> dict[str, Any] | None:
    """The feature of this number, or of this folder's name; None where there is none."""
    named = {str(number): feature for number, feature in enumerate(features)}
    return named.get(asked) or next((each for each in features if each["name"] == asked), None)


def list_keys(config: Any, prefix: str = "") -> list[str]:
    """The keys of a configuration, as `--set` has them."""
    keys: list[str] = []
    for item in fields(config):
        value = getattr(config, item.name)
        keys += list_keys(value, f"{prefix}{item.name}.") if is_dataclass(value) else [prefix + item.name]
        if isinstance(value, tuple):
            for number, entry in enumerate(value):
                keys += list_keys(entry, f"{prefix}{item.name}.{number}.") if is_dataclass(entry) else []
    return keys


def _validate(values: dict[str, Any], where: str, error_class: type[ConfigError | UsageError]) -> RunConfig:
    try:
        return TypeAdapter(RunConfig).validate_python(values)
    except ValidationError as error:
        raise error_class(_describe(where, item) for item in error.errors()) from None


def _describe(where: str, item: ErrorDetails) -> Problem:
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "unexpected_keyword_argument":
        step = suggest_name(key, list_keys(RunConfig())) or "mend its name or remove it"
        return Problem(f"{where}, {key}", "no such key", next_step=step)
    found = item["msg"].removeprefix("Value error, ")
    return Problem(
        f"{where}, {key}" if key else where,
        found if item["type"] == "value_error" else f"{_show(item['input'])}: {found}",
    )


def _show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print it
        return "an integer of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
