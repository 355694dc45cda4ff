"""Training curves (the epochs of a run's metrics.jsonl), and durations of the clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import ClipError, Problem, collect_errors
from abaw_emi.core.progress import Track, track_nothing
from abaw_emi.data.layout import ClipFiles
from abaw_emi.runs.metrics import read_metrics
from abaw_emi.runs.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the training clips.

    Attributes:
        number: from 1 on.
        loss: the training loss.
        learning_rate: at its end; None where it was not recorded.
        mean_pearson: on the clips that the run holds out; None where it holds none out.
        pearson: the same per emotion, None where it is undefined.
    """

    number: int
    loss: float
    learning_rate: float | None
    mean_pearson: float | None
    pearson: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The training of a run, as far as it is done.

    Attributes:
        run: its folder.
        record: its provenance record, empty where there is none yet.
        loss: the name of its training loss; "" where its config cannot be read.
        epochs: the finished ones.
    """

    run: Run
    record: Mapping[str, Any]
    loss: str
    epochs: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest mean Pearson, the first of equal ones; None without validation."""
        scored = [epoch for epoch in self.epochs if epoch.mean_pearson is not None]
        return max(scored, key=lambda epoch: epoch.mean_pearson or 0.0, default=None)


def read_curve(run: Run, warnings: list[Problem]) -> Curve:
    """The run's curve; the lines of single steps, and a line that is not completely written yet, are skipped.

    Args:
        run: the run.
        warnings: gets the problems of a config that cannot be read.

    Raises:
        RunError: a file of the run cannot be read.
    """
    epochs = []
    for line in read_metrics(run.metrics_file):
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            if "step" not in line:
                epochs.append(_epoch(line))
    loss = ""
    with collect_errors(warnings):
        loss = run.read_config().training.loss
    return Curve(run=run, record=run.read_provenance(), loss=loss, epochs=tuple(epochs))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Durations of the clips.

    Attributes:
        seconds: by split, (N,) in s, sorted.
        by_clip: in s, by id.
        unknown: how many clips of all splits have no known duration.
        source: how they were measured, in a few words.
    """

    seconds: Mapping[Split, Array]
    by_clip: Mapping[str, float]
    unknown: int
    source: str


def find_durations(
    ids: Mapping[Split, Sequence[str]],
    files: Mapping[str, ClipFiles],
    audited: Mapping[str, float | None] | None,
    track: Track = track_nothing,
) -> Durations | None:
    """The durations of the clips; None where there is neither an audit nor a file to read.

    Args:
        ids: of the clips, by split.
        files: of the clips, by id.
        audited: durations that an audit measured, in s, by id; None without an audit.
        track: shows a progress bar over the clips.
    """
    if audited is None:
        return read_declared(ids, files, track)
    found = {clip: seconds for clip, seconds in audited.items() if seconds is not None}
    return _by_split(ids, found, "measured by the audit")


def read_declared(
    ids: Mapping[Split, Sequence[str]],
    files: Mapping[str, ClipFiles],
    track: Track = track_nothing,
) -> Durations | None:
    """Durations from the headers of the files; None where no clip has a file, or PyAV is not installed."""
    wanted = [clip for clips in ids.values() for clip in clips]
    if find_spec("av") is None or not any(clip in files for clip in wanted):
        return None
    found: dict[str, float] = {}
    for clip in track(wanted, "reading headers", len(wanted)):
        own = files.get(clip)
        for path in (own.audio, own.video) if own else ():
            seconds = None if path is None else _read_header(path)
            if seconds is not None:
                found[clip] = seconds
                break
    return _by_split(ids, found, "from the files' headers, or estimated from their bit rates")


def _read_header(path: Path) -> float | None:
    """Duration of a file, in s, without decoding it; None where it cannot be opened, or has no audio."""
    from abaw_emi.audio.decode import read_declared_seconds

    try:
        return read_declared_seconds(path)
    except ClipError:  # the audit reports what is wrong with it
        return None


def _by_split(ids: Mapping[Split, Sequence[str]], found: Mapping[str, float], source: str) -> Durations:
    seconds = {
        split: np.sort(np.array([found[clip] for clip in clips if clip in found], dtype=np.float64))
        for split, clips in ids.items()
    }
    known = sum(map(len, seconds.values()))
    unknown = sum(map(len, ids.values())) - known
    return Durations(seconds=seconds, by_clip=found, unknown=unknown, source=source)
