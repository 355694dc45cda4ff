"""Apple's GPUs, device "mps", have no float64; here, tensors that refuse what torch refuses there.

They refuse, as those of any GPU, what mixes them with tensors of the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from abaw_emi.batching.batches import Batch, make_batch
from abaw_emi.models.device import choose_device, choose_precision, empty_memory, memory_errors
from abaw_emi.models.encoders.logmel import LogMelEncoder
from abaw_emi.training.optimisation.losses import Loss
from tests.models.encoders.test_speech import OWN, load
from tests.small_encoders import SPEECH_ENCODERS, write_audio
from tests.small_models import make_example, small_model

CPU, MPS = torch.device("cpu"), torch.device("mps")


class Apple(Tensor):
    """A tensor that says it is on "mps": no float64, and no operation with one of the CPU."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function == Tensor.device.__get__:  # type: ignore[attr-defined]
            return MPS
        moves = function in (Tensor.to, Tensor.cpu, Tensor.copy_, Tensor.as_subclass)
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if not moves and any(type(each) is Tensor and each.dim() and each.numel() for each in tensors):
            raise RuntimeError("Expected all tensors to be on the same device")
        to_cpu = function is Tensor.cpu or (function is Tensor.to and names(CPU, args))
        args, kwargs = on_cpu(args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)
        if to_cpu:
            return result.as_subclass(Tensor)
        if function is Tensor.as_subclass:
            return result
        return tree_map(on_apple, result)


def on_apple(value: Any) -> Any:
    """The tensor on "mps"; what is no tensor as it is."""
    if not isinstance(value, Tensor):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        if value.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return value.as_subclass(Apple)


def names(device: torch.device, arguments: Any) -> bool:
    """Whether the device is one of the arguments."""
    return any(isinstance(value, torch.device) and value == device for value in tree_leaves(arguments))


def on_cpu(args: Any, kwargs: Any) -> Any:
    """The arguments with the CPU as device."""
    return tree_map(lambda value: CPU if isinstance(value, torch.device) else value, (args, kwargs))


class MakesOnApple(TorchFunctionMode):
    """What makes tensors with `device=` "mps" makes such ones, and `to` moves there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moves = function is Tensor.to and type(args[0]) is Tensor and names(MPS, args)
        if kwargs.get("device") == MPS or moves:
            args, kwargs = on_cpu(args, kwargs)
            return on_apple(function(*args, **kwargs))
        return function(*args, **kwargs)


def move(model: nn.Module) -> None:
    """Weights and buffers to "mps", in place."""
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            module._parameters[name] = on_apple(value.detach()).requires_grad_(value.requires_grad)
        for name, value in module.named_buffers(recurse=False):
            module._buffers[name] = on_apple(value)


def test_the_stand_in_refuses_float64() -> None:
    with pytest.raises(TypeError, match="float64"):
        on_apple(torch.ones(2)).double()
    with pytest.raises(RuntimeError, match="same device"):
        on_apple(torch.ones(2)) + torch.ones(2)


@pytest.mark.parametrize("text", ["mse", "smooth-l1", "ccc", "mse+0.1*pearson", "mse+0.5*gate"])
@pytest.mark.parametrize("weighed", [False, True])
def test_every_loss_and_its_gradients_are_those_of_the_cpu(text: str, weighed: bool) -> None:
    torch.manual_seed(0)
    predictions, labels = torch.randn(8, 12), torch.rand(8, 6 + weighed)
    loss, heads = Loss(text), torch.arange(8) % 2
    here, there = (values.requires_grad_() for values in (predictions.clone(), on_apple(predictions.clone())))
    (expected,) = torch.autograd.grad(loss(here, labels), here)
    value = loss(there, on_apple(labels))
    assert value.device == MPS
    assert value.cpu().equal(loss(predictions, labels))
    (found,) = torch.autograd.grad(value, there)
    assert found.cpu().equal(expected)
    for rows in (None, heads):
        slopes = loss.gradient(there, on_apple(labels), rows if rows is None else on_apple(rows))
        assert slopes.to(there).cpu().equal(loss.gradient(predictions, labels, rows).float())


def test_the_scale_of_log_mels_is_that_of_the_cpu() -> None:
    batch = torch.randn(2, 8_000), torch.tensor([8_000, 6_000])
    here, there = (small_model("logmel").encoder for _ in range(2))
    assert isinstance(here, LogMelEncoder)
    assert isinstance(there, LogMelEncoder)
    here.fit_scale([batch])
    move(there)
    with MakesOnApple():
        there.fit_scale([tuple(map(on_apple, batch))])
    assert there.feature_mean.device == MPS
    assert there.feature_mean.cpu().equal(here.feature_mean)
    assert there.feature_scale.cpu().equal(here.feature_scale)


class SeesMasks(TorchFunctionMode):
    """Notes which attention is given a mask."""

    def __init__(self) -> None:
        self.given: set[bool] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            self.given.add(kwargs.get("attn_mask") is not None)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("lengths", [(20_000, 20_000), (20_000, 9_000, 9_000)])
@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_frames_of_every_encoder_are_those_of_the_cpu_and_lengths_stay_there(
    kind: str, lengths: tuple[int, ...], tmp_path: Path
) -> None:
    model = load(write_audio(tmp_path, kind))
    examples = [make_example(number, length) for number, length in enumerate(lengths)]
    masks = model.draw_masks(lengths, np.random.default_rng(1))
    batch = make_batch(examples, standardise=model.standardises, masks=masks)

    def run(batch: Batch) -> list[Tensor]:
        assert model.encoder is not None
        assert batch.waveforms is not None
        with torch.no_grad():
            states = model.encoder.run_lower(batch.waveforms, batch.lengths, 1)
            parts = [batch.encode(model), model.encoder.run_upper(states, batch.lengths, 1)]
        return [row[:count] for states, counts in parts for row, count in zip(states, counts, strict=True)]

    expected = run(batch)
    move(model)
    with MakesOnApple(), SeesMasks() as seen:
        moved = batch.to(MPS)
        found = run(moved)
    assert moved.lengths.device == CPU
    for frames, others in zip(found, expected, strict=True):
        assert frames.device == MPS
        torch.testing.assert_close(frames.cpu(), others, rtol=0, atol=1e-5)
    if kind in OWN:
        assert seen.given == {len(set(lengths)) > 1}


def test_its_precision_is_float32_unless_another_is_asked_for() -> None:
    assert choose_precision("auto", "auto", MPS) == "fp32"
    assert choose_precision("bf16", "auto", MPS) == "bf16"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one here")
def test_one_that_is_not_there_is_refused_in_one_short_line() -> None:
    with pytest.raises(Exception, match=r"device: 'mps' cannot be used: there is no GPU of Apple's"):
        choose_device("mps")


def test_too_little_memory_there_is_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(torch.OutOfMemoryError), memory_errors():
        raise RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, max allowed: 18.13 GB).")
    emptied: list[str] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    empty_memory(MPS)
    empty_memory(torch.device("cpu"))
    assert emptied == ["mps"]
