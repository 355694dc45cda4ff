"""The command audit from a shell, and what train and submit make of the record that it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Shell, problems

pytest.importorskip("torch", reason="needs the extra train")

import soundfile

from tests.foreign_data import EMOTIONS, write_data


@pytest.fixture
def spoilt(folder: Path) -> Path:
    """A data folder of sound files, one of train and one of test distorted."""
    data = write_data(folder / "spoilt")
    for path in (data / "audio" / "00003.wav", data / "test_data" / "audio" / "00021.wav"):
        wave = 20 * soundfile.read(path)[0]
        soundfile.write(path, np.clip(wave, -1, 1), 16_000)
    return data


def test_an_audit_leaves_a_record_and_changes_nothing(shell: Shell, spoilt: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    done = shell("audit", "--data", spoilt)
    problems(done, 0)
    assert "look clipped" in done.stdout
    assert "what to do: listen to them" in " ".join(done.stdout.split())
    record = json.loads((spoilt.parent / "audit.json").read_text(encoding="utf-8"))
    assert record["clips"] == {"train": 12, "valid": 8, "test": 6}
    assert sum(record["histogram"]["counts"]["train"]) == 12
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


def test_a_folder_beside_the_data_folder_is_not_audited(shell: Shell, spoilt: Path) -> None:
    for wrong, meant in ((spoilt / "audio", spoilt), (".", "data")):
        (line,) = problems(shell("audit", "--data", wrong), 1)
        assert line == f"{wrong}: no split file, such as train_split.csv; did you mean --data {meant}?"


def test_json_is_one_object_with_the_findings(shell: Shell, spoilt: Path) -> None:
    done = shell("audit", "--data", spoilt, "--json")
    problems(done, 0)
    (clipped,) = [each for each in json.loads(done.stdout)["findings"] if each["kind"] == "clipped"]
    assert (clipped["severity"], clipped["ids"]) == ("warning", ["00003", "00021"])
    assert clipped["means"]


def test_an_error_makes_the_exit_code_1_and_is_one_line(shell: Shell, spoilt: Path) -> None:
    (spoilt / "audio" / "00005.wav").write_bytes(b"")
    lines = problems(shell("audit", "--data", spoilt, "--quiet"), 1)
    assert len([line for line in lines if "00005" in line]) == 1


def test_narrow_windows_and_no_colour_are_respected(shell: Shell, spoilt: Path) -> None:
    done = shell("audit", "--data", spoilt, NO_COLOR="1", COLUMNS="60")
    assert "\x1b" not in done.stdout
    assert "look clipped" in " ".join(done.stdout.split())


def test_the_record_may_not_lie_in_the_data_folder(shell: Shell, spoilt: Path) -> None:
    assert "--out" in problems(shell("audit", "--data", spoilt, "--out", spoilt / "audit.json"), 2)[0]


def test_train_and_submit_warn_of_what_an_audit_found(shell: Shell, spoilt: Path) -> None:
    problems(shell("audit", "--data", spoilt), 0)
    done = shell("train", "--data", spoilt, "--preset", "tiny", "--limit", "4", "--device", "cpu")
    told = [line for line in problems(done, 0) if line.startswith("warning: audit.json, train")]
    assert any("look clipped" in line and "00003" in line for line in told)
    rows = [f"{number:05}," + ",".join(["0.1" if number % 2 else "0.3"] * 6) for number in range(20, 26)]
    table = "Filename," + ",".join(EMOTIONS) + "\n" + "\n".join(rows) + "\n"
    (spoilt.parent / "test.csv").write_text(table, encoding="utf-8")
    done = shell("submit", "--data", spoilt, "--preds", "test.csv", "--dry-run")
    told = [line for line in problems(done, 0) if line.startswith("warning: audit.json")]
    assert any("look clipped" in line and "00021" in line for line in told)
    (spoilt / "audio" / "00006.wav").write_bytes((spoilt / "audio" / "00007.wav").read_bytes())
    done = shell("train", "--data", spoilt, "--preset", "tiny", "--limit", "4", "--device", "cpu")
    assert any("files have changed since" in line for line in problems(done, 0))
