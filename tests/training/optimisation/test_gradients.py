"""The groups of a step held together or one after the other: the same outputs, loss and gradients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from abaw_emi.batching.batches import Batch
from abaw_emi.batching.loader import Loader
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.progress import Reporter
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.gradients import Gradients, Place
from tests.models.test_fusion import build, cache, make_clips
from tests.small_models import CPU, make_example, small_model

__all__ = ["cache"]  # a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

_CALM = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0
)


def compute(model: EmiModel, clips: Any, loss: str, *, joined: bool) -> tuple[Any, ...]:
    """Groups run, outputs, loss, gradients by name, warnings and whether groups are still joined."""
    config = TrainingConfig(batch_size=8, group_size=3, loss=loss)
    labels = {
        clip.filename: np.sin(np.arange(6) + number).astype(np.float32) for number, clip in enumerate(clips)
    }
    loader = Loader(examples=clips, labels=labels, model=model, config=config)
    runtime = replace(CPU, reporter=Reporter(quiet=True))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    gradients = Gradients(model, config, runtime, scaler, partial(model.zero_grad, set_to_none=False))
    gradients.joined = joined
    model.train()
    remake = partial(loader.make, range(len(clips)), 0, 0)
    step, outputs, value = gradients.compute(remake(), Place(0, 0), remake)
    found = {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }
    return len(step.groups), outputs, value, found, runtime.reporter.warnings, gradients.joined


def compare(model: EmiModel, clips: Any, loss: str) -> None:
    apart, joined = (compute(model, clips, loss, joined=way) for way in (False, True))
    assert apart[0] == joined[0] == 3
    torch.testing.assert_close(joined[1], apart[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(joined[2], apart[2], rtol=1e-5, atol=1e-5)
    assert joined[3].keys() == apart[3].keys()
    most = max(float(expected.abs().max()) for expected in apart[3].values())
    for name, expected in apart[3].items():
        # An output's shift changes no correlation: what is left of such a gradient is rounding.
        scale = float(expected.abs().max()) + 0.01 * most
        torch.testing.assert_close(joined[3][name] / scale, expected / scale, rtol=0, atol=2e-5, msg=name)


@pytest.mark.parametrize("loss", ["mse", "pearson", "mse+0.5*ccc"])
@pytest.mark.parametrize("encoder", ["layer", "group", "logmel"])
def test_sound_gives_the_same_gradients(encoder: str, loss: str) -> None:
    clips = [make_example(number, 700 + 911 * number) for number in range(8)]
    compare(small_model(encoder, backbone=_CALM), clips, loss)


@pytest.mark.parametrize("kind", ["concatenate", "mean", "text-anchored"])
@pytest.mark.parametrize("loss", ["mse", "ccc"])
def test_modalities_some_of_them_missing_give_the_same_gradients(kind: str, loss: str, cache: Any) -> None:
    present = [(True, True), (False, True), (True, False), (True, True)] * 2
    parts = {"attention_dropout": 0.0} if kind == "text-anchored" else {}
    compare(build(kind, **parts), make_clips(cache, present), loss)


@pytest.mark.parametrize("kind", ["concatenate", "text-anchored"])
def test_a_gate_has_the_gradients_of_its_loss(kind: str, cache: Any) -> None:
    present = [(True, True), (False, True), (True, False), (True, True)] * 2
    model = build(kind, gate=True, attention_dropout=0.0)
    for loss in ("mse+0.5*gate", "0.3*gate+0.2*mse+0.5*pearson"):
        compare(model, make_clips(cache, present), loss)


def test_auxiliary_heads_have_the_gradients_of_their_losses(cache: Any) -> None:
    present = [(True, True), (False, True), (True, False), (True, True)] * 2
    model = build("concatenate", auxiliary=(0.5, 0.2))
    for loss in ("mse", "ccc"):
        compare(model, make_clips(cache, present), loss)
        assert model.auxiliary.heads[1].projection.bias.grad.any()


@pytest.mark.parametrize("where", ["regress", "backward"])
def test_what_does_not_fit_together_runs_one_group_after_the_other(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [make_example(number, 700 + 911 * number) for number in range(8)]
    model = small_model("layer", backbone=_CALM)
    expected = compute(model, clips, "mse", joined=False)
    regress = EmiModel.regress

    def limited(self: EmiModel, frames: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        if len(frames) > 3 and where == "regress":
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        output = regress(self, frames, *rest, **options)
        if len(frames) > 3:
            output.register_hook(lambda _: fail())
        return output

    monkeypatch.setattr(EmiModel, "regress", limited)
    found = compute(model, clips, "mse", joined=True)
    assert found[-1] is False
    assert "the graphs of 8 clips do not fit the device's memory together" in str(found[-2][0])
    for name, value in expected[3].items():
        assert torch.equal(found[3][name], value), name


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "encoded", lambda batch, model: exec("raise RuntimeError('a fault')"))
    with pytest.raises(RuntimeError, match="a fault"):
        compute(small_model("layer"), [make_example(0, 900)], "mse", joined=True)


def fail() -> None:
    raise torch.OutOfMemoryError("no memory left, says the test")
