"""Babble with a driven tone of voice: a small formant synthesiser in numpy.

A pulse train and breath noise (the source) pass through four moving formants (the vocal tract).
Nobody would take it for speech, but pitch, range, rate, breath, tilt and jitter are where they are
in speech, and how strongly each is driven is known, which no real corpus can say.

Everything is drawn from the generator that is handed in: same voice, prosody, length and generator
state, same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import hann

from abaw_emi.core import constants

RMS = 0.1
"""Root mean square of every synthesised waveform: loudness carries nothing."""

_CONTROL_HOP = 160  # samples from one control value (pitch, formants, envelope) to the next: 10 ms
_WINDOW = 480  # samples; three hops, so that the windows add up to a constant
_FFT = 1024  # the window, and the samples in which the filter rings out
_VOWELS = np.array(  # F1 to F4 in Hz of a male speaker: Peterson and Barney (1952); F4 by custom
    [
        (270.0, 2290.0, 3010.0, 3600.0),  # heed
        (530.0, 1840.0, 2480.0, 3500.0),  # head
        (660.0, 1720.0, 2410.0, 3500.0),  # had
        (730.0, 1090.0, 2440.0, 3400.0),  # hod
        (570.0, 840.0, 2410.0, 3300.0),  # hawed
        (300.0, 870.0, 2240.0, 3300.0),  # who'd
        (490.0, 1350.0, 1690.0, 3300.0),  # heard
    ]
)
_BANDWIDTHS = np.array((70.0, 100.0, 140.0, 220.0))  # of F1 to F4, in Hz


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """What a speaker brings along; the same in all clips of the speaker.

    Attributes:
        pitch: Median fundamental frequency, in Hz.
        tract: Formant frequencies over those of the vowel table; a shorter vocal tract is above 1.
        rate: Syllables per second.
        breath: Amplitude of the breath noise over that of the pulses.
        tilt: Corner of the glottal low-pass, in Hz: a lower corner is a softer voice.
        jitter: Standard deviation of a pulse's place, in periods.
    """

    pitch: float
    tract: float
    rate: float
    breath: float
    tilt: float
    jitter: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Voice:
        """A speaker at random: two groups of tract length, and a pitch that goes with the tract."""
        tract = (1.0 if rng.random() < 0.5 else 1.17) * np.exp(0.03 * rng.standard_normal())
        # From 1 to 1.17 in tract is some nine semitones in pitch: the usual male and female medians.
        pitch = 115.0 * tract**3.6 * 2.0 ** (1.0 * rng.standard_normal() / 12)
        return cls(
            pitch=float(pitch),
            tract=float(tract),
            rate=float(4.0 * np.exp(0.08 * rng.standard_normal())),
            breath=float(0.05 * np.exp(0.25 * rng.standard_normal())),
            tilt=float(500.0 * np.exp(0.15 * rng.standard_normal())),
            jitter=float(0.008 * np.exp(0.25 * rng.standard_normal())),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Prosody:
    """How a clip is spoken, relative to the speaker's own voice; the defaults are neutral.

    Attributes:
        pitch: Shift of the pitch, in semitones.
        pitch_range: Mean size of the syllables' accents, up and down in turns, in semitones.
        rate: Factor on the speaker's syllable rate.
        breath: Factor on the speaker's breath noise.
        tilt: Factor on the corner of the speaker's glottal low-pass.
        jitter: Added to the speaker's jitter, in periods.
    """

    pitch: float = 0.0
    pitch_range: float = 1.0
    rate: float = 1.0
    breath: float = 1.0
    tilt: float = 1.0
    jitter: float = 0.0

    @classmethod
    def of(cls, intensities: NDArray[np.float64]) -> Prosody:
        """The prosody that six intensities (6,) in [0, 1], in the official order, drive.

        One property each, so that it is known what a model has to find: Admiration the breath,
        Amusement the pitch range, Determination a pressed voice (flatter tilt), Empathic Pain the
        jitter, Excitement the syllable rate, Joy the pitch. Loudness is left alone: encoders
        normalise it away. Each follows the root of its intensity, so that a slight emotion is audible
        already, and the label is no linear function of the sound.

        >>> round(Prosody.of(np.array((0, 0, 0, 0, 0, 0.25))).pitch, 3)
        7.0
        """
        drive = dict(zip(constants.EMOTIONS, map(float, np.sqrt(intensities)), strict=True))
        return cls(
            pitch=14.0 * drive["Joy"],
            pitch_range=1.0 + 8.0 * drive["Amusement"],
            rate=2.0 ** (1.2 * drive["Excitement"]),
            breath=2.0 ** (4.5 * drive["Admiration"]),
            tilt=2.0 ** (3.0 * drive["Determination"]),
            jitter=0.12 * drive["Empathic Pain"],
        )


def synthesise(
    voice: Voice, prosody: Prosody, seconds: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A waveform (T,) at 16 kHz of the given length, with the root mean square `RMS`."""
    samples = max(1, round(seconds * constants.SAMPLE_RATE))
    controls = samples // _CONTROL_HOP + 2
    times = np.arange(controls, dtype=np.float64) * (_CONTROL_HOP / constants.SAMPLE_RATE)  # (C,)
    borders, is_pause = _syllables(voice.rate * prosody.rate, float(times[-1]), rng)
    envelope = _envelope(times, borders, is_pause)  # (C,)

    middles = (borders[:-1] + borders[1:]) / 2
    # High and low take turns, so that even a short clip has the range that it was given.
    turns = np.where((np.arange(len(middles)) + rng.integers(2)) % 2, 1.0, -1.0)
    accents = prosody.pitch_range * turns * rng.uniform(0.6, 1.4, len(middles))
    semitones = prosody.pitch + np.interp(times, middles, accents)
    pitch = np.maximum(voice.pitch * 2.0 ** (semitones / 12), 50.0)  # (C,), in Hz

    vowels = _VOWELS[rng.integers(len(_VOWELS), size=len(middles))] * voice.tract
    formants = np.stack([np.interp(times, middles, track) for track in vowels.T], axis=1)  # (C, 4)

    at_samples = np.arange(samples) / _CONTROL_HOP
    loudness = np.interp(at_samples, np.arange(controls), envelope)
    pulses = _pulses(np.interp(at_samples, np.arange(controls), pitch), voice.jitter + prosody.jitter, rng)
    corner = min(voice.tilt * prosody.tilt, 0.45 * constants.SAMPLE_RATE)
    breath = voice.breath * prosody.breath * rng.standard_normal(samples)
    waveform = _through_tract(pulses * loudness, breath * loudness, corner, formants)
    # Room noise: without it the pauses' digital silence would be the loudest cue of all in log-mels.
    floor = 10 ** (rng.uniform(-50, -35) / 20) * np.sqrt(np.mean(waveform**2))
    waveform += floor * rng.standard_normal(samples)
    return np.asarray(waveform * (RMS / np.sqrt(np.mean(waveform**2))), np.float32)


