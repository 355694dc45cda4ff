"""The metrics of a run: a line an epoch, and one every few steps. Imports no torch."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Required

from pydantic_core import from_json
from typing_extensions import TypedDict

from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.records import parse_json
from abaw_emi.runs.run import ValidRecord


class _Metrics(TypedDict, total=False):
    """What is read of a line of metrics."""

    epoch: Required[int]
    step: int
    train_loss: float
    valid: ValidRecord


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that is being written, or was cut off by a kill, is passed over.

    Lines that stand for whole epochs hold `epoch`; lines inside an epoch hold `step`, too.

    Raises:
        RunError: the file is there and cannot be read, or a line is of another shape.
    """
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(Problem(str(path), f"cannot be read: {error}")) from error
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        with suppress(ValueError):
            from_json(text)
            lines.append(parse_json(text.encode(), f"{path}, line {number}", _Metrics, "a line of metrics"))
    return lines
