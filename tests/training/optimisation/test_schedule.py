"""The optimiser and schedule of Yu et al.: Adam with coupled decay, a rate that falls on a plateau."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.presets import find_preset, find_presets
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.core.errors import UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.core.signals import Interrupted
from abaw_emi.data.folder import DataFolder
from abaw_emi.pipeline.plan import PipelinePlan
from abaw_emi.runs.run import Run
from abaw_emi.training.optimisation.optim import Plateau, build_optimizer, set_rates
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from abaw_emi.training.trainer import Training
from tests.small_models import small_model

QUIET = Reporter(quiet=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wait", [0, 2, 10])
def test_the_rates_are_those_of_torchs_class(seed: int, wait: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.cumsum(rng.normal(0.001, 0.02, 80)) + rng.normal(0, 0.02, 80)
    scores[40:50] = scores[39]  # neither better nor worse
    scores[50] = scores.max() * (1 + 5e-5)  # better, but by less than a ten thousandth
    config = TrainingConfig(schedule="plateau", plateau_epochs=wait, warmup_epochs=0.0)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    ours, theirs = (
        torch.optim.Adam(
            [{"params": [weight], "lr": rate} for weight, rate in zip(weights, (3e-5, 1e-2), strict=True)]
        )
        for _ in range(2)
    )
    for group in ours.param_groups:
        group["initial_lr"] = group["lr"]
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, "max", factor=0.5, patience=wait, min_lr=1e-5)
    plateau = Plateau()
    falls = 0
    for epoch, score in enumerate(scores):
        set_rates(ours, config, epoch, plateau)
        rates = [group["lr"] for group in ours.param_groups]
        assert rates == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-12)
        before = plateau.share
        plateau.note(float(score), config)
        torchs.step(float(score))
        falls += plateau.share < before
    assert falls >= 2


def test_it_warms_up_first_and_raises_no_rate_that_is_below_the_least() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-6)
    optimizer.param_groups[0]["initial_lr"] = 1e-6
    config = TrainingConfig(schedule="plateau", warmup_epochs=2.0)
    rates = []
    for done in (0, 0.5, 1, 2, 3):
        set_rates(optimizer, config, done, Plateau(share=0.25))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0, 2.5e-7, 5e-7, 1e-6, 1e-6])


def test_adam_adds_the_decay_to_the_gradient() -> None:
    ends = []
    for kind in ("ours", "torch's", "adamw"):
        model = small_model("logmel")
        config = TrainingConfig(
            learning_rate=1e-2, weight_decay=0.1, optimizer="adamw" if kind == "adamw" else "adam"
        )
        optimizer: torch.optim.Optimizer = build_optimizer(model, config)
        if kind == "torch's":
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=0.1)
        torch.manual_seed(0)
        waveforms, lengths = torch.randn(2, 3_200), torch.tensor([3_200, 2_000])
        for _ in range(3):
            optimizer.zero_grad()
            model(waveforms, lengths).square().sum().backward()
            optimizer.step()
        ends.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert (ends[0] - ends[2]).abs().max() > 1e-3


def small(**training: object) -> RunConfig:
    settings = {
        "epochs": 8,
        "batch_size": 6,
        "group_size": 6,
        "patience": 0,
        "learning_rate": 0.02,
        **training,
    }
    return RunConfig(
        model=ModelConfig(encoder="logmel", vad_head=False),
        training=TrainingConfig(**settings),  # type: ignore[arg-type]
    )


def plan_for(config: RunConfig, out: Path, **changes: object) -> Plan:
    return Plan(**{"config": config, "preset": "small", "seeds": [1], "out": out, **changes})  # type: ignore[arg-type]


def rates_of(run: Run) -> list[float]:
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return [line["learning_rate"] for line in lines if "valid" in line]


def test_a_run_that_was_stopped_goes_on_with_the_same_bits_and_rates(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(schedule="plateau", plateau_epochs=0, optimizer="adam", warmup_epochs=0.0)
    data = DataFolder(data_root)
    (straight,) = train(plan_for(config, tmp_path / "straight"), data, QUIET)
    report = Training._report_epoch

    def stop_after_the_fifth(self: Training, *arguments: object) -> None:
        report(self, *arguments)  # type: ignore[arg-type]
        if self.at.epoch == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_report_epoch", stop_after_the_fifth)
        with pytest.raises(Interrupted, match="saved after epoch 5"):
            train(plan_for(config, tmp_path / "stopped"), data, QUIET)
    (resumed,) = train(plan_for(config, tmp_path / "stopped", if_there="resume"), data, QUIET)
    rates = rates_of(straight)
    assert rates[0] == 0.02
    assert rates[5] < rates[0]  # it had fallen before the stop, and stays there
    assert len(set(rates)) >= 3
    assert rates_of(resumed) == rates
    names = ("model.safetensors", "valid_predictions.csv")
    assert all(
        (straight.folder / name).read_bytes() == (resumed.folder / name).read_bytes() for name in names
    )


def test_where_nothing_is_held_out_it_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = small(schedule="plateau")
    with pytest.raises(UsageError, match=r"nothing is held out; --set training\.schedule=cosine"):
        plan_for(config, tmp_path, train_plus_val=True)
    held_out = replace(config, data=replace(config.data, fold="1/5"))
    assert plan_for(held_out, tmp_path, train_plus_val=True).held_out == "fold 1/5 of train+valid"
    with pytest.raises(UsageError, match=r"yu, train\+val: training\.schedule"):
        PipelinePlan(
            configs=find_presets(["tiny", "yu"], ()), seeds=[1], preparations=[], train_plus_val=True
        )
    with pytest.raises((ValueError, ValidationError), match='lays out a cosine, and schedule is "plateau"'):
        TrainingConfig(schedule="plateau", schedule_epochs=40)


def test_yu_trains_as_their_code_does() -> None:
    training = find_preset("yu").training
    assert (training.optimizer, training.weight_decay, training.learning_rate) == ("adam", 1e-3, 3e-5)
    assert (training.schedule, training.plateau_epochs, training.plateau_factor) == ("plateau", 10, 0.5)
    assert (training.plateau_rate, training.warmup_epochs) == (1e-5, 0.0)
