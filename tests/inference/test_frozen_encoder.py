"""Frames of a frozen encoder are kept, and change nothing but the time."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.inference.frozen_encoder import FixedPart, encode_examples, find_fixed_part
from abaw_emi.inference.predict import predict
from abaw_emi.models.distributed import World
from abaw_emi.models.emi import EmiModel
from tests.inference.test_predict import Counting
from tests.small_models import CPU, ENCODERS, make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clips() -> list[Example]:
    lengths = np.random.default_rng(0).integers(400, 192_000, 24)
    return [make_example(number, int(samples)) for number, samples in enumerate(lengths)]


def frozen(encoder: str = "layer", **changes: Any) -> EmiModel:
    return small_model(encoder, freeze_encoder=True, **changes)


def encode(model: EmiModel, clips: list[Example], reporter: Counting | None = None) -> list[Example]:
    runtime = replace(CPU, reporter=reporter or Counting())
    encoded = encode_examples(model, find_part(model), clips, runtime)
    assert encoded is not None
    return encoded


def find_part(model: EmiModel) -> FixedPart:
    part = find_fixed_part(model, training=True)
    assert part is not None
    return part


@pytest.mark.parametrize("encoder", ENCODERS)
def test_predictions_from_kept_frames_are_those_from_sound(encoder: str, clips: list[Example]) -> None:
    model = frozen(encoder)
    encoded = encode(model, clips)
    assert [(clip.filename, clip.samples) for clip in encoded] == [
        (clip.filename, clip.samples) for clip in clips
    ]
    found = predict(model, encoded, CPU)
    # To the bit on a CPU, whichever encoder: the groups are the same.
    assert found.equals(predict(model, clips, CPU))


def test_frames_are_made_once(clips: list[Example], cache: Path) -> None:
    first, second = Counting(), Counting()
    before = encode(frozen(), clips[:5], first)
    after = encode(frozen(), clips[:7][::-1], second)[::-1]
    assert "frames of 5 clips" in first.said[0]
    assert "frames of 2 clips" in second.said[0]
    for left, right in zip(before, after, strict=False):
        np.testing.assert_array_equal(left.frames.read(), right.frames.read())
    third = Counting()
    encode(frozen(), clips[:7], third)
    assert not third.said
    # What follows the frames, and what only training uses, makes no other encoder; its weights do.
    model = frozen(lstm_layers=1)
    state = frozen().state_dict()
    model.load_state_dict({name: state[name] for name in state if not name.startswith("lstm.")}, strict=False)
    with torch.no_grad():
        model.encoder.wav2vec2.masked_spec_embed += 1
    encode(model, clips[:7], third)
    assert not third.said
    encode(frozen(seed=1), clips[:7], third)
    assert "frames of 7 clips" in third.said[0]
    assert len(list(cache.glob("frames-*"))) == 2


def test_processes_that_train_together_encode_a_share_each(clips: list[Example]) -> None:
    barrier, most = Barrier(2), [False, False]
    models = frozen(), frozen()

    class Together(World):
        def most(self, value: int) -> int:
            most[self.rank] = bool(value)
            barrier.wait(60)
            return max(most)

    def run(rank: int) -> tuple[list[str], list[Example] | None]:
        reporter = Counting()
        runtime = replace(CPU, reporter=reporter, world=Together(rank=rank, size=2))
        return reporter.said, encode_examples(models[rank], find_part(models[rank]), clips[:7], runtime)

    with ThreadPoolExecutor(2) as pool:
        (said, found), (others_said, others) = pool.map(run, (0, 1))
    assert "frames of 4 clips" in said[0]
    assert "frames of 3 clips" in others_said[0]
    expected = encode(frozen(), clips[:7])
    assert found is not None
    assert others is not None
    for one, other, alone in zip(found, others, expected, strict=True):
        np.testing.assert_array_equal(one.frames.read(), alone.frames.read())
        np.testing.assert_array_equal(other.frames.read(), alone.frames.read())


def test_threads_make_the_same_frames(
    clips: list[Example], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [clip.frames.read() for clip in encode(frozen(), clips)]
    shutil.rmtree(cache)
    monkeypatch.setattr("abaw_emi.inference.workers.count_cores", lambda: 2)
    torch.set_num_threads(2)
    shared = [clip.frames.read() for clip in encode(frozen(), clips)]
    torch.set_num_threads(1)
    for left, right in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(left, right)


def test_damaged_frames_are_made_anew_with_a_warning(clips: list[Example], cache: Path) -> None:
    before = [clip.frames.read() for clip in encode(frozen(), clips[:3])]
    file = next(cache.glob("frames-*/*.array"))
    content = bytearray(file.read_bytes())
    content[-1_000] ^= 64
    file.write_bytes(bytes(content))
    reporter = Counting()
    model = frozen()
    after = encode(model, clips[:3], reporter)
    model.train()  # as while the head is trained
    for _ in range(2):
        for left, right in zip(before, after, strict=True):
            np.testing.assert_array_equal(left, right.frames.read())
        (warning,) = reporter.warnings
        assert "a damaged entry" in str(warning)
    assert not reporter.said
    shutil.rmtree(cache)
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left, right.frames.read())


def test_without_room_the_encoder_runs_in_every_pass(
    clips: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 2**40
        used: int = 2**40
        free: int = 0

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage())
    reporter = Counting()
    model = frozen()
    found = encode_examples(model, find_part(model), clips[:2], replace(CPU, reporter=reporter))
    assert found is None
    (warning,) = reporter.warnings
    assert "cannot be written (0.0 GiB, with 2 GiB to spare, are not free)" in str(warning)


def train(model: EmiModel, clips: list[Example], group_size: int) -> dict[str, torch.Tensor]:
    """The head's weights after two epochs of plain gradient descent."""
    rng = np.random.default_rng(0)
    labels = {clip.filename: rng.random(len(EMOTIONS), dtype=np.float32) for clip in clips}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    model.train()
    for _ in range(2):
        for start in range(0, len(clips), group_size):
            group = clips[start : start + group_size]
            batch = make_batch(group, labels)
            assert len(batch) == len(group)
            assert batch.filenames == tuple(clip.filename for clip in group)
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(batch.to(CPU.device).run(model), batch.intensities).backward()
            optimizer.step()
    return {name: weight for name, weight in model.state_dict().items() if not name.startswith("encoder.")}


