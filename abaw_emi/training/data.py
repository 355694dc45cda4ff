"""The examples and labels of a run, read from the data folder; every problem is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from abaw_emi.batching.examples import Example, InputSpec
from abaw_emi.batching.inputs import check_modalities, read_inputs
from abaw_emi.config.run import ClipWeights
from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import EMOTIONS, FILENAME, MAX_SECONDS, Split
from abaw_emi.core.errors import CorpusError, Problem, show_first
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import hold_out
from abaw_emi.data.tables import format_predictions
from abaw_emi.training.optimisation.clip_weights import weigh_clips

_SHOWN_RANGES = 20
"""Ranges of ids that a line about changed data names."""

_DIGITS = 16
"""Hexadecimal digits of a hash that show accidental changes: 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run is trained and validated on.

    Attributes:
        train: the examples to train on.
        valid: the examples to validate on; none for a run on train+val.
        labels: the label table of both (`tables.read_labels`).
        skipped: ids that were left out because their clips cannot be read.
        read_from_video: ids whose sound came from the video, see `audio.cache.pack_fallbacks`.
        max_seconds: length to which the clips were cut.
        widths: D of each feature folder.
        missing: ids of the examples without a modality, by its name.
    """

    train: Sequence[Example]
    valid: Sequence[Example]
    labels: pl.DataFrame
    skipped: Sequence[str] = ()
    read_from_video: Mapping[str, list[str]] = field(default_factory=dict)
    max_seconds: float = MAX_SECONDS
    widths: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def intensities(self, clip_weights: ClipWeights = "equal") -> dict[str, Float32]:
        """The labels (6,) of each clip to train on, by Filename; (7,) with a weight, if it has one.

        Raises:
            CorpusError: the labels do not say how many raters there were.
        """
        labels = self.labels.filter(pl.col(FILENAME).is_in([example.filename for example in self.train]))
        values = labels.select(EMOTIONS).to_numpy().astype(np.float32)
        if clip_weights == "sqrt-raters":
            values = np.column_stack([values, weigh_clips(labels)])
        return dict(zip(labels[FILENAME], values, strict=True))

    def fingerprint(self) -> str:
        """A hash of the labels, the length to which clips are cut, and every clip's id, length and file."""
        clips = "".join(
            f"{example.filename}:{example.samples}:{example.content_hash}\n"
            for example in (*self.train, *self.valid)
        )
        return sha256(format_predictions(self.labels) + f"{self.max_seconds}\n{clips}".encode())

    def describe(self) -> dict[str, dict[str, str]]:
        """What `fingerprint` hashes, id by id, for `compare_data`: 64 bits of a hash for each.

        Returns:
            {"labels": {id: hash of its intensities}, "clips": {id: hash of the file it was read from}}.
        """
        rows = zip(self.labels[FILENAME], self.labels.select(EMOTIONS).rows(), strict=True)
        return {
            "labels": {filename: sha256(repr(values).encode())[:_DIGITS] for filename, values in rows},
            "clips": {each.filename: each.content_hash[:_DIGITS] for each in (*self.train, *self.valid)},
        }


def compare_data(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What changed between two `TrainingData.describe()`, in words; [] where nothing did.

    >>> before = {"clips": {"00000": "a", "00001": "b", "00002": "c"}, "labels": {"00000": "d"}}
    >>> compare_data(before, {"clips": {"00000": "a", "00001": "z", "00003": "e"}, "labels": {"00000": "d"}})
    ['1 clips changed: 00001', '1 clips more: 00003', '1 clips fewer: 00002']
    """
    changes: list[str] = []
    for what in ("clips", "labels"):
        old, new = before.get(what, {}), now.get(what, {})
        for how, ids in (
            ("changed", [filename for filename in new if filename in old and old[filename] != new[filename]]),
            ("more", new.keys() - old.keys()),
            ("fewer", old.keys() - new.keys()),
        ):
            if ids:
                changes.append(f"{len(ids):,} {what} {how}: {show_first(pack_ids(ids), _SHOWN_RANGES)}")
    return changes


def read_training_data(
    data: DataFolder,
    spec: InputSpec,
    reporter: Reporter,
    *,
    train_plus_val: bool = False,
    fold: str = "",
    limit: int | None = None,
) -> TrainingData:
    """Labels and examples to train on and to validate on, at most `limit` of each split.

    Args:
        data: the data folder.
        spec: what the run reads of each clip.
        reporter: shows progress, and receives warnings.
        train_plus_val: whether valid is trained on, too.
        fold: which part of what is trained on is held out, and validated on instead (`folds.hold_out`).
        limit: for trials.

    Raises:
        EmiError: problems of all label files, or of all clips, together.
    """
    labels = data.read_labels("train", "valid")
    trained, validated = _choose_ids(data, train_plus_val, fold, limit)
    reporter.warn(data.check_counts("train", "valid"))
    inputs = read_inputs(data, [*trained, *validated], spec, reporter)
    parts = {"to train on": trained, "to validate on": validated}
    check_modalities(data, inputs, parts, spec)
    examples = {example.filename: example for example in inputs.examples}
    for purpose, ids, wanted in (("train", trained, True), ("validate", validated, fold or validated)):
        if wanted and not any(filename in examples for filename in ids):
            raise CorpusError(Problem(str(data.root), f"no clip is left to {purpose} on"))
    return TrainingData(
        train=[examples[name] for name in trained if name in examples],
        valid=[examples[name] for name in validated if name in examples],
        labels=labels.filter(labels[FILENAME].is_in(list(examples))),
        skipped=inputs.skipped,
        read_from_video=inputs.read_from_video,
        max_seconds=spec.max_seconds,
        widths=inputs.widths,
        missing=inputs.missing,
    )


def _choose_ids(
    data: DataFolder, train_plus_val: bool, fold: str, limit: int | None
) -> tuple[list[str], list[str]]:
    """The clips to train on and the clips to validate on, at most `limit` of each split."""
    splits: tuple[Split, ...] = ("train", "valid") if train_plus_val else ("train",)
    held_out = hold_out([name for split in splits for name in data.ids(split)], fold) if fold else ()
    trained = [name for split in splits for name in [i for i in data.ids(split) if i not in held_out][:limit]]
    if fold:
        return trained, [name for split in splits for name in data.ids(split) if name in held_out][:limit]
    return trained, [] if train_plus_val else data.ids("valid")[:limit]
