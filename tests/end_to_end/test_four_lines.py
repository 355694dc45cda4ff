"""The four lines of the README, verbatim, on data that no writer of this package made."""

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

FOUR_LINES = """
abaw-emi train --train-plus-val
abaw-emi ensemble --ckpts runs/*
abaw-emi score preds.csv labels.csv
abaw-emi submit --out submissions/
"""


def test_the_four_lines_work_verbatim_in_a_folder_with_the_official_files(tmp_path: Path) -> None:
    write_data(tmp_path / "data", train=64, valid=32, test=20, suffix=".mp3")
    commit = write_hub_cache(tmp_path / "hub")
    shutil.copy(tmp_path / "data" / "valid_split.csv", tmp_path / "labels.csv")
    rows = [f"{64 + row},{','.join(str((row * k) % 7 / 7) for k in range(1, 7))}" for row in range(32)]
    (tmp_path / "preds.csv").write_text("\n".join([f"Filename,{','.join(EMOTIONS)}", *rows]) + "\n")

    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }
    environment.pop("ABAW_EMI_DATA", None)
    result = subprocess.run(
        ["bash", "-ec", FOUR_LINES],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no validation remains" in result.stderr
    assert "mean_pearson|n:32|" in result.stdout

    run = tmp_path / "runs" / "paper-trainval-seed1"
    assert commit in (run / "provenance.json").read_text()
    (archive,) = (tmp_path / "submissions").glob("*/*.zip")
    with zipfile.ZipFile(archive) as opened:
        (name,) = opened.namelist()
        lines = opened.read(name).decode().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"{number:05}" for number in range(96, 116)]
    values = [float(cell) for line in lines[1:] for cell in line.split(",")[1:]]
    assert all(0 <= value <= 1 for value in values)
    assert len(values) == 20 * 6
