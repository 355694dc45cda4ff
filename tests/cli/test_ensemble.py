from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from tests.cli.conftest import EMOTIONS, HEADER, Shell, problems, test_ids, values, write_csv


@pytest.fixture
def members(folder: Path) -> list[Path]:
    return [
        write_csv(folder / f"{name}.csv", values(test_ids(), seed, -0.5, 1.5))
        for seed, name in enumerate("abc")
    ]


def read(path: Path) -> dict[str, list[float]]:
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == HEADER.split(",")
    return {name: [float(cell) for cell in cells] for name, *cells in rows}


@pytest.mark.usefixtures("members")
def test_several_values_and_a_repeated_option_mean_the_same(shell: Shell, folder: Path) -> None:
    assert problems(shell("ensemble", "--preds", "a.csv", "b.csv", "c.csv", "--out", "one.csv"), 0) == []
    assert (
        problems(shell("ensemble", "--preds", "a.csv", "--out", "two.csv", "--preds", "b.csv", "c.csv"), 0)
        == []
    )
    assert (folder / "one.csv").read_bytes() == (folder / "two.csv").read_bytes()


def test_the_ensemble_is_the_mean_and_its_record_names_its_members(
    shell: Shell, folder: Path, members: list[Path]
) -> None:
    done = shell("ensemble", "--preds", *members, "--json")
    assert problems(done, 0) == []
    result = json.loads(done.stdout)
    assert result["path"] == "predictions/ensemble-test.csv"
    assert (result["rows"], result["problems"]) == (6, [])
    tables = [read(path) for path in members]
    for name, cells in read(folder / result["path"]).items():
        mean = [sum(table[name][k] for table in tables) / 3 for k in range(len(EMOTIONS))]
        assert cells == pytest.approx(mean, abs=1e-6)
    record = json.loads((folder / "predictions" / "ensemble-test.provenance.json").read_text())
    assert record["sha256"] == hashlib.sha256((folder / result["path"]).read_bytes()).hexdigest()
    assert record["members"] == [
        {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "provenance": None}
        for path in members
    ]
    assert (record["trained_on"], record["trained_on_complete"]) == ([], False)


def test_what_the_members_were_trained_on_travels_on(shell: Shell, folder: Path, members: list[Path]) -> None:
    for path, ranges in zip(members[:2], (["00000-00004"], ["00003-00006"]), strict=True):
        record = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "command": "x",
            "version": "0",
            "split": "test",
            "trained_on": ranges,
            "trained_on_complete": True,
            "skipped": [],
            "read_from_video": {},
            "members": [],
        }
        path.with_suffix(".provenance.json").write_text(json.dumps(record))
    assert problems(shell("ensemble", "--preds", "a.csv", "b.csv", "--out", "ab.csv"), 0) == []
    record = json.loads((folder / "ab.provenance.json").read_text())
    assert (record["trained_on"], record["trained_on_complete"]) == (["00000-00006"], True)
    assert problems(shell("ensemble", "--preds", "a.csv", "c.csv", "--out", "ac.csv"), 0) == []
    record = json.loads((folder / "ac.provenance.json").read_text())
    # A member that does not tell takes nothing away from what another one tells.
    assert (record["trained_on"], record["trained_on_complete"]) == (["00000-00004"], False)


@pytest.mark.usefixtures("members")
def test_members_of_different_clips_are_refused_and_nothing_is_written(shell: Shell, folder: Path) -> None:
    write_csv(folder / "short.csv", values(test_ids()[:-1], 9))
    lines = problems(shell("ensemble", "--preds", "a.csv", "short.csv"), 1)
    assert lines == ["short.csv: 1 id missing, against a.csv: 00025"]
    assert not (folder / "predictions").exists()


@pytest.mark.usefixtures("members")
def test_a_file_that_cannot_be_written_is_named(shell: Shell, folder: Path) -> None:
    (line,) = problems(shell("ensemble", "--preds", "a.csv", "--out", "b.csv/x.csv"), 1)
    assert line.startswith("b.csv/x.csv: cannot be written")
