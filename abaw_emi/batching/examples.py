"""What a system reads of a split's clips: their sound, their feature folders, or both, as its config says.

A system of several modalities takes clips that lack some of them, as they are: that is told, counted and
recorded, and nothing is put in their place. A clip that lacks all of them is a bad clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from abaw_emi.audio.cache import pack_fallbacks, read_split_clips
from abaw_emi.audio.clips import Clip
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.config.parts import SOUND
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import SAMPLE_RATE, OnBadClip
from abaw_emi.core.errors import ClipError, CorpusError, Problem, gather
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.features.reader import FeatureCache, FeatureClip

_SHOWN_RANGES = 20
"""Ranges of ids that a line about a missing modality names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """What a system takes in; systems that share it share the clips.

    Attributes:
        hears: whether it has an encoder of sound.
        max_seconds: to which sound is cut.
        folders: the feature folders that it reads.
        max_frames: to which features are cut.
    """

    hears: bool
    max_seconds: float
    folders: tuple[str, ...]
    max_frames: int

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """What a run of `config` takes in."""
        return cls(
            hears=config.model.encoder != "none",
            max_seconds=config.data.max_seconds,
            folders=tuple(feature.name for feature in config.model.features),
            max_frames=config.data.max_frames,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the order in which a model has them."""
        return (*((SOUND,) if self.hears else ()), *self.folders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What was read.

    Attributes:
        clips: in the order asked for.
        skipped: ids left out because they cannot be read.
        read_from_video: see `audio.cache.pack_fallbacks`.
        widths: D of each feature folder.
        missing: ids of the clips that lack a modality, by its name; modalities that all have are left out.
    """

    clips: Sequence[Clip] | Sequence[EncodedClip]
    skipped: tuple[str, ...] = ()
    read_from_video: dict[str, list[str]] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)


def read_inputs(
    data: DataFolder, ids: Sequence[str], senses: Senses, on_bad: OnBadClip, reporter: Reporter
) -> Inputs:
    """What a system of these senses reads of the clips `ids`, from the cache, with bars.

    Raises:
        EmiError: all that cannot be read, at once; with `on_bad="skip"`, only what concerns no single clip.
    """
    if not senses.folders:
        sounds = read_split_clips(data, ids, senses.max_seconds, on_bad, reporter)
        return Inputs(
            clips=sounds.clips,
            skipped=tuple(sorted(sounds.skipped)),
            read_from_video=pack_fallbacks(sounds),
        )
    problems: list[Problem] = []
    heard: dict[str, Clip] = {}
    seen: dict[str, FeatureClip] = {}
    skipped: set[str] = set()
    read_from_video: dict[str, list[str]] = {}
    widths: dict[str, int] = {}
    with gather(problems):
        if senses.hears and (listed := [name for name in ids if name in data.files]):
            sounds = read_split_clips(data, listed, senses.max_seconds, on_bad, reporter)
            heard = {clip.filename: clip for clip in sounds.clips}
            skipped |= sounds.skipped.keys()
            read_from_video = pack_fallbacks(sounds)
    with gather(problems):
        files = {name: find_features(data.root, data.features, name) for name in senses.folders}
        listed = [name for name in ids if any(name in found for found in files.values())]
        features = FeatureCache(reporter).read(
            listed,
            files,
            max_frames=senses.max_frames,
            seconds=_measure(heard, senses.max_seconds),
            on_bad=on_bad,
        )
        reporter.warn(features.warnings, shown=_SHOWN_RANGES)
        reporter.warn([problem for found in features.skipped.values() for problem in found])
        seen = {clip.filename: clip for clip in features.clips}
        skipped |= features.skipped.keys()
        widths = dict(features.widths)
    nothing = [name for name in ids if name not in heard and name not in seen and name not in skipped]
    if nothing and not problems:
        problem = Problem(
            f"{len(nothing):,} of {len(ids):,} clips",
            f"nothing to predict from: {_list(nothing)}",
            f"{' or '.join(senses.modalities)} of each",
            advise(data, senses.folders),
        )
        if on_bad == "error":
            problems.append(problem)
        else:
            reporter.warn([problem])
            skipped |= set(nothing)
    if problems:
        raise ClipError(problems)
    kept = [name for name in ids if name in heard.keys() | seen.keys() and name not in skipped]
    clips = [_join(heard.get(name), seen.get(name), hears=senses.hears) for name in kept]
    inputs = Inputs(
        clips=clips,  # type: ignore[arg-type] # all of one kind, as the senses are one
        skipped=tuple(sorted(skipped)),
        read_from_video=read_from_video,
        widths=widths,
        missing=_find_missing(kept, heard, seen, senses),
    )
    _report_coverage(inputs, senses, reporter)
    return inputs


def _measure(heard: Mapping[str, Clip], max_seconds: float) -> dict[str, float]:
    """The lengths of the clips that were heard to their end, in s."""
    seconds = {name: clip.samples / SAMPLE_RATE for name, clip in heard.items()}
    return {name: length for name, length in seconds.items() if length < max_seconds}


def check_widths(data: DataFolder, inputs: Inputs, senses: Senses) -> None:
    """Whether there is something of every folder, so that a model of it can be made.

    Raises:
        CorpusError: names each folder of which no clip has anything.
    """
    absent = [name for name in senses.folders if name not in inputs.widths]
    if absent:
        raise CorpusError(
            Problem(f"feature folder {name}", "no clip has any", next_step=advise(data, [name]))
            for name in absent
        )


def advise(data: DataFolder, folders: Sequence[str]) -> str:
    """Where feature folders are looked for, and how they are made."""
    places = " or ".join(str(root / name) for name in folders for root in (data.root, data.features))
    return f"put features into {places}, or make them with abaw-emi extract" if folders else ""


def _join(heard: Clip | None, seen: FeatureClip | None, *, hears: bool) -> Clip | EncodedClip:
    if heard is not None:
        return replace(heard, features=seen)
    assert seen is not None, "clips that have nothing are left out"
    return Clip.without_sound(seen) if hears else EncodedClip.without_encoder(seen)


def _find_missing(
    kept: Sequence[str], heard: dict[str, Clip], seen: dict[str, FeatureClip], senses: Senses
) -> dict[str, list[str]]:
    missing = {SOUND: [name for name in kept if name not in heard]} if senses.hears else {}
    for folder in senses.folders:
        missing[folder] = [name for name in kept if name not in seen or not seen[name].has(folder)]
    return {modality: names for modality, names in missing.items() if names}


def _report_coverage(inputs: Inputs, senses: Senses, reporter: Reporter) -> None:
    total = len(inputs.clips)
    counts = [f"{name} {total - len(inputs.missing.get(name, ())):,}" for name in senses.modalities]
    reporter.say(f"of {total:,} clips: {', '.join(counts)}")
    reporter.warn(
        [
            Problem(f"{len(names):,} of {total:,} clips", f"no {name}: {_list(names)}")
            for name, names in inputs.missing.items()
        ]
    )


def _list(ids: Sequence[str]) -> str:
    ranges = pack_ids(ids)
    more = ", ... (all in the provenance record)" if len(ranges) > _SHOWN_RANGES else ""
    return ", ".join(ranges[:_SHOWN_RANGES]) + more
