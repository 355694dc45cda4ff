"""Findings on the clips' sound: what cannot be used, what sounds wrong, what the cut loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw_emi.audit.files import Splits
from abaw_emi.audit.finding import SHOWN_EXAMPLES, make_finding
from abaw_emi.audit.probe import LOUD, ProbeResult, SoundProperties, Trouble
from abaw_emi.core.constants import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE
from abaw_emi.core.errors import Diagnostic, Severity
from abaw_emi.data.layout import ClipFiles

LOUD_SHARE = 0.005
"""Share of samples beyond `probe.LOUD` from which on a clip is taken for clipped."""

OFFSET = 0.01
"""Mean of the samples, of full scale, from which on there is a DC offset,"""
OFFSET_SHARE = 0.25
"""if it is as large as this share of their standard deviation, too."""

CANCELLED = 0.05
"""Level of the mean over the channels, as a share of theirs, below which they cancel each other. Channels
that have nothing in common give 0.7; opposite ones, through any encoder, 0.005 at most (measured)."""

SHORT_SECONDS = 1.0
"""Clips below are reported: 3.1 % of the delivered ones (PAPER, section 3)."""

_TROUBLES: dict[Trouble, tuple[str, str]] = {
    "unreadable": ("cannot be read, or is empty", "copy or download them again"),
    "mislabelled": ("is not what its name says", "rename, convert, or download them again"),
    "no sound": ("has no sound track", ""),
    "truncated": ("is truncated: it ends earlier than it declares", "copy or download them again"),
    "damaged": ("is damaged", "copy or download them again"),
    "too short": (f"is too short for one frame of the encoder ({MIN_SAMPLES} samples)", ""),
}


@dataclass(frozen=True, slots=True)
class ProbedClip:
    """A clip, the file that its sound is read from, and the sound's properties; None for both without one."""

    filename: str
    source: Path | None
    sound: SoundProperties | None


def choose_sources(
    files: Mapping[str, ClipFiles], probed: Mapping[Path, ProbeResult]
) -> dict[str, ProbedClip]:
    """The file that each clip's sound is read from: its sound file, or where that is of no use, its video."""
    chosen = {}
    for filename, own in files.items():
        present = (path for path in (own.audio, own.video) if path is not None and path in probed)
        source = next((path for path in present if probed[path].sound is not None), None)
        sound = probed[source].sound if source is not None else None
        chosen[filename] = ProbedClip(filename, source, sound)
    return chosen


def check_usable(
    files: Mapping[str, ClipFiles],
    probed: Mapping[Path, ProbeResult],
    clips: Mapping[str, ProbedClip],
    splits: Splits,
) -> Iterator[Diagnostic]:
    """A finding for each way in which files cannot be used, apart for clips that have another file."""
    in_use = splits.find()
    groups: dict[tuple[Trouble, Severity], list[tuple[str, str]]] = {}
    for filename, own in files.items():
        for path in (own.audio, own.video):
            if path is None or path not in probed or (trouble := probed[path].trouble) is None:
                continue
            lost = clips[filename].source is None and filename in in_use
            example = f"{path}: {probed[path].problem}"
            groups.setdefault((trouble, "error" if lost else "warning"), []).append((filename, example))
    for (trouble, severity), members in sorted(
        groups.items(), key=lambda group: list(_TROUBLES).index(group[0][0])
    ):
        what, step = _TROUBLES[trouble]
        ids = {filename for filename, _ in members}
        yield make_finding(
            trouble,
            severity,
            f"{{n}} clips have a file that {what}",
            "nothing else gives their sound: they are refused, or left out with --on-bad-clip skip"
            if severity == "error"
            else "their other file is read instead, if they are read at all",
            step,
            splits=splits.holding(ids),
            ids=ids,
            examples=[example for _, example in members],
        )


