"""Commands on a GPU: training, resuming, too little memory, several processes, prediction."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.progress import Reporter
from abaw_emi.inference.predict import predict
from abaw_emi.models.device import Runtime
from tests.backbones import small_config, write_backbone
from tests.command import run_command
from tests.gpu.test_models import CALM, assert_same, compute
from tests.small_models import CPU, make_example, small_model

pytestmark = pytest.mark.gpu

SETS = ["--set", "training.epochs=2", "training.batch_size=5", "training.group_size=2"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "small")


def shell(*arguments: str | Path, start: tuple[str, ...] = ()) -> str:
    """What a command in a process of its own says."""
    words = [sys.executable, *start, "-m", "abaw_emi", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("preset", ["paper", "paper-dropout", "tiny"])
def test_a_killed_run_that_is_resumed_has_the_bits_of_one_that_was_not(
    preset: str, backbone: Path, data_root: Path, gpu: Runtime
) -> None:
    options = [] if preset == "tiny" else ["--backbone", backbone]
    device = ["--device", gpu.device.type, "--data", data_root]
    said = shell("train", "--verify-resume", "--preset", preset, *options, *device)
    assert "identical: killed 3 times and resumed, the weights are the same bits" in said


@pytest.mark.parametrize("dials", [[], ["training.compile=true"], ["model.freeze_encoder=true"]])
def test_a_trained_run_predicts_the_same_on_a_cpu(
    dials: list[str], backbone: Path, data_root: Path, gpu: Runtime, tmp_path: Path
) -> None:
    words = ["train", "--backbone", backbone, "--out", tmp_path / "runs", "--data", data_root]
    shell(*words, *SETS, *dials, "--device", gpu.device.type, "--precision", "bf16")
    tables = {}
    for device in (gpu.device.type, "cpu"):
        out = tmp_path / f"{device}.csv"
        done = run_command(
            *["predict", "--ckpt", tmp_path / "runs" / "paper-seed1", "--split", "test", "--out", out],
            *["--data", data_root, "--device", device, "--precision", "fp32"],
        )
        assert done.returncode == 0, done.stderr
        tables[device] = pl.read_csv(out).sort(FILENAME).select(EMOTIONS).to_torch()
    torch.testing.assert_close(tables[gpu.device.type], tables["cpu"], rtol=0, atol=1e-4)


def test_a_process_of_torchrun_has_the_weights_of_a_plain_one(
    data_root: Path, gpu: Runtime, tmp_path: Path
) -> None:
    words = ["train", "--preset", "tiny", *SETS, "--data", data_root, "--device", gpu.device.type]
    words += ["--deterministic", "--out"]
    shell(*words, tmp_path / "plain")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    shell(*words, tmp_path / "launched", start=launcher)
    plain, launched = (
        (tmp_path / name / "tiny-seed1" / "model.safetensors").read_bytes() for name in ("plain", "launched")
    )
    assert plain == launched


@contextmanager
def memory_of(runtime: Runtime, mib: int) -> Iterator[None]:
    """A GPU that has this much memory for tensors."""
    if runtime.device.type != "cuda":
        pytest.skip("memory is limited on a GPU only")
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(runtime.device).total_memory
    torch.cuda.set_per_process_memory_fraction(mib * 2**20 / whole)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def wide() -> dict[str, Any]:
    """A network whose convolutions fill the memory, without dropout."""
    return {**small_config(), **CALM, "conv_dim": [256] * 7}


def test_what_does_not_fit_the_memory_runs_in_smaller_groups_with_the_same_gradients(gpu: Runtime) -> None:
    clips = [make_example(number, 192_000) for number in range(8)]
    model = small_model("layer", backbone=wide())
    expected = compute(model, clips, "mse", gpu, joined=True)
    reporter = Reporter(quiet=True)
    with memory_of(gpu, 900):
        found = compute(model, clips, "mse", replace(gpu, reporter=reporter), joined=None)
    said = " ".join(map(str, reporter.warnings))
    assert "the graphs of 8 clips do not fit the device's memory together" in said
    assert "3 clips side by side do not fit" in said
    assert_same(found, expected)


def test_a_prediction_that_does_not_fit_the_memory_is_made_in_halves(gpu: Runtime) -> None:
    clips = [make_example(number, 192_000) for number in range(16)]
    model = small_model("layer", backbone=wide())
    with memory_of(gpu, 900):
        found = predict(model.to(gpu.device), clips, gpu)
    expected = predict(model.cpu(), clips, CPU)
    for emotion in EMOTIONS:
        assert (found[emotion] - expected[emotion]).abs().max() < 1e-4