def _syllables(
    rate: float, seconds: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Borders (S + 1,) of the syllables in s, from 0 to the end; which of them (S,) are pauses."""
    count = int(seconds * rate * 2) + 8
    lengths = np.exp(0.15 * rng.standard_normal(count)) / rate
    is_pause = np.zeros(count, np.bool_)
    phrases = np.cumsum(rng.integers(5, 10, size=count // 5 + 1))
    is_pause[phrases[phrases < count]] = True
    # A pause does not follow the rate: its length says nothing about Excitement.
    lengths[is_pause] = rng.uniform(0.15, 0.4, size=int(is_pause.sum()))
    borders = np.concatenate(([0.0], np.cumsum(lengths)))
    # A speaker seldom starts with the recording: up to a fifth of it is silent at either end.
    lead, trail = seconds * rng.uniform(0.0, 0.2, size=2)
    last = max(int(np.searchsorted(borders, seconds - lead - trail)), 1)
    borders = np.concatenate(([0.0], lead + borders[: last + 1], [seconds]))
    return borders, np.concatenate(([True], is_pause[:last], [True]))


def _envelope(
    times: NDArray[np.float64], borders: NDArray[np.float64], is_pause: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Amplitude (C,) over time: an arch for every syllable, nothing in a pause."""
    index = np.clip(np.searchsorted(borders, times, side="right") - 1, 0, len(is_pause) - 1)
    place = np.clip((times - borders[index]) / (borders[index + 1] - borders[index]), 0.0, 1.0)
    arch = 0.06 + 0.94 * np.sin(np.pi * place) ** 1.2
    return np.where(is_pause[index], 0.0, arch)


def _pulses(pitch: NDArray[np.float64], jitter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A pulse train (T,) of unit power whose periods follow `pitch` (T,) in Hz, each a little misplaced."""
    samples = len(pitch)
    phase = np.cumsum(pitch) / constants.SAMPLE_RATE + rng.random()  # in periods
    wanted = np.arange(np.ceil(phase[0]), np.floor(phase[-1]) + 1)
    places = np.interp(wanted, phase, np.arange(samples))
    periods = constants.SAMPLE_RATE / pitch[places.astype(np.intp)]
    places = np.clip(places + jitter * periods * rng.standard_normal(len(places)), 0.0, samples - 1.0)
    # The root of the period gives every pitch the same power, so that breath means the same for all.
    heights = np.sqrt(periods)
    before = places.astype(np.intp)
    after = np.minimum(before + 1, samples - 1)
    share = places - before  # between two samples, a pulse is shared by both
    train = np.bincount(before, heights * (1 - share), samples) + np.bincount(after, heights * share, samples)
    return np.asarray(train, np.float64)


def _through_tract(
    pulses: NDArray[np.float64],
    breath: NDArray[np.float64],
    corner: float,
    formants: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The source (T,) through the glottal low-pass, the four formants (C, 4) and the lips: (T,).

    Window by window in the frequency domain, because a filter that moves every 10 ms costs thousands
    of small calls in the time domain.
    """
    samples, controls = len(pulses), len(formants)
    z = np.exp(-2j * np.pi * np.arange(_FFT // 2 + 1) / _FFT)  # (K,), one sample's delay
    pole = np.exp(-2 * np.pi * corner / constants.SAMPLE_RATE)
    glottis = (1 - pole) / (1 - pole * z)
    window = hann(_WINDOW, sym=False) / 1.5
    at = np.arange(controls)[:, None] * _CONTROL_HOP + np.arange(_WINDOW)  # (C, W)
    edge = np.zeros(_WINDOW // 2)  # the first window is centred on the first sample

    def spectrum(source: NDArray[np.float64]) -> NDArray[np.complex128]:
        padded = np.concatenate((edge, source, np.zeros(controls * _CONTROL_HOP + _WINDOW - samples)))
        return np.fft.rfft(padded[at] * window, _FFT)  # (C, K)

    spectra = spectrum(pulses) * glottis + spectrum(breath)
    spectra *= 1 - 0.95 * z  # radiation at the lips
    for frequencies, bandwidth in zip(formants.T, _BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / constants.SAMPLE_RATE)
        first = -2 * radius * np.cos(2 * np.pi * frequencies / constants.SAMPLE_RATE)  # (C,)
        second = radius**2
        gain = 1 + first + second  # unity at 0 Hz, as in a cascade
        spectra *= gain[:, None] / (1 + first[:, None] * z + second * z**2)
    frames = np.fft.irfft(spectra, _FFT)  # (C, FFT)
    out = np.zeros(controls * _CONTROL_HOP + _FFT)
    for index, frame in enumerate(frames):
        out[index * _CONTROL_HOP : index * _CONTROL_HOP + _FFT] += frame
    return out[_WINDOW // 2 : _WINDOW // 2 + samples]
