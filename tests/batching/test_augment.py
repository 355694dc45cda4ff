from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abaw_emi.batching.augment import Augmentation
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.core.constants import MIN_SAMPLES, SAMPLE_RATE
from tests.small_models import normalise

EVERYTHING = AugmentationConfig(
    speed=(0.9, 1.0, 1.1), noise_probability=0.5, gain_db=6.0, time_mask_seconds=0.3
)


def tone(samples: int, frequency: float = 440.0) -> Tensor:
    return 0.3 * torch.sin(2 * math.pi * frequency * torch.arange(samples) / SAMPLE_RATE)


def vary(augmentation: Augmentation, waveform: Tensor, seed: int) -> Tensor:
    generator = np.random.default_rng(seed)
    raw = augmentation.before_normalising(waveform, generator)
    return augmentation.after_normalising(torch.from_numpy(normalise(raw.numpy())), generator)


def decibels(power_ratio: Any) -> float:
    return 10 * math.log10(float(power_ratio))


def peak(waveform: Tensor) -> float:
    """The loudest frequency, in Hz."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return int(spectrum.argmax()) * SAMPLE_RATE / len(waveform)


def test_without_config_nothing_is_varied_and_nothing_drawn() -> None:
    augmentation, generator = Augmentation(AugmentationConfig()), np.random.default_rng(1)
    before = generator.bit_generator.state
    waveform = tone(1_000)
    assert torch.equal(augmentation.before_normalising(waveform, generator), waveform)
    assert torch.equal(augmentation.after_normalising(waveform, generator), waveform)
    assert generator.bit_generator.state == before


@settings(max_examples=40, deadline=None)
@given(st.integers(MIN_SAMPLES, 20_000), st.integers(0, 2**32))
def test_a_variation_depends_on_waveform_and_generator_alone(samples: int, seed: int) -> None:
    waveform = tone(samples) + 0.01
    original = waveform.clone()
    torch.manual_seed(1)
    first = vary(Augmentation(EVERYTHING), waveform, seed)
    torch.manual_seed(2)
    np.random.seed(3)
    random.seed(4)
    again = vary(Augmentation(EVERYTHING), waveform, seed)
    assert torch.equal(first, again)
    assert torch.equal(waveform, original), "the clip itself was changed"
    assert first.dtype == torch.float32
    assert first.isfinite().all()
    assert len(first) >= MIN_SAMPLES


def test_global_generators_are_left_alone() -> None:
    torch_state, numpy_state, state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    for seed in range(20):
        vary(Augmentation(EVERYTHING), tone(8_000), seed)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == state
    now: Any = np.random.get_state()
    assert all(np.array_equal(one, other) for one, other in zip(now, numpy_state, strict=True))


def test_other_seeds_give_other_variations() -> None:
    varied = [vary(Augmentation(EVERYTHING), tone(8_000), seed) for seed in range(8)]
    assert len({tuple(waveform.tolist()) for waveform in varied}) == 8


@pytest.mark.parametrize("factor", [0.5, 0.57, 0.9, 1.1, 1.25, 2.0])
def test_speed_changes_length_and_pitch_and_keeps_loudness(factor: float) -> None:
    waveform = tone(16_000)
    augmentation = Augmentation(AugmentationConfig(speed=(factor,)))
    faster = augmentation.before_normalising(waveform, np.random.default_rng(1))
    assert len(faster) == math.ceil(16_000 / factor - 1e-9)
    assert peak(faster) == pytest.approx(440 * factor, abs=2)
    inner = slice(200, -200)  # the filter sees silence beyond both ends
    loudness = decibels(faster[inner].square().mean() / waveform[inner].square().mean())
    assert loudness == pytest.approx(0, abs=0.05)


def test_speeds_come_about_equally_often() -> None:
    augmentation = Augmentation(AugmentationConfig(speed=(0.8, 1.0, 1.25)))
    generator = np.random.default_rng(1)
    lengths = [len(augmentation.before_normalising(tone(1_000), generator)) for _ in range(600)]
    assert set(lengths) == {1_250, 1_000, 800}
    assert all(150 < lengths.count(length) < 250 for length in set(lengths))


def test_a_slowed_clip_is_cut_to_what_the_model_reads() -> None:
    slow = AugmentationConfig(speed=(0.5,))
    generator = np.random.default_rng(1)
    assert len(Augmentation(slow).before_normalising(tone(192_000), generator)) == 192_000
    assert len(Augmentation(slow, max_samples=900).before_normalising(tone(800), generator)) == 900
    whole = Augmentation(slow, max_samples=1_600).before_normalising(tone(800), generator)
    cut = Augmentation(slow, max_samples=900).before_normalising(tone(800), generator)
    assert torch.equal(cut, whole[:900])


@pytest.mark.parametrize(("samples", "left"), [(400, 400), (798, 798), (799, 400), (801, 401)])
def test_a_clip_never_becomes_too_short_for_a_frame(samples: int, left: int) -> None:
    augmentation = Augmentation(AugmentationConfig(speed=(2.0,)))
    assert len(augmentation.before_normalising(tone(samples), np.random.default_rng(1))) == left


@pytest.mark.parametrize("ratio", [-10.0, 0.0, 20.0])
def test_noise_has_the_ratio_asked_for(ratio: float) -> None:
    waveform = tone(16_000)
    config = AugmentationConfig(noise_probability=1.0, noise_snr_db=(ratio, ratio))
    noisy = Augmentation(config).before_normalising(waveform, np.random.default_rng(1))
    noise = noisy - waveform
    assert decibels(waveform.square().sum() / noise.square().sum()) == pytest.approx(ratio, abs=0.01)
    halves = torch.fft.rfft(noise)[:8_000].abs().square().view(2, -1).sum(dim=1)
    assert decibels(halves[0] / halves[1]) == pytest.approx(0, abs=0.5), (
        "white noise is equally loud everywhere"
    )


def test_noise_comes_as_often_and_as_loud_as_asked_for() -> None:
    waveform, generator = tone(2_000), np.random.default_rng(1)
    augmentation = Augmentation(AugmentationConfig(noise_probability=0.25, noise_snr_db=(5.0, 15.0)))
    noises = [augmentation.before_normalising(waveform, generator) - waveform for _ in range(400)]
    ratios = [decibels(waveform.square().sum() / n.square().sum()) for n in noises if n.any()]
    assert 70 < len(ratios) < 130
    assert min(ratios) > 4.9
    assert max(ratios) < 15.1
    assert max(ratios) - min(ratios) > 8


def test_a_silent_clip_stays_silent_and_finite() -> None:
    silence = torch.zeros(4_000)
    for seed in range(10):
        assert vary(Augmentation(EVERYTHING), silence, seed).eq(0).all()


def test_gain_is_uniform_in_decibels_and_survives_normalisation() -> None:
    waveform = torch.from_numpy(normalise(tone(4_000).numpy()))
    augmentation, generator = Augmentation(AugmentationConfig(gain_db=6.0)), np.random.default_rng(1)
    louder = [augmentation.after_normalising(waveform, generator) for _ in range(300)]
    gains = [decibels(w.square().sum() / waveform.square().sum()) for w in louder]
    assert -6.001 < min(gains) < -5.5
    assert 5.5 < max(gains) < 6.001
    assert abs(np.mean(gains)) < 0.6
    raw = augmentation.before_normalising(waveform, generator)
    assert torch.equal(raw, waveform), "a gain before normalising would have no effect"


@settings(max_examples=60, deadline=None)
@given(st.integers(MIN_SAMPLES, 6_000), st.integers(0, 2**32), st.floats(0, 0.5))
def test_one_span_at_most_is_silenced(samples: int, seed: int, seconds: float) -> None:
    waveform = torch.ones(samples)
    augmentation = Augmentation(AugmentationConfig(time_mask_seconds=seconds))
    masked = augmentation.after_normalising(waveform, np.random.default_rng(seed))
    silent = masked.eq(0).nonzero().flatten().tolist()
    assert len(silent) <= min(round(seconds * SAMPLE_RATE), round(samples / 2))
    assert silent == list(range(silent[0], silent[0] + len(silent)) if silent else [])
    assert masked.sum() == samples - len(silent)


def test_spans_lie_anywhere_and_have_any_length() -> None:
    augmentation = Augmentation(AugmentationConfig(time_mask_seconds=0.1))
    generator, hits, lengths = np.random.default_rng(1), torch.zeros(4_000), []
    for _ in range(400):
        silent = augmentation.after_normalising(torch.ones(4_000), generator).eq(0)
        hits += silent
        lengths.append(int(silent.sum()))
    assert hits[:50].sum() > 0
    assert hits[-50:].sum() > 0
    assert min(lengths) < 50
    assert max(lengths) > 1_550
    assert max(lengths) <= 1_600
