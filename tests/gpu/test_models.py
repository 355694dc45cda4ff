"""A GPU's frames, intensities and gradients are a CPU's."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.config.parts import LogMelConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.inference.predict import predict
from abaw_emi.models.device import Runtime, set_up_gpus
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.gradients import Gradients, Place
from tests.models.test_fusion import build, cache, make_clips
from tests.small_models import CPU, ENCODERS, LONGEST, make_example, small_model

__all__ = ["cache"]  # a fixture

pytestmark = pytest.mark.gpu

LENGTHS = (400, 719, 1_024, 3_279, 20_000, 20_000, 64_321, LONGEST)

CALM = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0
)


def intensities(model: EmiModel, examples: list[Example], runtime: Runtime) -> torch.Tensor:
    table = predict(copy.deepcopy(model).to(runtime.device), examples, runtime)
    return table.sort(FILENAME).select(EMOTIONS).to_torch()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_intensities_in_a_padded_batch_are_those_of_each_clip_on_a_cpu(encoder: str, gpu: Runtime) -> None:
    model = small_model(encoder)
    examples = [make_example(number, length) for number, length in enumerate(LENGTHS)]
    alone = torch.cat([intensities(model, [example], CPU) for example in examples])
    assert alone.std(0).min() > 0.01  # far above the tolerance
    torch.testing.assert_close(intensities(model, examples, gpu), alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_changes_intensities_by_rounding_alone(precision: Any, gpu: Runtime) -> None:
    if gpu.device.type == "cpu":
        pytest.skip("half precision is of a GPU")
    model = small_model("layer")
    examples = [make_example(number, 4_000 + 777 * number) for number in range(48)]
    exact = intensities(model, examples, gpu)
    half = intensities(model, examples, replace(gpu, precision=precision))
    assert not torch.equal(half, exact)
    for emotion, a, b in zip(EMOTIONS, exact.T, half.T, strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.99, emotion


def compute(
    model: EmiModel, clips: list[Example], loss: str, runtime: Runtime, *, joined: bool | None
) -> dict[str, torch.Tensor]:
    """Outputs, loss and gradients by name, on the CPU; `joined` is None where the memory decides."""
    set_up_gpus(runtime.precision)
    model = copy.deepcopy(model).to(runtime.device).train()
    config = TrainingConfig(batch_size=8, group_size=3, loss=loss)
    labels = {
        clip.filename: np.sin(np.arange(6) + number).astype(np.float32) for number, clip in enumerate(clips)
    }
    pinned = runtime.device.type == "cuda"
    loader = Loader(examples=clips, labels=labels, model=model, config=config, pinned=pinned)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=False)
    gradients = Gradients(model, config, runtime, scaler, partial(model.zero_grad, set_to_none=False))
    gradients.joined = joined is not False
    remake = partial(loader.make, range(len(clips)), 0, 0)
    _, outputs, value = gradients.compute(remake(), Place(0, 0), remake)
    assert joined is None or gradients.joined == joined
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: values.detach().cpu() for name, values in {**found, "": outputs, "loss": value}.items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    most = max(float(values.abs().max()) for values in expected.values())
    for name, values in expected.items():
        scale = float(values.abs().max()) + 0.01 * most
        torch.testing.assert_close(found[name] / scale, values / scale, rtol=0, atol=2e-4, msg=name)


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("loss", ["mse", "mse+0.5*ccc"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_are_those_of_a_cpu(encoder: str, loss: str, joined: bool, gpu: Runtime) -> None:
    clips = [make_example(number, 700 + 911 * number) for number in range(8)]
    calm = {"logmel": LogMelConfig(dropout=0.0)} if encoder == "logmel" else {"backbone": CALM}
    model = small_model(encoder, **calm)
    expected = compute(model, clips, loss, CPU, joined=False)
    assert_same(compute(model, clips, loss, gpu, joined=joined), expected)


@pytest.mark.parametrize("kind", ["concatenate", "mean", "text-anchored"])
def test_gradients_of_modalities_are_those_of_a_cpu(kind: str, cache: Any, gpu: Runtime) -> None:
    present = [(True, True), (False, True), (True, False), (True, True)] * 2
    parts = {"attention_dropout": 0.0} if kind == "text-anchored" else {}
    model, clips = build(kind, **parts), make_clips(cache, present)
    expected = compute(model, clips, "mse", CPU, joined=False)
    assert_same(compute(model, clips, "mse", gpu, joined=True), expected)


def test_compiled_regions_have_the_same_gradients(gpu: Runtime) -> None:
    clips = [make_example(number, 700 + 911 * number) for number in range(8)]
    model = small_model("layer", backbone=CALM)
    expected = compute(model, clips, "mse", gpu, joined=True)
    assert model.encoder is not None
    model.encoder.compile_regions()
    assert_same(compute(model, clips, "mse", gpu, joined=True), expected)


def test_recurrent_dropout_is_drawn_again_by_its_seed_alone(gpu: Runtime) -> None:
    clips = [make_example(number, 700 + 911 * number) for number in range(8)]
    model = small_model("layer", backbone=CALM, lstm_dropout=0.5)
    first, second = (compute(model, clips, "mse", gpu, joined=True) for _ in range(2))
    torch.testing.assert_close(first[""], second[""], rtol=0, atol=1e-5)
    calm = compute(small_model("layer", backbone=CALM), clips, "mse", gpu, joined=True)
    assert (first[""] - calm[""]).abs().max() > 1e-3
