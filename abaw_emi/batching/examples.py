"""Examples: what a system reads of each clip, its sound, its feature folders or both, as its config says.

A system of several modalities takes examples that are missing some of them: that is reported, counted and
recorded, and nothing is put in their place. A clip that is missing all of them is a bad clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from abaw_emi.audio.cache import pack_fallbacks, read_split_clips
from abaw_emi.audio.clips import Clip, Clips
from abaw_emi.batching.texts import TextSpec, join_texts, read_texts
from abaw_emi.config.parts import SOUND
from abaw_emi.config.run import RunConfig
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.constants import HOP_SAMPLES, MIN_SAMPLES, SAMPLE_RATE, OnBadClip
from abaw_emi.core.errors import ClipError, CorpusError, FeatureError, Problem, collect_errors, show_first
from abaw_emi.core.hashing import sha256
from abaw_emi.core.ids import pack_ids, summarise
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.features.reader import FeatureCache, FeatureClip, Features, FrameLimits

_SHOWN_RANGES = 20
"""Ranges of ids that a line about a missing modality names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a system reads of each clip; systems that share it share the examples.

    Attributes:
        uses_audio: whether it has an encoder of sound.
        max_seconds: length to which sound is cut.
        names: of the features that it reads, in the model's order.
        limits: to how many frames each of these is cut.
        on_bad: "error" for an error that names all clips that cannot be read, "skip" to leave them out.
        text: how it reads transcripts, if one of the features is text; the others are feature folders.
    """

    uses_audio: bool
    max_seconds: float
    names: tuple[str, ...]
    limits: tuple[FrameLimits, ...]
    on_bad: OnBadClip = "error"
    text: TextSpec | None = None

    @classmethod
    def of(cls, config: RunConfig, on_bad: OnBadClip = "error", tokenizer: Any = None) -> Self:
        """What a run of `config` reads; `tokenizer` is that of its text encoder, if it has one."""
        features = config.model.features
        return cls(
            uses_audio=config.model.encoder != "none",
            max_seconds=config.data.max_seconds,
            names=tuple(feature.name for feature in features),
            text=next((TextSpec.of(feature, tokenizer) for feature in features if feature.backbone), None),
            limits=tuple(
                FrameLimits(most=feature.max_frames or config.data.max_frames, resample=feature.resample)
                for feature in features
            ),
            on_bad=on_bad,
        )

    @property
    def folders(self) -> tuple[str, ...]:
        """The feature folders that it reads."""
        return tuple(name for name in self.names if self.text is None or name != self.text.name)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the model's order."""
        return (*((SOUND,) if self.uses_audio else ()), *self.names)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Example:
    """What a system reads of one clip; arrays lie in the cache until they are needed.

    Attributes:
        filename: its id.
        samples: its length in samples, by which examples are grouped.
        audio: its sound; None if it has none, or the system does not use any.
        features: float32 (T, D) of each feature folder that has the clip, by the folder's name.
        features_hash: SHA-256 of the features' files, in hexadecimal digits; "" without features.
        states, frames: float32 that was made of the sound, once it was (`models.encoders.sound.Fixed`).
    """

    filename: str
    samples: int
    audio: Clip | None = None
    features: Mapping[str, CachedArray] = field(default_factory=dict)
    features_hash: str = ""
    states: CachedArray | None = None
    frames: CachedArray | None = None

    @classmethod
    def join(
        cls,
        filename: str,
        clip: Clip | None = None,
        features: FeatureClip | None = None,
        *,
        uses_audio: bool = True,
    ) -> Self:
        """The example of a clip's sound and features, of which it has at least one.

        Args:
            filename: its id.
            clip: its sound.
            features: its features.
            uses_audio: whether the system has an encoder of sound.
        """
        if clip is not None:
            samples = clip.samples
        elif uses_audio or features is None:
            samples = MIN_SAMPLES  # among the shortest, where the row that it leaves empty costs least
        else:
            samples = HOP_SAMPLES * features.samples
        return cls(
            filename=filename,
            samples=samples,
            audio=clip,
            features={} if features is None else features.arrays,
            features_hash="" if features is None else features.source_hash,
        )

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file or files that it was read from, in hexadecimal digits."""
        if self.audio is None:
            return self.features_hash
        audio_hash = self.audio.content_hash
        return sha256(f"{audio_hash}:{self.features_hash}".encode()) if self.features_hash else audio_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What was read of a split.

    Attributes:
        examples: in the order asked for.
        skipped: ids left out because they cannot be read, sorted.
        read_from_video: see `audio.cache.pack_fallbacks`.
        widths: D of each feature folder.
        missing: ids of the examples without a modality, by its name; modalities that all have are left out.
    """

    examples: Sequence[Example]
    skipped: tuple[str, ...]
    read_from_video: dict[str, list[str]]
    widths: Mapping[str, int]
    missing: dict[str, list[str]]


