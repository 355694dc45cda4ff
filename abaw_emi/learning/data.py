"""The clips and labels of a run, read from the data folder with every problem told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.challenge.facts import EMOTIONS, FILENAME, SAMPLE_RATE, Split
from abaw_emi.challenge.ids import pack_ids
from abaw_emi.challenge.provenance import sha256
from abaw_emi.challenge.tables import format_predictions
from abaw_emi.corpus.clips import Clip, Clips, Fallback, OnBadClip, read_clips
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import CorpusError, Problem
from abaw_emi.progress import Reporter

_SHOWN_WARNINGS = 20
"""Warnings about readable clips that are printed; a third of the test clips may have no sound file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run is trained and validated on.

    Attributes:
        train: the clips to train on.
        valid: the clips to validate on; none for a run on train+val.
        labels: the label table of both (`tables.read_labels`).
        skipped: ids that were left out because their clips cannot be read.
        read_from_video: ids whose sound came from the video, see `pack_fallbacks`.
    """

    train: Sequence[Clip]
    valid: Sequence[Clip]
    labels: pl.DataFrame
    skipped: Sequence[str] = ()
    read_from_video: Mapping[str, list[str]] = field(default_factory=dict)

    def intensities(self) -> dict[str, npt.NDArray[np.float32]]:
        """The labels (6,) of each clip, by Filename."""
        values = self.labels.select(EMOTIONS).to_numpy().astype(np.float32)
        return dict(zip(self.labels[FILENAME], values, strict=True))

    def fingerprint(self) -> str:
        """A hash of the labels and of every clip's id and length in samples."""
        lengths = "".join(f"{clip.filename}:{clip.samples}\n" for clip in (*self.train, *self.valid))
        return sha256(format_predictions(self.labels) + lengths.encode())


def read_training_data(
    data: DataFolder,
    *,
    train_plus_val: bool,
    max_seconds: float,
    on_bad: OnBadClip,
    reporter: Reporter,
    limit: int | None = None,
) -> TrainingData:
    """Labels and clips to train on and to validate on, at most `limit` clips of each split.

    Raises:
        EmiError: problems of all label files, or of all clips, at once.
    """
    labels = data.read_labels("train", "valid")
    splits: tuple[Split, ...] = ("train", "valid") if train_plus_val else ("train",)
    trained = [name for split in splits for name in data.ids(split)[:limit]]
    validated = [] if train_plus_val else data.ids("valid")[:limit]
    reporter.warn(data.check_counts("train", "valid"))
    clips = read_split_clips(data, [*trained, *validated], max_seconds, on_bad, reporter)
    by_name = {clip.filename: clip for clip in clips.clips}
    for name, ids in (("train on", trained), ("validate on", validated)):
        if ids and not any(filename in by_name for filename in ids):
            raise CorpusError(Problem(str(data.root), f"no clip is left to {name}"))
    return TrainingData(
        train=[by_name[name] for name in trained if name in by_name],
        valid=[by_name[name] for name in validated if name in by_name],
        labels=labels.filter(labels[FILENAME].is_in(list(by_name))),
        skipped=sorted(clips.skipped),
        read_from_video=pack_fallbacks(clips),
    )


def pack_fallbacks(clips: Clips) -> dict[str, list[str]]:
    """Ranges of the ids that were read from video, by what was wrong: sound file "missing" or "broken"."""
    causes: tuple[Fallback, ...] = ("missing", "broken")
    return {cause: pack_ids(clips.fallbacks(cause)) for cause in causes if clips.fallbacks(cause)}


def read_split_clips(
    data: DataFolder, ids: Sequence[str], max_seconds: float, on_bad: OnBadClip, reporter: Reporter
) -> Clips:
    """The clips of `ids`, with a bar; says which were skipped, read from video, or silent."""
    clips = read_clips(
        ids,
        data.files,
        max_seconds=max_seconds,
        on_bad=on_bad,
        progress=lambda names: reporter.track(names, "reading clips", len(ids)),
    )
    reporter.warn(clips.warnings, shown=_SHOWN_WARNINGS)
    reporter.warn(clips.problems)
    seconds = sum(clip.samples for clip in clips.clips) / SAMPLE_RATE
    text = f"{len(clips.clips):,} clips, {seconds / 3600:.2f} h"
    counted = {
        "skipped": len(clips.skipped),
        "read from video, no sound file": len(clips.fallbacks("missing")),
        "read from video, sound file broken": len(clips.fallbacks("broken")),
        "silent": clips.silent,
    }
    reporter.say(text + "".join(f"; {count:,} {what}" for what, count in counted.items() if count))
    return clips
