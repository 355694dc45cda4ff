from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.core import installation
from abaw_emi.core.errors import InstallationError
from abaw_emi.core.installation import load_torchaudio
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder


def test_a_torchaudio_that_does_not_load_costs_augmentation_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from abaw_emi.training.plan import Plan
    from abaw_emi.training.train import train

    monkeypatch.setitem(sys.modules, "torchaudio", None)
    load_torchaudio.cache_clear()
    config = RunConfig(training=TrainingConfig(augmentation=AugmentationConfig(gain_db=3.0)))
    plan = Plan(config=config, preset="small", seeds=[1], out=tmp_path / "runs")
    try:
        with pytest.raises(InstallationError, match=r"do not load together .* needs no torchaudio") as caught:
            train(plan, DataFolder(tmp_path / "no data"), Reporter(quiet=True))
    finally:
        load_torchaudio.cache_clear()
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("torch", "step"),
    [
        ("2.14.1", "pip install --force-reinstall 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12';"),
        ("2.13.0+cpu", "'torchaudio>=2.11,<2.12' --index-url https://download.pytorch.org/whl/cpu;"),
    ],
)
def test_the_remedy_brings_no_cuda_to_a_torch_for_cpus(
    torch: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "load_torchaudio", lambda: "libcudart.so.13")
    monkeypatch.setattr(installation, "version", {"torch": torch, "torchaudio": "2.11.0"}.__getitem__)
    with pytest.raises(InstallationError) as caught:
        installation.check_torchaudio()
    assert step in str(caught.value)


@pytest.mark.end_to_end
@pytest.mark.parametrize("module", ["inference.predictor", "training.train", "extraction.text"])
def test_everything_else_loads_beside_a_torchaudio_that_does_not(tmp_path: Path, module: str) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('libcudart.so.13')")
    subprocess.run(
        [sys.executable, "-c", f"import abaw_emi.{module}"],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
