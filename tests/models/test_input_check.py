"""A model that is called by hand says when its waveforms are not what it was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from abaw_emi.batching.batches import make_batch
from abaw_emi.core.errors import UsageError
from abaw_emi.models.emi import EmiModel
from tests.small_models import ENCODERS, make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(*decibels: float, standardise: bool) -> tuple[Tensor, Tensor]:
    """Clips of these levels and of different lengths, padded with zeros."""
    clips = [
        make_example(number, 3_000 + 2_000 * number, decibels=level) for number, level in enumerate(decibels)
    ]
    batch = make_batch(clips, standardise=standardise)
    assert batch.waveforms is not None
    return batch.waveforms, batch.lengths


def compute(model: EmiModel, waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Without the check."""
    return model.regress(*model.encode(waveforms, lengths))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_waveforms_that_are_not_normalised_are_named_once_and_computed_all_the_same(encoder: str) -> None:
    model = small_model(encoder)
    waveforms, lengths = inputs(-20, -30, standardise=False)
    with pytest.warns(UserWarning, match="^waveforms: clip 0 of the batch has mean ") as warned:
        found = [model(waveforms, lengths) for _ in range(3)]
    (warning,) = warned
    assert "deviation 0.1;" in str(warning.message)
    assert warning.filename == __file__
    for intensities in found:
        torch.testing.assert_close(intensities, compute(model, waveforms, lengths), rtol=0, atol=0)


@pytest.mark.parametrize("change", [lambda x: x + 0.5, lambda x: 30 * x, lambda x: 0.3 * x])
def test_an_offset_and_a_wrong_level_are_seen_in_any_clip(change: object) -> None:
    waveforms, lengths = inputs(-20, -20, standardise=True)
    waveforms[1] = change(waveforms[1])  # type: ignore[operator]
    with pytest.warns(UserWarning, match="clip 1 of the batch"):
        small_model("logmel")(waveforms, lengths)


def test_normalised_clips_are_not_warned_of_whatever_their_level_and_what_lies_beyond_their_end() -> None:
    model = small_model("logmel")
    waveforms, lengths = inputs(0, -20, -74, -200, standardise=True)
    beyond = torch.arange(waveforms.shape[1]) >= lengths[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(waveforms, lengths)
        model(waveforms.masked_fill(beyond, 1e4), lengths)
        model.train()(waveforms, lengths)


def test_a_model_that_normalises_nothing_takes_any_level() -> None:
    model = small_model("layer", backbone={"do_normalize": False})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(*inputs(-20, -30, standardise=False))


def test_training_without_masks_is_warned_of_once() -> None:
    waveforms, lengths = inputs(-20, -20, standardise=True)
    model = small_model("layer").train()
    with torch.enable_grad(), pytest.warns(UserWarning, match="^training without LayerDrop") as warned:
        _ = [model(waveforms, lengths) for _ in range(2)]
    (warning,) = warned
    assert warning.filename == __file__


def test_training_with_masks_or_without_gradients_is_not_warned_of() -> None:
    waveforms, lengths = inputs(-20, -20, standardise=True)
    model = small_model("layer").train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(waveforms, lengths)
        with torch.enable_grad():
            model(waveforms, lengths, model.draw_masks(lengths.tolist(), np.random.default_rng(1)))


def test_the_names_of_transformers_are_taken() -> None:
    model = small_model("logmel")
    waveforms, lengths = inputs(-20, -30, standardise=True)
    mask = (torch.arange(waveforms.shape[1]) < lengths[:, None]).int()
    expected = model(waveforms, lengths)
    assert torch.equal(model(input_values=waveforms, attention_mask=mask), expected)
    assert torch.equal(model(waveforms, lengths.int()), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, _: {"waveforms": x}, r"^lengths: not given; expected model\(waveforms, lengths\), or"),
        (lambda x, n: {"waveforms": x, "lengths": n, "input_values": x}, "^waveforms: given twice"),
        (lambda x, n: (x, n.tolist()), r"^lengths: a list; expected a tensor of integers \(2,\)"),
        (lambda x, n: (x, n.float()), r"^lengths: float32 of shape \(2,\); expected a tensor of integers"),
        (lambda x, n: (x, n[:1]), r"^lengths: int64 of shape \(1,\); expected"),
        (lambda x, n: (x, torch.ones_like(x)), r"^lengths: float32 of .*; give a mask as attention_mask$"),
        (lambda x, n: (x, n + 1), r"^lengths, clip 1 of the batch: 5001; .* 400 to 5000$"),
        (lambda x, n: (x, n * 0), "^lengths, clip 0 of the batch: 0; expected"),
        (lambda x, n: (x[:, None], n), r"^waveforms: float32 of shape \(2, 1, 5000\); .* floats \(B, T\)$"),
        (lambda x, n: (x.short(), n), "^waveforms: int16 of shape"),
        (lambda x, n: (x.numpy(), n), "^waveforms: a ndarray; expected a tensor"),
        (lambda x, n: {"input_values": x, "attention_mask": n}, r"^attention_mask: int64 of shape \(2,\);"),
    ],
)
def test_input_of_another_form_is_refused_in_a_sentence(
    change: Callable[[Tensor, Tensor], Any], message: str
) -> None:
    given = change(*inputs(-20, -30, standardise=True))
    arguments, named = ((), given) if isinstance(given, dict) else (given, {})
    with pytest.raises(UsageError, match=message):
        small_model("logmel")(*arguments, **named)
