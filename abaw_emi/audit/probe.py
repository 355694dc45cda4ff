"""What can be told of one sound file by decoding it whole: its form, its level, what is wrong with it.

A model reads the first `constants.MAX_SECONDS`. Damage after them is distinguished from damage within.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from abaw_emi.audio.clips import SILENT_RANGE
from abaw_emi.audio.decode import Decoded, Waveform, blame, decode
from abaw_emi.audio.formats import sniff
from abaw_emi.audit.fingerprint import MOST_SECONDS, Fingerprint, take_fingerprint
from abaw_emi.core.constants import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE
from abaw_emi.core.errors import ClipError, Problem

VERSION = 3
"""Raised whenever `probe_file` returns something else for the same file."""

LONGEST_SECONDS = 1_800.0
"""No more is decoded of a file; the longest delivered is of 1,250 s (PAPER, section 3)."""

LOUD = 0.85
"""Of full scale: an MP3 of a clipped recording swings to both sides of where it was cut off, and libsndfile
and FFmpeg scale what they encode at 64 kb/s by 0.95. Speech up to full scale spends 0.1 % of its time there,
clipped at half of its peak 1 % (measured on the demo's)."""

Trouble = Literal["unreadable", "mislabelled", "no sound", "truncated", "damaged", "too short"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundProperties:
    """What a file sounds like.

    Attributes:
        seconds: its length, `LONGEST_SECONDS` at most.
        sample_rate: in Hz.
        channels: how many.
        samples_hash: SHA-256 of the decoded samples and their rate: equal for the same sound.
        mean: of the samples, within -1 and 1: what is not 0 is a DC offset.
        std: their standard deviation.
        loud: share of samples beyond `LOUD`.
        silent: whether the part that a model reads is silent.
        holes: what is missing on the way; "" where nothing is.
        late: what is wrong behind the part that a model reads; "" where nothing is.
        remarks: what else is odd about the file; "" where nothing is.
        mixed_level: RMS of the mean over the channels, over that of the channels.
    """

    seconds: float
    sample_rate: int
    channels: int
    samples_hash: str
    mean: float
    std: float
    loud: float
    silent: bool
    holes: str = ""
    late: str = ""
    remarks: str = ""
    mixed_level: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ProbeResult:
    """What a file holds: measures of its sound and a fingerprint, or why it cannot be used."""

    sound: SoundProperties | None
    rows: Fingerprint
    trouble: Trouble | None = None
    problem: str = ""


def probe_file(path: Path) -> ProbeResult:
    """What a file sounds like, or what is wrong with it; raises for nothing that a file can be."""
    try:
        with blame(path):
            return _probe_file(path)
    except ClipError as error:
        return _fail("damaged", error)


def _probe_file(path: Path) -> ProbeResult:
    try:
        sniff(path)
    except ClipError as error:
        there = path.is_file() and path.stat().st_size > 0
        return _fail("mislabelled" if there and _is_readable(path) else "unreadable", error)
    late = ""
    try:
        decoded = decode(path, LONGEST_SECONDS)
    except ClipError as error:
        try:
            decoded = decode(path, MAX_SECONDS)
        except ClipError:
            found = error.problems[0].found
            troubles: dict[str, Trouble] = {"is truncated": "truncated", "has no sound track": "no sound"}
            return _fail(next((troubles[t] for t in troubles if found.startswith(t)), "damaged"), error)
        late = _describe(error)
    waveform = _resample(decoded)
    if waveform.size < MIN_SAMPLES:
        found = f"is too short: {waveform.size} samples at {SAMPLE_RATE:,} Hz"
        return _fail("too short", ClipError(Problem(str(path), found, f"at least {MIN_SAMPLES}")))
    return ProbeResult(_measure(decoded, late), take_fingerprint(waveform))


def _measure(decoded: Decoded, late: str) -> SoundProperties:
    wave, rate = decoded.waveform, decoded.sample_rate
    read = wave[: round(MAX_SECONDS * rate)]
    return SoundProperties(
        seconds=wave.size / rate,
        sample_rate=rate,
        channels=decoded.channels,
        samples_hash=hashlib.sha256(f"{rate}:".encode() + wave.tobytes()).hexdigest(),
        mean=float(wave.mean(dtype=np.float64)),
        std=float(wave.std(dtype=np.float64)),
        loud=float((np.abs(wave) > LOUD).mean()),
        silent=float(np.ptp(read)) < SILENT_RANGE,
        holes=decoded.holes,
        late=late,
        remarks="; ".join(w.found for w in decoded.warnings if w.found != decoded.holes),
        mixed_level=decoded.mixed_level,
    )


def _resample(decoded: Decoded) -> Waveform:
    """The beginning of the sound, as long as a fingerprint covers, at `SAMPLE_RATE`."""
    wave = decoded.waveform[: round(MOST_SECONDS * decoded.sample_rate)]
    if decoded.sample_rate == SAMPLE_RATE:
        return wave
    return np.asarray(soxr.resample(wave, decoded.sample_rate, SAMPLE_RATE, quality="HQ"), np.float32)


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _fail(trouble: Trouble, error: ClipError) -> ProbeResult:
    return ProbeResult(None, np.zeros(0, np.uint32), trouble, _describe(error))


def _describe(error: ClipError) -> str:
    """What is wrong, without the path, which may change."""
    problem = error.problems[0]
    return "; ".join(filter(None, [problem.found, problem.expected and f"expected {problem.expected}"]))
