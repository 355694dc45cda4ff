from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2FeatureExtractor

from abaw_emi.corpus.clips import Clip
from abaw_emi.learning.batches import make_batch, normalise, plan_epoch
from tests.learning.small_models import LONGEST, SHORTEST, make_clip

pytestmark = pytest.mark.usefixtures("one_thread")
patient = settings(deadline=None)  # other work on the machine is no failure

CLIPS = [make_clip(number, length) for number, length in enumerate([400, 5_000, 401, 1_024, 400, 3_000])]
LABELS = {clip.filename: np.arange(6, dtype=np.float32) + 10 * int(clip.filename) for clip in CLIPS}


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[int], dict[str, int]]:
    lengths = draw(st.lists(st.integers(SHORTEST, LONGEST), min_size=1, max_size=70))
    sizes = {name: draw(st.integers(1, 40)) for name in ("batch_size", "group_size")}
    return lengths, sizes | {"seed": draw(st.integers(0, 2**31)), "epoch": draw(st.integers(0, 100))}


@patient
@given(plans())
def test_an_epoch_holds_every_clip_exactly_once(plan: tuple[list[int], dict[str, int]]) -> None:
    lengths, dials = plan
    batches = plan_epoch(lengths, **dials)
    assert sorted(index for batch in batches for group in batch for index in group) == list(
        range(len(lengths))
    )


@patient
@given(plans())
def test_only_the_last_batch_and_the_last_group_may_be_smaller(
    plan: tuple[list[int], dict[str, int]],
) -> None:
    lengths, dials = plan
    batches = plan_epoch(lengths, **dials)
    assert {sum(map(len, batch)) for batch in batches[:-1]} <= {dials["batch_size"]}
    assert 0 < sum(map(len, batches[-1])) <= dials["batch_size"]
    for batch in batches:
        assert {len(group) for group in batch[:-1]} <= {dials["group_size"]}
        assert 0 < len(batch[-1]) <= dials["group_size"]


@patient
@given(plans())
def test_a_batch_runs_from_its_longest_clip_to_its_shortest(plan: tuple[list[int], dict[str, int]]) -> None:
    lengths, dials = plan
    for batch in plan_epoch(lengths, **dials):
        in_order = [lengths[index] for group in batch for index in group]
        assert in_order == sorted(in_order, reverse=True)


@patient
@given(plans())
def test_a_plan_is_a_pure_function(plan: tuple[list[int], dict[str, int]]) -> None:
    lengths, dials = plan
    before = np.random.get_state()[1].tolist()
    first = plan_epoch(lengths, **dials)
    np.random.default_rng().random()
    torch.rand(1)
    assert plan_epoch(list(lengths), **dials) == first
    assert np.random.get_state()[1].tolist() == before


@patient
@given(plans(), st.integers(1, 40), st.randoms())
def test_which_clips_share_a_batch_depends_on_neither_lengths_nor_groups(
    plan: tuple[list[int], dict[str, int]], group_size: int, random: object
) -> None:
    lengths, dials = plan

    def shared(lengths: list[int], **dials: int) -> list[set[int]]:
        return [{index for group in batch for index in group} for batch in plan_epoch(lengths, **dials)]

    random.shuffle(other := list(lengths))  # type: ignore[attr-defined]
    assert shared(other, **dials | {"group_size": group_size}) == shared(lengths, **dials)


def test_epochs_and_seeds_give_other_batches() -> None:
    lengths = list(range(400, 500))
    plans = [
        plan_epoch(lengths, batch_size=8, group_size=4, seed=seed, epoch=epoch)
        for seed in range(4)
        for epoch in range(4)
    ]
    assert len({str(plan) for plan in plans}) == 16


def test_batches_are_random_and_not_sorted() -> None:
    lengths = list(range(400, 500))
    plan = plan_epoch(lengths, batch_size=10, group_size=5, seed=1, epoch=0)
    means = [np.mean([lengths[index] for group in batch for index in group]) for batch in plan]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)
    assert np.ptp(means) < 60  # sorted batches would span 90


@patient
@given(st.permutations(CLIPS), st.integers(1, len(CLIPS)))
def test_filename_waveform_and_label_stay_together_in_any_order(order: list[Clip], count: int) -> None:
    clips = order[:count]
    batch = make_batch(clips, LABELS)
    assert batch.filenames == tuple(clip.filename for clip in clips)
    assert batch.lengths.tolist() == [len(clip.waveform) for clip in clips]
    assert batch.intensities is not None
    assert batch.intensities.shape == (count, 6)
    for row, clip in enumerate(clips):
        length = len(clip.waveform)
        correlation = np.corrcoef(batch.waveforms[row, :length].numpy(), clip.waveform)[0, 1]
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
    assert {batch.waveforms.device.type, batch.lengths.device.type} == {"meta"}
    assert batch.intensities is not None
    assert batch.intensities.device.type == "meta"
    assert batch.filenames == tuple(clip.filename for clip in CLIPS)


@patient
@given(st.integers(0, 99), st.integers(SHORTEST, 20_000), st.floats(-100, 0))
def test_normalised_waveforms_are_bitwise_those_of_transformers(
    number: int, samples: int, decibels: float
) -> None:
    waveform = make_clip(number, samples, decibels=decibels).waveform
    expected = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16_000)["input_values"][0]
    found = normalise(waveform)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_silent_clip_becomes_zeros() -> None:
    np.testing.assert_array_equal(normalise(np.zeros(500, np.float32)), np.zeros(500))


def test_a_batch_does_not_change_the_clips() -> None:
    clip = make_clip(7, 2_000)
    before = clip.waveform.copy()
    make_batch([clip]).waveforms.zero_()
    np.testing.assert_array_equal(clip.waveform, before)
