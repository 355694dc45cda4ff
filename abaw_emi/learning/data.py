"""The clips and labels of a run, read from the data folder with every problem told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.challenge.facts import EMOTIONS, FILENAME, MAX_SECONDS, SAMPLE_RATE, Split
from abaw_emi.challenge.folds import hold_out
from abaw_emi.challenge.ids import pack_ids
from abaw_emi.challenge.provenance import sha256
from abaw_emi.challenge.tables import format_predictions
from abaw_emi.corpus.cache import ClipCache
from abaw_emi.corpus.clips import Clip, Clips, Fallback, OnBadClip
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import CorpusError, Problem
from abaw_emi.progress import Reporter

_SHOWN_WARNINGS = 20
"""Warnings about readable clips that are printed; a third of the test clips may have no sound file."""

_SHOWN_RANGES = 20
"""Ranges of ids that a line about changed data names."""

_DIGITS = 16
"""Hexadecimal digits of a hash that tell what was changed by accident: 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a run is trained and validated on.

    Attributes:
        train: the clips to train on.
        valid: the clips to validate on; none for a run on train+val.
        labels: the label table of both (`tables.read_labels`).
        skipped: ids that were left out because their clips cannot be read.
        read_from_video: ids whose sound came from the video, see `pack_fallbacks`.
        max_seconds: length to which the clips were cut.
    """

    train: Sequence[Clip]
    valid: Sequence[Clip]
    labels: pl.DataFrame
    skipped: Sequence[str] = ()
    read_from_video: Mapping[str, list[str]] = field(default_factory=dict)
    max_seconds: float = MAX_SECONDS

    def intensities(self) -> dict[str, npt.NDArray[np.float32]]:
        """The labels (6,) of each clip, by Filename."""
        values = self.labels.select(EMOTIONS).to_numpy().astype(np.float32)
        return dict(zip(self.labels[FILENAME], values, strict=True))

    def fingerprint(self) -> str:
        """A hash of the labels, the length to which clips are cut, and every clip's id, length and file."""
        clips = "".join(
            f"{clip.filename}:{clip.samples}:{clip.source_hash}\n" for clip in (*self.train, *self.valid)
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
            "clips": {clip.filename: clip.source_hash[:_DIGITS] for clip in (*self.train, *self.valid)},
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
                ranges = pack_ids(ids)
                more = ", ..." if len(ranges) > _SHOWN_RANGES else ""
                changes.append(f"{len(ids):,} {what} {how}: {', '.join(ranges[:_SHOWN_RANGES])}{more}")
    return changes


def read_training_data(
    data: DataFolder,
    *,
    train_plus_val: bool,
    max_seconds: float,
    on_bad: OnBadClip,
    reporter: Reporter,
    fold: str = "",
    limit: int | None = None,
) -> TrainingData:
    """Labels and clips to train on and to validate on, at most `limit` clips of each split.

    With a `fold` (`folds.hold_out`), that part of what is trained on is held out, and validated on instead.

    Raises:
        EmiError: problems of all label files, or of all clips, at once.
    """
    labels = data.read_labels("train", "valid")
    splits: tuple[Split, ...] = ("train", "valid") if train_plus_val else ("train",)
    held_out = hold_out([name for split in splits for name in data.ids(split)], fold) if fold else ()
    trained = [name for split in splits for name in [i for i in data.ids(split) if i not in held_out][:limit]]
    if fold:
        validated = [name for split in splits for name in data.ids(split) if name in held_out][:limit]
    else:
        validated = [] if train_plus_val else data.ids("valid")[:limit]
    reporter.warn(data.check_counts("train", "valid"))
    clips = read_split_clips(data, [*trained, *validated], max_seconds, on_bad, reporter)
    by_name = {clip.filename: clip for clip in clips.clips}
    for name, ids in (("train on", trained), ("validate on", validated)):
        wanted = ids or (fold and ids is validated)
        if wanted and not any(filename in by_name for filename in ids):
            raise CorpusError(Problem(str(data.root), f"no clip is left to {name}"))
    return TrainingData(
        train=[by_name[name] for name in trained if name in by_name],
        valid=[by_name[name] for name in validated if name in by_name],
        labels=labels.filter(labels[FILENAME].is_in(list(by_name))),
        skipped=sorted(clips.skipped),
        read_from_video=pack_fallbacks(clips),
        max_seconds=max_seconds,
    )


def pack_fallbacks(clips: Clips) -> dict[str, list[str]]:
    """Ranges of the ids that were read from video, by what was wrong: sound file "missing" or "broken"."""
    causes: tuple[Fallback, ...] = ("missing", "broken")
    return {cause: pack_ids(clips.fallbacks(cause)) for cause in causes if clips.fallbacks(cause)}


def read_split_clips(
    data: DataFolder, ids: Sequence[str], max_seconds: float, on_bad: OnBadClip, reporter: Reporter
) -> Clips:
    """The clips of `ids`, from the cache, with bars; says which were skipped, read from video, or silent."""
    cache = ClipCache(say=reporter.say)
    try:
        clips = cache.read_clips(
            ids, data.files, max_seconds=max_seconds, on_bad=on_bad, track=reporter.track
        )
    finally:
        reporter.warn(cache.warnings)
    reporter.warn(clips.warnings, shown=_SHOWN_WARNINGS)
    reporter.warn(clips.problems)
    seconds = sum(clip.samples for clip in clips.clips) / SAMPLE_RATE
    text = f"{len(clips.clips):,} clips, {seconds / 3600:.2f} h"
    if cache.decoded:
        text += f" ({cache.decoded:,} decoded, {len(clips.clips) - cache.decoded:,} from the cache)"
    counted = {
        "skipped": len(clips.skipped),
        "read from video, no sound file": len(clips.fallbacks("missing")),
        "read from video, sound file broken": len(clips.fallbacks("broken")),
        "silent": clips.silent,
    }
    reporter.say(text + "".join(f"; {count:,} {what}" for what, count in counted.items() if count))
    return clips
