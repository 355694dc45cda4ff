import numpy as np
import pytest
from scipy.stats import spearmanr

from abaw_emi.core import constants
from abaw_emi.demo.speech import RMS, Prosody, Voice, synthesise

VOICE = Voice(pitch=120.0, tract=1.0, rate=4.0, breath=0.05, tilt=500.0, jitter=0.008)


def spoken(emotion: str, intensity: float, seed: int, seconds: float = 3.0) -> np.ndarray:
    intensities = np.array([intensity if name == emotion else 0.0 for name in constants.EMOTIONS])
    return synthesise(VOICE, Prosody.of(intensities), seconds, np.random.default_rng(seed))


def pitch_of(waveform: np.ndarray) -> float:
    """Median autocorrelation pitch of the loud frames, in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 1024)[::320]
    frames = frames[np.sqrt((frames**2).mean(1)) > RMS]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(1024), 4096)) ** 2
    autocorrelations = np.fft.irfft(spectra)[:, :400]
    shortest = 40  # 400 Hz
    return float(np.median(16_000 / (shortest + autocorrelations[:, shortest:].argmax(1))))


def test_same_generator_state_gives_the_same_bytes() -> None:
    assert spoken("Joy", 0.5, 3).tobytes() == spoken("Joy", 0.5, 3).tobytes()
    assert spoken("Joy", 0.5, 3).tobytes() != spoken("Joy", 0.5, 4).tobytes()


@pytest.mark.parametrize("seconds", [0.064, 0.5, 3.0, 13.0])
def test_length_type_and_loudness(seconds: float) -> None:
    waveform = spoken("Amusement", 0.4, 1, seconds)
    assert waveform.dtype == np.float32
    assert waveform.shape == (round(seconds * 16_000),)
    assert np.sqrt(np.mean(waveform.astype(float) ** 2)) == pytest.approx(RMS, rel=1e-5)


def test_joy_raises_the_pitch() -> None:
    strengths = np.linspace(0.0, 0.6, 20)
    pitches = [pitch_of(spoken("Joy", strength, seed)) for seed, strength in enumerate(strengths)]
    assert spearmanr(strengths, pitches).statistic > 0.8


def test_determination_flattens_the_tilt() -> None:
    def high_share(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return float(power[len(power) // 4 :].sum() / power.sum())

    # One seed, so one sequence of vowels: they move the balance of low and high as much as the tilt.
    strengths = np.linspace(0.0, 0.6, 20)
    shares = [high_share(spoken("Determination", strength, 0)) for strength in strengths]
    assert spearmanr(strengths, shares).statistic > 0.8


def test_the_other_drives_change_the_prosody_and_nothing_else() -> None:
    neutral = Prosody.of(np.zeros(6))
    driven = {
        "Admiration": "breath",
        "Amusement": "pitch_range",
        "Determination": "tilt",
        "Empathic Pain": "jitter",
        "Excitement": "rate",
        "Joy": "pitch",
    }
    for emotion, property_ in driven.items():
        prosody = Prosody.of(np.array([0.5 * (name == emotion) for name in constants.EMOTIONS]))
        changed = {name for name in driven.values() if getattr(prosody, name) != getattr(neutral, name)}
        assert changed == {property_}
