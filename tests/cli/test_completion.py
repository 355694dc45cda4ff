"""What the shell is offered, by the protocol of bash."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from abaw_emi.cli.app import app
from abaw_emi.config.presets import PRESETS


def complete(line: str) -> list[str]:
    """What is offered for the last word of a command line, which may be empty."""
    words = line.split(" ")
    environment = {
        "_ABAW_EMI_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = CliRunner().invoke(app, prog_name="abaw-emi", env=environment)
    return done.output.split()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("paper-seed1", "paper-seed2", "text-seed1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.toml").touch()
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


def test_presets() -> None:
    expected = [name for name in PRESETS if name.startswith("paper")]
    assert complete("abaw-emi train --preset paper") == expected
    assert complete("abaw-emi sweep --presets tiny paper") == expected  # a further value
    assert complete("abaw-emi search --preset zzz") == []


def test_keys_of_set() -> None:
    assert complete("abaw-emi train --set training.learning") == ["training.learning_rate="]
    assert "model.pooling=" in complete("abaw-emi pipeline --set training.epochs=3 model.p")


def test_run_folders(runs: Path) -> None:
    assert complete("abaw-emi ensemble --ckpts ") == [
        "runs/paper-seed1",
        "runs/paper-seed2",
        "runs/text-seed1",
    ]
    assert complete("abaw-emi ensemble --ckpts runs/paper-seed1 runs/t") == ["runs/text-seed1"]
    assert complete(f"abaw-emi predict --ckpt {runs}/paper") == [
        f"{runs}/paper-seed1",
        f"{runs}/paper-seed2",
    ]
    assert complete("abaw-emi train --init-from runs/notes") == []


def test_names_of_options_are_still_offered_but_no_former_ones() -> None:
    assert complete("abaw-emi ensemble --ckpts runs/a --on-m") == ["--on-missing"]
    assert set(complete("abaw-emi train --runs x --o")) == {"--on-bad-clip", "--overwrite"}