def check_sounds(clips: Sequence[ProbedClip], splits: Splits) -> list[Diagnostic]:
    """What sounds wrong in the files that are read."""

    def find(
        code: str,
        severity: Severity,
        test: Callable[[ProbedClip, SoundProperties], bool],
        found: str,
        means: str,
        step: str = "",
        show: Callable[[SoundProperties], str] = lambda sound: f"{sound.seconds:.2f} s",
    ) -> Iterator[Diagnostic]:
        members = [(clip, clip.sound) for clip in clips if clip.sound is not None and test(clip, clip.sound)]
        ids = [clip.filename for clip, _ in members]
        examples = [f"{clip.source}: {show(sound)}" for clip, sound in members[:SHOWN_EXAMPLES]]
        if members:
            found_in = splits.holding(ids)
            yield make_finding(
                code, severity, found, means, step, splits=found_in, ids=ids, examples=examples
            )

    return [
        *find(
            "silent",
            "warning",
            lambda clip, sound: sound.silent,
            f"{{n}} clips are silent in the first {MAX_SECONDS:g} s",
            "a model of sound can only guess the mean there; trained on, they teach it just that",
            "listen to them; compare with their videos",
        ),
        *find(
            "clipped",
            "warning",
            lambda clip, sound: sound.loud > LOUD_SHARE,
            f"{{n}} clips look clipped: {LOUD_SHARE:.1%} of the samples lie beyond {LOUD:g} of full scale",
            "they are distorted; how loud the voice is can no longer be measured",
            "listen to them; nothing mends it but the original recording",
            lambda sound: f"{sound.loud:.1%} of its samples",
        ),
        *find(
            "cancelled",
            "warning",
            lambda clip, sound: sound.mixed_level < CANCELLED,
            "{n} clips have channels that cancel each other: one is the other upside down",
            "a model reads their mean, of which next to nothing is left",
            "turn one channel over, and write the mean of both as one",
            lambda sound: f"{sound.mixed_level:.1%} of its level is left",
        ),
        *find(
            "holes",
            "warning",
            lambda clip, sound: bool(sound.holes),
            "{n} clips have holes: their time stamps jump",
            "sound and pictures run apart, and pauses are lost",
            "copy or download them again",
            lambda sound: sound.holes,
        ),
        *find(
            "remarks",
            "note",
            lambda clip, sound: bool(sound.remarks),
            "{n} clips are read although something about their files is odd",
            "what they hold may not be all that was recorded, or not the track that was meant",
            "listen to them",
            lambda sound: sound.remarks,
        ),
        *find(
            "damaged later",
            "note",
            lambda clip, sound: bool(sound.late),
            f"{{n}} clips are damaged behind the first {MAX_SECONDS:g} s",
            "a model that is cut there does not read it; with a larger data.max_seconds they are refused",
            "copy or download them again",
            lambda sound: sound.late,
        ),
        *find(
            "low rate",
            "warning",
            lambda clip, sound: sound.sample_rate < SAMPLE_RATE,
            f"{{n}} clips have a sampling rate below {SAMPLE_RATE:,} Hz",
            "what lies above half of it is missing, and they sound unlike the others",
            "look for the original recording",
            lambda sound: f"{sound.sample_rate:,} Hz",
        ),
        *find(
            "rate",
            "note",
            lambda clip, sound: sound.sample_rate > SAMPLE_RATE and _is_sound_file(clip),
            f"{{n}} sound files have another sampling rate than {SAMPLE_RATE:,} Hz",
            "they are resampled whenever they are decoded; they are not the files as delivered",
            show=lambda sound: f"{sound.sample_rate:,} Hz",
        ),
        *find(
            "channels",
            "note",
            lambda clip, sound: sound.channels != 1 and _is_sound_file(clip),
            "{n} sound files have several channels",
            "their mean is read, in which what is opposite cancels; they are not the files as delivered",
            show=lambda sound: f"{sound.channels} channels",
        ),
        *find(
            "offset",
            "note",
            lambda clip, sound: abs(sound.mean) > max(OFFSET, OFFSET_SHARE * sound.std),
            "{n} clips have a DC offset",
            "the encoder takes it off; measures of energy or of zero crossings would not",
            show=lambda sound: f"{sound.mean:+.3f} of full scale",
        ),
        *find(
            "short",
            "note",
            lambda clip, sound: sound.seconds < SHORT_SECONDS,
            f"{{n}} clips are shorter than {SHORT_SECONDS:g} s",
            "there is next to nothing in them (3.1% of the official clips are so short)",
        ),
        *_check_cut(clips, splits),
    ]


def _check_cut(clips: Iterable[ProbedClip], splits: Splits) -> Iterator[Diagnostic]:
    lengths = {clip.filename: clip.sound.seconds for clip in clips if clip.sound is not None}
    cut = {filename: seconds for filename, seconds in lengths.items() if seconds > MAX_SECONDS}
    if not cut:
        return
    lost = sum(seconds - MAX_SECONDS for seconds in cut.values()) / sum(lengths.values())
    longest = sorted(cut, key=cut.__getitem__, reverse=True)
    yield make_finding(
        "long",
        "note",
        f"{{n}} clips are longer than {MAX_SECONDS:g} s; {lost:.1%} of all sound lies behind the cut",
        "it is not read (4.4% of the official clips are so long, and 1.4% of their sound is lost)",
        "set data.max_seconds, if it is needed",
        splits=splits.holding(cut),
        ids=cut,
        examples=[f"{filename}: {cut[filename]:.1f} s" for filename in longest],
    )


def _is_sound_file(clip: ProbedClip) -> bool:
    from abaw_emi.data.layout import AUDIO_SUFFIXES

    return clip.source is not None and clip.source.suffix.lower() in AUDIO_SUFFIXES
