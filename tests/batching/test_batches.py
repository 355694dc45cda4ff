from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from tests.small_models import SHORTEST, from_waveform, make_example, normalise

pytestmark = pytest.mark.usefixtures("one_thread")
patient = settings(deadline=None)  # other work on the machine is no failure

CLIPS = [make_example(number, length) for number, length in enumerate([400, 5_000, 401, 1_024, 400, 3_000])]
LABELS = {clip.filename: np.arange(6, dtype=np.float32) + 10 * int(clip.filename) for clip in CLIPS}


@patient
@given(st.permutations(CLIPS), st.integers(1, len(CLIPS)))
def test_filename_waveform_and_label_stay_together_in_any_order(order: list[Example], count: int) -> None:
    clips = order[:count]
    batch = make_batch(clips, LABELS)
    assert batch.filenames == tuple(clip.filename for clip in clips)
    assert batch.lengths.tolist() == [len(clip.audio.waveform) for clip in clips]
    assert batch.intensities is not None
    assert batch.intensities.shape == (count, 6)
    for row, clip in enumerate(clips):
        length = len(clip.audio.waveform)
        correlation = np.corrcoef(batch.waveforms[row, :length].numpy(), clip.audio.waveform)[0, 1]
        assert correlation == pytest.approx(1, abs=1e-5)  # another clip's would be near 0
        assert not batch.waveforms[row, length:].any()
        assert batch.intensities[row].tolist() == [10 * int(clip.filename) + emotion for emotion in range(6)]


def test_a_clip_without_a_label_is_an_error() -> None:
    with pytest.raises(KeyError, match="00000"):
        make_batch(CLIPS, {name: label for name, label in LABELS.items() if name != "00000"})


def test_without_labels_there_are_none() -> None:
    assert make_batch(CLIPS).intensities is None


def test_a_batch_on_another_device_is_the_same_batch() -> None:
    batch = make_batch(CLIPS, LABELS).to(torch.device("meta"))
    assert batch.waveforms is not None
    assert batch.waveforms.device.type == "meta"
    assert batch.lengths.device.type == "cpu"  # in samples: see Batch
    assert batch.intensities is not None
    assert batch.intensities.device.type == "meta"
    assert batch.filenames == tuple(clip.filename for clip in CLIPS)


@patient
@given(st.integers(0, 99), st.integers(SHORTEST, 20_000), st.floats(-100, 0))
def test_normalised_waveforms_are_bitwise_those_of_transformers(
    number: int, samples: int, decibels: float
) -> None:
    example = make_example(number, samples, decibels=decibels)
    (found,) = make_batch([example]).waveforms.numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, normalise(example.audio.waveform))


def test_a_silent_clip_becomes_zeros() -> None:
    silent = from_waveform(0, np.zeros(500, np.float32))
    assert not make_batch([silent]).waveforms.any()


def test_a_batch_does_not_change_the_clips() -> None:
    clip = make_example(7, 2_000)
    before = clip.audio.waveform.copy()
    make_batch([clip]).waveforms.zero_()
    np.testing.assert_array_equal(clip.audio.waveform, before)
