from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import EMOTIONS, Shell, problems

PEARSON = {emotion: number / 10 for number, emotion in enumerate(EMOTIONS)}


def write_run(folder: Path, scores: list[float], **record: Any) -> Path:
    """A run folder as `train` leaves it, with a line for each epoch's validation score."""
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text("[training]\nepochs = 9\n")
    lines = [{"epoch": 1, "step": 10, "loss": 0.5}]
    for number, value in enumerate(scores, start=1):
        lines.append({"epoch": number, "valid": {"mean_pearson": value, "pearson": PEARSON}})
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 3, "tr'
    )
    (folder / "provenance.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def runs(folder: Path) -> Path:
    runs = folder / "runs"
    valid = {"mean_pearson": 0.3861, "pearson": PEARSON}
    done = {"finished": "2026-11-22T20:00:00+00:00", "precision": "bf16"}
    write_run(
        runs / "paper-seed1",
        [0.3, 0.3861, 0.2],
        preset="paper",
        seed=1,
        valid=valid,
        best_epoch=2,
        epochs=3,
        **done,
    )
    write_run(runs / "paper-seed2", [0.1, 0.05], preset="paper", seed=2, finished=None)
    write_run(
        runs / "paper-trainval-seed1",
        [],
        preset="paper",
        seed=1,
        train_plus_val=True,
        valid=None,
        best_epoch=9,
        epochs=9,
        **done,
    )
    write_run(runs / "tiny-fold2of5-seed3", [0.5], preset="tiny", seed=3, fold="2/5", **done)
    (runs / "notes.txt").write_text("no run")
    return runs


def test_runs_are_listed_finished_or_not(shell_without_torch: Shell, runs: Path) -> None:
    done = shell_without_torch("runs", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:5]}
    assert rows["paper-seed1"].split() == (
        [
            "paper-seed1",
            "1",
            "3/9",
            "2",
            "0.386",
            "0.000",
            "0.100",
            "0.200",
            "0.300",
            "0.400",
            "0.500",
            "train",
            "finished",
        ]
    )
    assert rows["paper-seed2"].endswith("not finished")
    assert "0.100" in rows["paper-seed2"]
    assert "train+valid" in rows["paper-trainval-seed1"]
    assert "0." not in rows["paper-trainval-seed1"]  # it has no score on valid, and shows none
    assert "train, but fold 2/5" in rows["tiny-fold2of5-seed3"]
    assert "notes" not in done.stdout
    assert "selected on it" in done.stdout


def test_json_holds_what_the_table_shows_unrounded(shell_without_torch: Shell, runs: Path) -> None:
    done = shell_without_torch("runs", "runs", "--json")
    first, second, *_ = json.loads(done.stdout)["runs"]
    assert first["mean_pearson"] == 0.3861
    assert first["pearson"] == PEARSON
    assert (first["finished"] is None, second["finished"] is None) == (False, True)
    assert (second["epochs"], second["of"], second["best_epoch"]) == (2, 9, 1)


def test_no_folder_no_runs_and_damaged_records(shell_without_torch: Shell, folder: Path) -> None:
    assert problems(shell_without_torch("runs"), 1) == [
        "runs: no such folder; expected a folder of run folders, as train makes them"
    ]
    (folder / "runs").mkdir()
    assert "no runs yet" in shell_without_torch("runs").stdout
    for name in ("a", "b"):
        write_run(folder / "runs" / name, [])
        (folder / "runs" / name / "provenance.json").write_text("{")
    told = problems(shell_without_torch("runs"), 1)
    assert [line.partition(":")[0] for line in told] == [
        f"runs/{name}/provenance.json" for name in ("a", "b")
    ]
    write_run(folder / "runs" / "paper-seed1", [0.3])
    done = shell_without_torch("runs")
    assert [line.split()[0] for line in done.stdout.splitlines()[:2]] == ["run", "paper-seed1"]
    assert problems(done, 1) == told
    assert told[0].endswith("move it away, or train it again with --overwrite")
    found = json.loads(shell_without_torch("runs", "--json").stdout)
    assert ([row["run"] for row in found["runs"]], found["problems"]) == (["runs/paper-seed1"], told)


def test_the_clipped_score_is_shown_where_it_differs_in_the_third_decimal(shell: Shell, runs: Path) -> None:
    assert "clipped" not in shell("runs", COLUMNS="200").stdout
    for seed, clipped in ((8, 0.4123), (9, 0.3862)):
        valid = {"mean_pearson": 0.3861, "pearson": PEARSON, "clipped_mean_pearson": clipped}
        write_run(runs / f"tiny-seed{seed}", [0.3861], preset="tiny", seed=seed, valid=valid, finished="now")
    header, *lines = shell("runs", COLUMNS="200").stdout.splitlines()
    assert header.split()[4:6] == ["valid", "clipped"]
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows["tiny-seed8"][4:7] == ["0.386", "0.412", "0.000"]
    assert rows["tiny-seed9"][4:6] == ["0.386", "0.000"]
    found = {
        row["run"]: row["clipped_mean_pearson"] for row in json.loads(shell("runs", "--json").stdout)["runs"]
    }
    assert found["runs/tiny-seed9"] == 0.3862
    assert found["runs/paper-seed1"] is None


def test_every_command_can_be_quiet(shell: Shell, runs: Path) -> None:
    assert "next:" in shell("runs").stdout
    for flag in ("--quiet", "-q"):
        quiet = shell("runs", flag)
        assert quiet.returncode == 0, quiet.stderr
        assert "paper-seed1" in quiet.stdout
        assert "next:" not in quiet.stdout
    for command in ("presets", "options", "ledger"):
        done = shell(command, "--quiet")
        assert done.returncode == 0, done.stderr
        assert "next:" not in done.stdout
