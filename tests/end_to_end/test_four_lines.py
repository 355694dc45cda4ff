"""The lines of the README, verbatim, on data that no writer of this package made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.backbones import write_hub_cache
from tests.foreign_data import EMOTIONS, write_data

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]

FOUR_LINES = """
abaw-emi train --train-plus-val
abaw-emi ensemble --ckpts runs/*
abaw-emi score preds.csv labels.csv
abaw-emi submit --out submissions/
"""


def type_lines(lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs lines of a shell in a folder, up to the first one that fails; the backbone is in a hub's cache."""
    write_hub_cache(folder / "hub")
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "HF_HUB_CACHE": str(folder / "hub"),
    }
    environment.pop("ABAW_EMI_DATA", None)
    return subprocess.run(
        ["bash", "-ec", lines], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def read_seven_lines() -> str:
    """The block of the README that begins with the audit."""
    after = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n\n    abaw-emi audit\n")[2]
    lines = ["abaw-emi audit", *map(str.strip, after.partition("\n\n")[0].splitlines())]
    assert len(lines) == 7
    return "\n".join(lines)


def test_the_seven_lines_of_the_readme_work_one_after_the_other(tmp_path: Path) -> None:
    write_data(tmp_path / "data", train=32, valid=24, test=12, suffix=".mp3")
    result = type_lines(read_seven_lines(), tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "mean_pearson|n:24|" in result.stdout
    assert len(list((tmp_path / "submissions").glob("*/*.zip"))) == 1


def test_the_four_lines_work_verbatim_in_a_folder_with_the_official_files(tmp_path: Path) -> None:
    write_data(tmp_path / "data", train=64, valid=32, test=20, suffix=".mp3")
    shutil.copy(tmp_path / "data" / "valid_split.csv", tmp_path / "labels.csv")
    rows = [f"{64 + row},{','.join(str((row * k) % 7 / 7) for k in range(1, 7))}" for row in range(32)]
    (tmp_path / "preds.csv").write_text("\n".join([f"Filename,{','.join(EMOTIONS)}", *rows]) + "\n")

    result = type_lines(FOUR_LINES, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no validation remains" in result.stderr
    assert "mean_pearson|n:32|" in result.stdout

    run = tmp_path / "runs" / "paper-trainval-seed1"
    (commit,) = (tmp_path / "hub").glob("*/snapshots/*")
    assert commit.name in (run / "provenance.json").read_text()
    (archive,) = (tmp_path / "submissions").glob("*/*.zip")
    with zipfile.ZipFile(archive) as opened:
        (name,) = opened.namelist()
        lines = opened.read(name).decode().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"{number:05}" for number in range(96, 116)]
    values = [float(cell) for line in lines[1:] for cell in line.split(",")[1:]]
    assert all(0 <= value <= 1 for value in values)
    assert len(values) == 20 * 6
