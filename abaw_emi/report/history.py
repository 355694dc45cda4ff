"""Training curves: the epochs of a run's metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from abaw_emi.core.errors import Problem, RunError
from abaw_emi.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training clips.

    Attributes:
        number: from 1 on.
        loss: of training.
        learning_rate: at its end; None where it was not noted.
        mean_pearson: on what the run holds out; None where it holds nothing out.
        pearson: the same per emotion, None where it is undefined.
    """

    number: int
    loss: float
    learning_rate: float | None
    mean_pearson: float | None
    pearson: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A run's way.

    Attributes:
        run: its folder.
        record: its provenance record, empty where there is none yet.
        epochs: those that are done.
    """

    run: Run
    record: Mapping[str, Any]
    epochs: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest mean Pearson, the first of equal ones; None without validation."""
        scored = [epoch for epoch in self.epochs if epoch.mean_pearson is not None]
        return max(scored, key=lambda epoch: epoch.mean_pearson or 0.0, default=None)


def read_curve(run: Run) -> Curve:
    """The run's curve; lines that are being written, or that stand for steps, are passed over.

    Raises:
        RunError: a file of the run cannot be read.
    """
    epochs = []
    for text in _lines(run):
        try:
            line = json.loads(text)
            if "step" not in line:
                epochs.append(_epoch(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return Curve(run=run, record=run.read_provenance(), epochs=tuple(epochs))


def _lines(run: Run) -> list[str]:
    try:
        return run.metrics_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(Problem(str(run.metrics_file), f"cannot be read: {error}")) from error


def _epoch(line: Mapping[str, Any]) -> Epoch:
    valid = line.get("valid") or {}
    mean, rate = valid.get("mean_pearson"), line.get("learning_rate")
    return Epoch(
        number=int(line["epoch"]),
        loss=float(line["train_loss"]),
        learning_rate=_finite(rate),
        mean_pearson=_finite(mean),
        pearson={emotion: _finite(r) for emotion, r in valid.get("pearson", {}).items()},
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
