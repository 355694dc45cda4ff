from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from abaw_emi.config.run import TrainingConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.optim import build_optimizer
from tests.small_models import ENCODERS, small_model

RATE = 1e-3


def factors(model: EmiModel, **dials: Any) -> dict[str, float]:
    """Each trained weight's share of the peak learning rate, by name."""
    optimizer = build_optimizer(model, TrainingConfig(learning_rate=RATE, **dials))
    rates = {id(weight): group["lr"] / RATE for group in optimizer.param_groups for weight in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: rates[id(weight)] for name, weight in model.named_parameters() if id(weight) in rates}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("dials", [{}, {"freeze_encoder": True}])
def test_without_decay_there_is_one_group_in_the_models_order(encoder: str, dials: dict[str, Any]) -> None:
    model = small_model(encoder, **dials)
    (group,) = build_optimizer(model, TrainingConfig()).param_groups
    expected = [weight for weight in model.parameters() if weight.requires_grad]
    assert list(map(id, group["params"])) == list(map(id, expected))
    assert group["lr"] == group["initial_lr"] == 1e-4
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize("encoder", ENCODERS)
def test_without_decay_steps_are_bit_by_bit_those_of_plain_adamw(encoder: str) -> None:
    models = [small_model(encoder) for _ in range(2)]
    config = TrainingConfig(learning_rate=RATE)
    optimizers = [
        build_optimizer(models[0], config),
        torch.optim.AdamW(models[1].parameters(), lr=RATE, weight_decay=config.weight_decay),
    ]
    waveforms, lengths = torch.randn(2, 3_200), torch.tensor([3_200, 2_000])
    for _ in range(2):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            model(waveforms, lengths).square().sum().backward()
            optimizer.step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_trained_weight_is_in_exactly_one_group(encoder: str) -> None:
    model = small_model(encoder)
    assert list(factors(model, layer_decay=0.5)) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(("encoder", "norm"), [("layer", 0.5**2), ("group", 0.5**5)])
def test_a_wav2vec2_learns_slower_level_by_level(encoder: str, norm: float) -> None:
    got = factors(small_model(encoder, backbone={"num_hidden_layers": 3}), layer_decay=0.5)
    backbone = "encoder.wav2vec2."
    expected = {
        "lstm.": 1,
        "head.": 1,
        "vad_head.": 0.5,
        f"{backbone}encoder.layers.2.": 0.5**2,
        f"{backbone}encoder.layers.1.": 0.5**3,
        f"{backbone}encoder.layers.0.": 0.5**4,
        # After the last layer in the audeering kind, before the first one in the other.
        f"{backbone}encoder.layer_norm.": norm,
        f"{backbone}encoder.pos_conv_embed.": 0.5**5,
        f"{backbone}feature_projection.": 0.5**5,
        f"{backbone}masked_spec_embed": 0.5**5,
        f"{backbone}feature_extractor.": 0.5**6,
    }
    for name, factor in got.items():
        (prefix,) = [prefix for prefix in expected if name.startswith(prefix)]
        assert factor == pytest.approx(expected[prefix]), name
    assert all(any(name.startswith(prefix) for name in got) for prefix in expected)


def test_a_tenth_layer_is_above_the_second() -> None:
    got = factors(small_model("layer", backbone={"num_hidden_layers": 12}), layer_decay=0.9)
    layers = [got[f"encoder.wav2vec2.encoder.layers.{i}.final_layer_norm.bias"] for i in range(12)]
    assert layers == pytest.approx([0.9 ** (13 - i) for i in range(12)])


def test_a_log_mel_encoder_learns_slower_level_by_level() -> None:
    got = factors(small_model("logmel"), layer_decay=0.5)
    expected = {
        "lstm.": 1,
        "head.": 1,
        "encoder.convolutions.1.": 0.5,
        "encoder.norms.1.": 0.5,
        "encoder.convolutions.0.": 0.25,
        "encoder.norms.0.": 0.25,
        "encoder.entry.": 0.125,
    }
    for name, factor in got.items():
        (prefix,) = [prefix for prefix in expected if name.startswith(prefix)]
        assert factor == pytest.approx(expected[prefix]), name


def test_levels_without_trained_weights_do_not_count() -> None:
    without = factors(small_model("layer", vad_head=False), layer_decay=0.5)
    assert without["encoder.wav2vec2.encoder.layers.1.final_layer_norm.bias"] == pytest.approx(0.5)
    frozen = factors(small_model("layer", freeze_encoder=True), layer_decay=0.5)
    assert set(frozen.values()) == {1.0}
    assert not any(name.startswith(("encoder.", "vad_head.")) for name in frozen)
    model = small_model("layer")
    model.encoder.wav2vec2.feature_extractor.requires_grad_(False)
    got = factors(model, layer_decay=0.5)
    assert min(got.values()) == pytest.approx(0.5**4)
    assert not any("feature_extractor" in name for name in got)


def test_a_schedule_multiplies_each_groups_own_rate() -> None:
    optimizer = build_optimizer(small_model("layer"), TrainingConfig(learning_rate=RATE, layer_decay=0.5))
    peaks = [group["lr"] for group in optimizer.param_groups]
    assert peaks == pytest.approx([RATE * 0.5**i for i in range(6)])
    schedule = get_cosine_schedule_with_warmup(optimizer, 4, 20)
    shares = []
    for _ in range(20):
        rates = [group["lr"] for group in optimizer.param_groups]
        shares.append(rates[0] / peaks[0])
        assert rates == pytest.approx([peak * shares[-1] for peak in peaks])
        optimizer.step()
        schedule.step()
    assert max(shares) == pytest.approx(1)
    assert shares[0] == 0


def test_an_optimizer_goes_on_with_its_rates_from_a_checkpoint() -> None:
    config = TrainingConfig(learning_rate=RATE, layer_decay=0.7)
    before = build_optimizer(small_model("layer"), config)
    for group in before.param_groups:
        group["lr"] = group["initial_lr"] * 0.25
    after = build_optimizer(small_model("layer"), config)
    after.load_state_dict(before.state_dict())
    for one, other in zip(before.param_groups, after.param_groups, strict=True):
        assert (one["lr"], one["initial_lr"]) == (other["lr"], other["initial_lr"])


def test_weights_decay_at_every_level() -> None:
    config = TrainingConfig(layer_decay=0.5, weight_decay=0.03)
    groups = build_optimizer(small_model("layer"), config).param_groups
    assert {group["weight_decay"] for group in groups} == {0.03}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_one_kernel_does_the_step() -> None:
    groups = build_optimizer(small_model("logmel").cuda(), TrainingConfig(layer_decay=0.5)).param_groups
    assert all(group["fused"] for group in groups)
