from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from abaw_emi.training.optimisation.optim import ExponentialAverage
from tests.small_models import small_model


def wander(model: nn.Module, seed: int) -> None:
    """Stands for an optimiser's step on the weights that are trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator).to(weight))


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_averages_follow_the_formula(decay: float) -> None:
    model = nn.Linear(4, 3)
    average = ExponentialAverage(model, decay)
    slow = model.weight.detach().double().clone()
    for t in range(40):
        wander(model, t)
        average.update()
        d = min(decay, (1 + t) / (10 + t))
        slow = d * slow + (1 - d) * model.weight.detach().double()
    with average.swapped():
        torch.testing.assert_close(model.weight.detach().double(), slow, rtol=0, atol=1e-6)


def test_without_an_update_the_average_is_the_first_weights() -> None:
    model = nn.Linear(4, 3)
    before = snapshot(model)
    average = ExponentialAverage(model, 0.99)
    wander(model, 1)
    with average.swapped():
        assert same(snapshot(model), before)


def test_a_constant_weight_is_its_own_average() -> None:
    model = nn.Linear(4, 3)
    before = snapshot(model)
    average = ExponentialAverage(model, 0.999)
    for _ in range(50):
        average.update()
    with average.swapped():
        assert same(snapshot(model), before)


@pytest.mark.parametrize("encoder", ["layer", "logmel"])
def test_a_model_gets_its_averages_and_then_its_own_weights_back(encoder: str) -> None:
    model = small_model(encoder)
    average = ExponentialAverage(model, 0.9)
    wander(model, 1)
    average.update()
    wander(model, 2)
    own, places = snapshot(model), [weight.data_ptr() for weight in model.parameters()]
    waveforms, lengths = torch.randn(2, 6_400), torch.tensor([6_400, 4_000])
    with torch.no_grad():
        before = model(waveforms, lengths)
        with average.swapped():
            averaged = model(waveforms, lengths)
            assert [weight.data_ptr() for weight in model.parameters()] == places
        assert torch.equal(model(waveforms, lengths), before)
    assert same(snapshot(model), own)
    assert not torch.allclose(averaged, before)


def test_weights_come_back_after_an_exception() -> None:
    model = nn.Linear(4, 3)
    average = ExponentialAverage(model, 0.9)
    wander(model, 1)
    own = snapshot(model)

    def validate() -> None:
        with average.swapped():
            assert not same(snapshot(model), own)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate()
    assert same(snapshot(model), own)


def test_what_is_saved_inside_are_the_averages(tmp_path: Path) -> None:
    model = small_model("logmel")
    average = ExponentialAverage(model, 0.9)
    wander(model, 1)
    average.update()
    with average.swapped():
        averaged = snapshot(model)
        model.save_pretrained(tmp_path)
    assert same(snapshot(type(model).from_pretrained(tmp_path)), averaged)


def test_a_resumed_average_goes_on_bit_by_bit() -> None:
    through, stopped = nn.Linear(5, 5), nn.Linear(5, 5)
    stopped.load_state_dict(through.state_dict())
    whole, first = ExponentialAverage(through, 0.99), ExponentialAverage(stopped, 0.99)
    for t in range(20):
        wander(through, t)
        whole.update()
    for t in range(7):
        wander(stopped, t)
        first.update()
    file = io.BytesIO()
    torch.save({"model": stopped.state_dict(), "average": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = nn.Linear(5, 5)
    second = ExponentialAverage(fresh, 0.99)
    fresh.load_state_dict(saved["model"])
    second.load_state_dict(saved["average"])
    for t in range(7, 20):
        wander(fresh, t)
        second.update()
    assert same(fresh.state_dict(), through.state_dict())
    assert same(second.state_dict()["averages"], whole.state_dict()["averages"])
    assert second.state_dict()["updates"] == 20


def test_frozen_weights_and_buffers_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    average = ExponentialAverage(model, 0.9)
    assert not any(name.startswith("0.") for name in average.state_dict()["averages"])
    wander(model, 1)
    average.update()
    model(torch.randn(8, 3))
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with average.swapped():
        assert same(dict(model.named_buffers()), buffers)
    assert same(dict(model.named_buffers()), buffers)


def test_averages_of_narrow_weights_are_wider() -> None:
    model = nn.Linear(4, 3).bfloat16()
    average = ExponentialAverage(model, 0.9)
    wander(model, 1)
    own = snapshot(model)
    average.update()
    assert all(value.dtype == torch.float32 for value in average.state_dict()["averages"].values())
    with average.swapped():
        assert model.weight.dtype == torch.bfloat16
        assert not same(snapshot(model), own)
    assert same(snapshot(model), own)


def test_averages_of_another_model_are_refused() -> None:
    average = ExponentialAverage(nn.Linear(4, 3), 0.9)
    for other in (nn.Linear(4, 2), nn.Linear(4, 3, bias=False), nn.Linear(1, 3)):
        with pytest.raises(ValueError, match="averages of other weights"):
            average.load_state_dict(ExponentialAverage(other, 0.9).state_dict())


def test_weights_can_be_trained_on_after_a_swap() -> None:
    model = nn.Linear(4, 3)
    average = ExponentialAverage(model, 0.9)
    with average.swapped(), torch.no_grad():
        model(torch.randn(2, 4))
    model(torch.randn(2, 4)).square().sum().backward()
    assert all(weight.requires_grad and weight.grad is not None for weight in model.parameters())
