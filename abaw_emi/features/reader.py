"""The features of clips, read from their folders through the cache: each file once, whatever it is called.

As in the cache of sound, an entry belongs to a file's bytes and to the number of frames that it was cut to.
A modality is a feature folder; a clip has those that it has. One that has none, or of which a file is bad, is
a bad clip: it is left out, and all its problems are listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from abaw_emi.core import constants
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import Cache, CachedArray, Record
from abaw_emi.core.errors import FeatureError, Problem, collect_errors
from abaw_emi.core.hashing import FileHashes, sha256
from abaw_emi.core.progress import Reporter
from abaw_emi.features.files import CONSTANT_STEP, find_constant, parse_array, read_feature_file
from abaw_emi.features.lengths import advise_transposed, find_transposed_rows, find_unusual_lengths

READER = 2
"""Raised whenever something else is kept of the same file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLimits:
    """How many frames of a feature folder's clips are read.

    Attributes:
        most: the first so many; None for all.
        resample: to how many these are brought; 0 for none.
    """

    most: int | None = None
    resample: int = 0

    def apply(self, frames: Float32) -> Float32:
        """Frames (F, D) cut and then interpolated linearly, from the first to the last."""
        frames = frames[: self.most]
        if not self.resample:
            return frames
        places = np.linspace(0, len(frames) - 1, self.resample)
        before = places.astype(np.int64)
        share = (places - before).astype(np.float32)[:, None]
        after = np.minimum(before + 1, len(frames) - 1)
        return (1 - share) * frames[before] + share * frames[after]

    def __str__(self) -> str:
        """What distinguishes entries of the cache."""
        return f"{self.most}:{self.resample}" if self.resample else f"{self.most}"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureClip:
    """The features of one clip."""

    filename: str
    """Id as the label files hold it: "00042"."""
    arrays: Mapping[str, CachedArray]
    """float32 (T, D) of each modality that it has, by name; at least one. T differs between them."""
    source_hash: str
    """SHA-256 of its files' hashes, in hexadecimal digits."""

    @property
    def samples(self) -> int:
        """The longest T, by which clips are grouped."""
        return max(array.shape[0] for array in self.arrays.values())


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The clips that could be read, why the others could not, and warnings."""

    clips: Sequence[FeatureClip]
    """In the order asked for."""
    skipped: Mapping[str, tuple[Problem, ...]]
    """Every problem of each clip that was left out, by id."""
    widths: Mapping[str, int]
    """D of each modality that any clip has."""
    warnings: Sequence[Problem] = ()


class FeatureCache:
    """Reads features, each file at most once.

    Args:
        reporter: Shows how far things are, and receives warnings about the cache.
        folder: Where caches lie; `cache_folder()` if not given.

    Attributes:
        parsed: how many files were read, and not found.
    """

    def __init__(self, reporter: Reporter | None = None, folder: Path | None = None) -> None:
        self.parsed = 0
        self._reporter = reporter or Reporter(quiet=True)
        self._cache = Cache(f"features-{READER}", self._reporter, folder)
        self._hashes = FileHashes(self._cache.folder / "files.json")

    def read(
        self,
        filenames: Sequence[str],
        files: Mapping[str, Mapping[str, Path]],
        *,
        limits: Mapping[str, FrameLimits] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> Features:
        """The features of the clips `filenames`, in this order.

        A cache that cannot be written is no error: the arrays are then in memory.

        Args:
            filenames: Ids.
            files: Where each clip's file lies, by modality and id (`features.files.find_features`).
            limits: To which arrays are cut, by modality; the frames after that are checked all the same.
            seconds: How long clips are, if that is known: features that do not fit are warned of.
        """
        found: dict[str, dict[str, _Read]] = {}
        bad: dict[str, list[Problem]] = {}
        try:
            for filename in self._reporter.track(filenames, "reading features", len(filenames)):
                found[filename], problems = self._read_clip(filename, files, limits or {})
                if problems:
                    bad[filename] = problems
                    del found[filename]
        finally:
            self._hashes.save()
        widths: dict[str, int] = {}
        for modality in files:
            for filename, problem in _check_width(modality, found, widths).items():
                bad.setdefault(filename, []).append(problem)
        kept = {filename: read for filename, read in found.items() if filename not in bad}
        warnings = _compare_with_official(widths)
        for modality in files:
            warnings += _compare_lengths(modality, kept, seconds or {})
            warnings += _find_constants(modality, kept)
        return Features(
            [_join(filename, read) for filename, read in kept.items()],
            {filename: tuple(bad[filename]) for filename in filenames if filename in bad},
            widths,
            warnings,
        )

    def _read_clip(
        self,
        filename: str,
        files: Mapping[str, Mapping[str, Path]],
        limits: Mapping[str, FrameLimits],
    ) -> tuple[dict[str, _Read], list[Problem]]:
        """What the folders have of a clip, by modality, and all that is wrong with it."""
        problems: list[Problem] = []
        read = {}
        for modality, paths in files.items():
            if filename in paths:
                with collect_errors(problems):
                    read[modality] = self._read(paths[filename], limits.get(modality, FrameLimits()))
        if not read and not problems:
            expected = " or ".join(files) or "a feature folder"
            problems.append(Problem(f"clip {filename}", "has no features", expected))
        return read, problems

    def _read(self, path: Path, limits: FrameLimits) -> _Read:
        """A file's array, from the cache if it is there, and kept there if it is not."""
        # Reading says why a file without a hash cannot be read.
        source_hash = self._hashes.get(path) or sha256(read_feature_file(path))
        key = f"{source_hash}{path.suffix.lower()}:{limits}"
        return _Read(
            path, source_hash, self._cache.cached(key, partial(self._parse, path, source_hash, limits))
        )

    def _parse(self, path: Path, source_hash: str, limits: FrameLimits) -> tuple[Float32, Record]:
        content = read_feature_file(path)
        if sha256(content) != source_hash:
            raise FeatureError(Problem(str(path), "changed while it was in use", next_step="start again"))
        frames = parse_array(path, content)
        self.parsed += 1
        return limits.apply(frames), {"frames": len(frames), "constant": find_constant(frames)}


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What was read of one file; the record of the array describes it uncut: its frames, `find_constant`."""

    path: Path
    source_hash: str
    array: CachedArray


_Found = Mapping[str, Mapping[str, _Read]]
"""What was read, by id and modality."""


def _join(filename: str, read: Mapping[str, _Read]) -> FeatureClip:
    hashes = [f"{modality}:{read[modality].source_hash}" for modality in sorted(read)]
    arrays = {modality: one.array for modality, one in read.items()}
    return FeatureClip(filename, arrays, sha256(" ".join(hashes).encode()))


def _check_width(modality: str, found: _Found, widths: dict[str, int]) -> dict[str, Problem]:
    """A problem for each clip whose features are not as wide as most; adds that width to `widths`."""
    read = {filename: one[modality] for filename, one in found.items() if modality in one}
    counts = Counter(one.array.shape[1] for one in read.values())
    if not counts:
        return {}
    if rows := find_transposed_rows(
        [(one.array.record["frames"], one.array.shape[1]) for one in read.values()]
    ):
        step = advise_transposed(rows)
        return {
            filename: Problem(str(one.path), f"holds {one.array.shape[1]} numbers a frame", "one width", step)
            for filename, one in read.items()
        }
    width, count = counts.most_common(1)[0]
    widths[modality] = width
    if len(counts) == 1:
        return {}
    expected = f"{width}, as {count:,} of {counts.total():,} files of {modality} hold"
    return {
        filename: Problem(str(one.path), f"holds {one.array.shape[1]} numbers a frame", expected)
        for filename, one in read.items()
        if one.array.shape[1] != width
    }


def _compare_with_official(widths: Mapping[str, int]) -> list[Problem]:
    return [
        Problem(
            f"feature folder {modality}",
            f"holds {width} numbers a frame",
            f"{constants.FEATURE_WIDTHS[modality]}, as the organisers' {modality} features have",
            "they are taken as they are",
        )
        for modality, width in widths.items()
        if width != constants.FEATURE_WIDTHS.get(modality, width)
    ]


def _find_constants(modality: str, found: _Found) -> list[Problem]:
    """A warning of files that hold one number throughout: what is written in the place of no features."""
    read = [one[modality] for one in found.values() if modality in one]
    constant = [one for one in read if one.array.record["constant"] is not None]
    if not constant:
        return []
    some = f"{constant[0].path.name} ({constant[0].array.record['constant']:g})"
    what = f"{len(constant):,} of {len(read):,} files hold one number throughout, such as {some}"
    return [Problem(f"feature folder {modality}", what, next_step=CONSTANT_STEP)]


def _compare_lengths(modality: str, found: _Found, seconds: Mapping[str, float]) -> list[Problem]:
    """A warning for each clip that has far more or far fewer frames than the others of its length."""
    read = {filename: one[modality] for filename, one in found.items() if modality in one}
    frames = {filename: one.array.record["frames"] for filename, one in read.items()}
    unusual = find_unusual_lengths(frames, seconds)
    return [
        Problem(
            str(read[filename].path),
            f"has {frames[filename]:,} frames for {seconds[filename]:.2f} s",
            f"about {expected:,.0f}, at the {unusual.rate:.1f} a second of the other clips",
            "they may be the features of another clip",
        )
        for filename, expected in unusual.expected.items()
    ]