def read_inputs(data: DataFolder, ids: Sequence[str], spec: InputSpec, reporter: Reporter) -> Inputs:
    """What a system of this spec reads of the clips `ids`, from the cache, with progress bars.

    Raises:
        EmiError: all that cannot be read, together; if bad clips are skipped, what concerns no single clip.
    """
    problems: list[Problem] = []
    audio, features = Clips((), {}), Features([], {}, {})
    with collect_errors(problems):
        audio = _read_audio(data, ids, spec, reporter)
    with collect_errors(problems):
        features = _read_features(data, ids, spec, audio, reporter)
    clips = {clip.filename: clip for clip in audio.clips}
    arrays = {clip.filename: clip for clip in features.clips}
    skipped = audio.skipped.keys() | features.skipped.keys()
    widths = dict(features.widths)
    if spec.text is not None:
        texts: dict[str, FeatureClip] = {}
        bad: dict[str, tuple[Problem, ...]] = {}
        with collect_errors(problems):
            texts, bad = read_texts(data, ids, spec.text, spec.on_bad, reporter)
        arrays = join_texts(arrays, texts)
        skipped |= bad.keys()
        widths |= {spec.text.name: 1} if texts else {}
    empty = [name for name in ids if name not in clips.keys() | arrays.keys() | skipped]
    if empty and not problems:
        with collect_errors(problems):
            _report_empty(data, empty, len(ids), spec, reporter)
    if problems:
        raise ClipError(problems)
    skipped |= set(empty)
    examples = [
        Example.join(name, clips.get(name), arrays.get(name), uses_audio=spec.uses_audio)
        for name in ids
        if name not in skipped
    ]
    inputs = Inputs(
        examples=examples,
        skipped=tuple(sorted(skipped)),
        read_from_video=pack_fallbacks(audio),
        widths=widths,
        missing=_find_missing(examples, spec),
    )
    if spec.names and examples:
        _report_coverage(inputs, spec, reporter)
    return inputs


def _read_audio(data: DataFolder, ids: Sequence[str], spec: InputSpec, reporter: Reporter) -> Clips:
    """The sound of the clips; beside features, of those that have a file of it."""
    if spec.names:
        ids = [name for name in ids if name in data.files]
    if not spec.uses_audio or not ids:
        return Clips((), {})
    return read_split_clips(data, ids, spec.max_seconds, spec.on_bad, reporter)


def _read_features(
    data: DataFolder, ids: Sequence[str], spec: InputSpec, audio: Clips, reporter: Reporter
) -> Features:
    """The features of the clips that have any."""
    if not spec.folders:
        return Features([], {}, {})
    files = {name: find_features(data.root, data.features, name) for name in spec.folders}
    lengths = {clip.filename: clip.samples / SAMPLE_RATE for clip in audio.clips}
    features = FeatureCache(reporter).read(
        [name for name in ids if any(name in found for found in files.values())],
        files,
        limits=dict(zip(spec.names, spec.limits, strict=True)),
        # A clip that was cut is longer than what was read of it.
        seconds={name: length for name, length in lengths.items() if length < spec.max_seconds},
    )
    bad = summarise(features.skipped)
    if bad and spec.on_bad == "error":
        raise FeatureError(bad)
    reporter.warn(features.warnings, shown=_SHOWN_RANGES)
    reporter.warn(bad)
    return features


def _report_empty(
    data: DataFolder, empty: Sequence[str], total: int, spec: InputSpec, reporter: Reporter
) -> None:
    """Warns of clips that have nothing that the system reads, or raises a ClipError."""
    problem = Problem(
        f"{len(empty):,} of {total:,} clips",
        f"nothing to predict from: {_list(empty)}",
        f"{' or '.join(spec.modalities)} of each",
        advise(data, spec.folders),
    )
    if spec.on_bad == "error":
        raise ClipError(problem)
    reporter.warn([problem])


def check_widths(data: DataFolder, inputs: Inputs, spec: InputSpec) -> None:
    """Passes if some clip has features of each folder, so that a model of them can be made.

    Raises:
        CorpusError: names each folder of which no clip has any.
    """
    problems = [
        Problem(f"feature folder {name}", "no clip has any", next_step=advise(data, [name]))
        for name in spec.folders
        if name not in inputs.widths
    ]
    if spec.text is not None and spec.text.name not in inputs.widths:
        step = "make transcripts with abaw-emi transcribe"
        problems.append(Problem(spec.text.name, "no clip has a transcript", next_step=step))
    if problems:
        raise CorpusError(problems)


def advise(data: DataFolder, folders: Sequence[str]) -> str:
    """Where feature folders are looked for, and how they are made."""
    places = " or ".join(str(root / name) for name in folders for root in (data.root, data.features))
    return f"put features into {places}, or make them with abaw-emi extract" if folders else ""


def _find_missing(examples: Sequence[Example], spec: InputSpec) -> dict[str, list[str]]:
    missing = {SOUND: [each.filename for each in examples if each.audio is None]} if spec.uses_audio else {}
    for folder in spec.names:
        missing[folder] = [each.filename for each in examples if folder not in each.features]
    return {modality: names for modality, names in missing.items() if names}


def _report_coverage(inputs: Inputs, spec: InputSpec, reporter: Reporter) -> None:
    total = len(inputs.examples)
    counts = [f"{name} {total - len(inputs.missing.get(name, ())):,}" for name in spec.modalities]
    reporter.say(f"of {total:,} clips: {', '.join(counts)}")
    reporter.warn(
        [
            Problem(f"{len(names):,} of {total:,} clips", f"no {name}: {_list(names)}")
            for name, names in inputs.missing.items()
        ]
    )


def _list(ids: Sequence[str]) -> str:
    return show_first(pack_ids(ids), _SHOWN_RANGES, "... (all in the provenance record)")
