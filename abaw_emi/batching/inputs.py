"""The examples of a split, read from the data folder through the caches.

A system of several modalities takes examples that are missing some of them: that is reported, counted and
recorded, and nothing is put in their place. A clip that is missing all of them is a bad clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abaw_emi.audio.cache import pack_fallbacks, read_split_clips
from abaw_emi.audio.clips import Clips
from abaw_emi.batching.coverage import SHOWN_RANGES, advise, report_coverage, report_empty
from abaw_emi.batching.examples import Example, InputSpec
from abaw_emi.batching.texts import join_texts, read_texts
from abaw_emi.config.parts import SOUND
from abaw_emi.core.constants import SAMPLE_RATE
from abaw_emi.core.errors import ClipError, CorpusError, FeatureError, Problem, collect_errors
from abaw_emi.core.ids import summarise
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.features.reader import FeatureCache, FeatureClip, Features


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
            report_empty(data, empty, len(ids), spec, reporter)
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
        report_coverage(data, inputs.missing, len(examples), spec, reporter)
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
    reporter.warn(features.warnings, shown=SHOWN_RANGES)
    reporter.warn(bad)
    return features


def _find_missing(examples: Sequence[Example], spec: InputSpec) -> dict[str, list[str]]:
    missing = {SOUND: [each.filename for each in examples if each.audio is None]} if spec.uses_audio else {}
    for folder in spec.names:
        missing[folder] = [each.filename for each in examples if folder not in each.features]
    return {modality: names for modality, names in missing.items() if names}


def check_modalities(
    data: DataFolder, inputs: Inputs, parts: Mapping[str, Sequence[str]], spec: InputSpec
) -> None:
    """Passes if some clip of each part has each modality: a model that lacks one is not what was validated.

    Features made for train and valid but not for test are the usual cause. This is refused where bad clips
    are left out, too: what is bad is no clip.

    Args:
        data: the data folder.
        inputs: what was read of it.
        parts: ids, by what the clips are called after "no clip".
        spec: what the system reads.

    Raises:
        CorpusError: names each modality that all clips of a part are missing.
    """
    problems = []
    for name in spec.modalities if spec.names else ():
        lost = {*inputs.missing.get(name, ()), *inputs.skipped}
        if lacking := [part for part, ids in parts.items() if ids and lost.issuperset(ids)]:
            where = f"feature folder {name}" if name in spec.folders else name
            found = f"no clip {' or '.join(lacking)} has any"
            problems.append(Problem(where, found, next_step=advise(data, name, spec)))
    if problems:
        raise CorpusError(problems)
