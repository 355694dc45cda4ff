"""JSON and TOML that this package wrote, and that anybody may have changed since: read, types checked."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abaw_emi.core.constants import RUN_FILE
from abaw_emi.core.errors import EmiError, Problem
from abaw_emi.core.files import read_bytes
from abaw_emi.core.suggest import suggest_path

MAX_BYTES = 2**26
"""The largest record that is read; an audit of 17,246 clips takes 3 MB."""


def timestamp() -> str:
    """The time, in UTC, as records have it: "2026-03-31T09:59:58+00:00"."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_json(path: Path, kind: Any, what: str) -> Any:
    """The values of the JSON file `path`, which are of the type `kind`, such as a TypedDict.

    Raises:
        EmiError: it cannot be read, or is not `what`; the first difference is named.
    """
    return parse_json(read_bytes(path, MAX_BYTES), str(path), kind, what)


def read_toml(path: Path, error: type[EmiError], expected: str = "") -> dict[str, Any]:
    """The values of the TOML file `path`.

    Raises:
        EmiError: of the class `error`: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(Problem(str(path), "no such file", expected, suggest_path(path))) from None
    except RecursionError:
        raise error(Problem(str(path), "not readable as TOML: nested too deeply")) from None
    except OSError as cause:
        if path.is_dir():
            step = f"did you mean {path / RUN_FILE}?" if (path / RUN_FILE).is_file() else ""
            raise error(Problem(str(path), "is a folder", expected or "a TOML file", step)) from None
        raise error(Problem(str(path), f"cannot be read: {cause.strerror}")) from cause
    except ValueError as cause:  # also integers of thousands of digits
        raise error(Problem(str(path), f"not readable as TOML: {cause}")) from cause


def parse_json(content: bytes, where: str, kind: Any, what: str) -> Any:
    """The values of the JSON text `content`, which are of the type `kind`.

    Keys that the type does not have are kept.

    Raises:
        EmiError: it is not `what`; the first difference is named, at `where`.
    """
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import from_json

    try:
        values = from_json(content)
        TypeAdapter(kind).validate_python(values, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"{key}: {first['msg']}" if key else first["msg"]
    except ValueError as error:
        reason = f"no JSON: {error}"
    else:
        return values
    raise EmiError(Problem(where, f"not {what} ({reason})"))