@pytest.mark.parametrize(("group_size", "tolerance"), [(1, 0.0), (4, 1e-5)])
def test_training_on_kept_frames_ends_with_the_same_weights(
    clips: list[Example], group_size: int, tolerance: float
) -> None:
    clips = sorted(clips, key=lambda clip: -clip.samples)[:12]
    expected = train(frozen(), clips, group_size)
    model = frozen()
    found = train(model, encode(model, clips), group_size)
    assert any(not torch.equal(weight, frozen().state_dict()[name]) for name, weight in found.items())
    for name, weight in found.items():
        # Frames are made clip by clip: to the bit where training runs clips alone, too.
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=tolerance)


def test_a_batch_of_frames_pads_with_zeros_and_has_an_empty_row_for_missing_sound(
    clips: list[Example],
) -> None:
    encoded = encode(frozen(), clips[:3])
    silent = Example(filename="00099", samples=400)
    batch = make_batch([*encoded, silent])
    assert batch.waveforms is None
    assert batch.intensities is None
    assert batch.lengths.tolist() == [*(example.frames.shape[0] for example in encoded), 1]
    for row, example in zip(batch.frames, encoded, strict=False):
        length = example.frames.shape[0]
        np.testing.assert_array_equal(row[:length].numpy(), example.frames.read())
        assert not row[length:].any()
    assert not batch.frames[-1].any()


def test_only_sound_is_encoded(clips: list[Example]) -> None:
    silent, reporter = Example(filename="00099", samples=400), Counting()
    first, second, third = encode(frozen(), [clips[0], silent, clips[1]], reporter)
    assert "frames of 2 clips" in reporter.said[0]
    assert second is silent
    assert first.frames is not None
    assert third.frames is not None
