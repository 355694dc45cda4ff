"""Every key of a run's configuration, with its type, default and description."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from abaw_emi.config.run import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One key.

    Attributes:
        key: as `--set` takes it; N stands for the number of an entry of a list.
        type: its values, with their range.
        default: as TOML writes it; "" where a value must be given.
        description: what it is, and where its default comes from.
    """

    key: str
    type: str
    default: str
    description: str


def list_options() -> tuple[Option, ...]:
    """All keys, in the order of `run.toml`."""
    schema = TypeAdapter(RunConfig).json_schema()
    return tuple(_walk(schema, schema["$defs"], ""))


def _walk(table: Mapping[str, Any], tables: Mapping[str, Any], prefix: str) -> Iterator[Option]:
    for name, value in table["properties"].items():
        entry = value.get("items", {})
        if inner := value.get("$ref"):
            yield from _walk(tables[inner.rpartition("/")[2]], tables, f"{prefix}{name}.")
        elif inner := entry.get("$ref"):
            yield from _walk(tables[inner.rpartition("/")[2]], tables, f"{prefix}{name}.N.")
        else:
            default = json.dumps(value["default"]) if "default" in value else ""
            description = " ".join(value["description"].split())
            yield Option(key=prefix + name, type=_describe(value), default=default, description=description)


def _describe(value: Mapping[str, Any]) -> str:
    """A type and its range in words."""
    if choices := value.get("enum"):
        return " or ".join(map(json.dumps, choices))
    if value["type"] == "array":
        entries = value.get("prefixItems") or [value["items"]]
        return f"list of {' and '.join(f'({_describe(entry)})' for entry in entries)}"
    bounds = [
        f"{sign} {value[key]}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in value
    ]
    return ", ".join([value["type"], *bounds])
