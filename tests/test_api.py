"""The same question asked of the command line and of the Python API has the same answer."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

import abaw_emi
from abaw_emi.core.errors import DiagnosticWarning, EmiError
from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.ensembling.combine import METHODS
from tests.cli.conftest import environment
from tests.cli.regenerate import write_files
from tests.command import run_command
from tests.csv_tables import EMOTIONS


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_files(tmp_path)
    return tmp_path


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return run_command(*line.split(), cwd=folder, env=environment())


def say(folder: Path, line: str) -> dict[str, object]:
    done = run(folder, f"{line} --json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_score(files: Path) -> None:
    told = say(files, "score new.csv valid.csv --against old.csv --groups groups.csv --interval bca --seed 3")
    found = abaw_emi.score(
        abaw_emi.read_labels(files / "valid.csv"),
        abaw_emi.read_predictions(files / "new.csv"),
        against={"old.csv": abaw_emi.read_predictions(files / "old.csv")},
        groups=abaw_emi.read_groups(files / "groups.csv"),
        method="bca",
        seed=3,
        names=("valid.csv", "new.csv"),
    )
    assert told["mean_pearson"] == found.mean_pearson
    assert told["signature"] == found.signature
    assert told["interval"] == {key: list(bounds or ()) for key, bounds in found.interval.items()}
    (difference,) = told["against"]  # type: ignore[misc]
    assert difference["p_holm"] == found.against["old.csv"].p_holm
    assert difference["detectable"] == found.against["old.csv"].detectable


def test_compare(files: Path) -> None:
    told = say(files, "compare new.csv old.csv worse.csv valid.csv --bootstrap 100")
    names = ("new.csv", "old.csv", "worse.csv")
    systems = {name: abaw_emi.read_predictions(files / name) for name in names}
    found = abaw_emi.compare(abaw_emi.read_labels(files / "valid.csv"), systems, resamples=100)
    assert {**told, "problems": []} == {**json.loads(found.render("json")), "problems": []}


@pytest.mark.parametrize("method", METHODS)
def test_ensemble(files: Path, method: str) -> None:
    fit = "" if method in ("mean", "zscores", "ranks") else "--fit new.csv old.csv --labels valid.csv"
    say(files, f"ensemble --preds new-test.csv old-test.csv {fit} --method {method}")
    written = abaw_emi.read_predictions(files / "predictions" / "ensemble-test.csv")
    members = {name: files / f"{name}-test.csv" for name in ("new", "old")}
    fitted = {name: files / f"{name}.csv" for name in ("old", "new")}
    given = {"labels": files / "valid.csv", "fit": fitted} if fit else {}
    combined = abaw_emi.ensemble(members, method, **given)  # type: ignore[arg-type]
    read = {
        "labels": abaw_emi.read_labels(files / "valid.csv"),
        "fit": {name: abaw_emi.read_predictions(path) for name, path in fitted.items()},
    }
    tables = {name: abaw_emi.read_predictions(path) for name, path in members.items()}
    assert combined.equals(abaw_emi.ensemble(tables, method, **(read if fit else {})))  # type: ignore[arg-type]
    assert written["Filename"].to_list() == combined["Filename"].to_list()
    expected = combined.select(EMOTIONS).to_numpy()
    assert written.select(EMOTIONS).to_numpy() == pytest.approx(expected, abs=1e-6)


def test_what_the_command_ensemble_refuses_is_refused_in_python_in_the_same_words(files: Path) -> None:
    record = Provenance(command="x", trained_on=frozenset(["08080", "08081"]), trained_on_complete=True)
    write_with_provenance(abaw_emi.read_predictions(files / "old.csv"), files / "seen.csv", record)
    for fit, said in (
        (
            "seen.csv",
            "seen.csv: it was trained on 2 of the clips of valid.csv; expected predictions",
        ),
        ("valid.csv", "valid.csv: these are the labels (mean r 1.0000); expected predictions"),
        ("gone.csv", "gone.csv: no such file"),
    ):
        line = f"--preds new-test.csv old-test.csv --fit new.csv {fit} --labels valid.csv --method weights"
        done = run(files, f"ensemble {line}")
        with contextlib.chdir(files), pytest.raises(EmiError) as caught:
            abaw_emi.ensemble(
                {"new-test.csv": "new-test.csv", "old-test.csv": "old-test.csv"},
                "weights",
                labels="valid.csv",
                fit={"new-test.csv": "new.csv", "old-test.csv": fit},
            )
        assert done.returncode == 1
        assert str(caught.value) == done.stderr.strip()
        assert str(caught.value).startswith(said)


def test_what_the_command_ensemble_warns_of_is_a_python_warning(files: Path) -> None:
    for name in ("new", "old"):
        for file in (f"{name}.csv", f"{name}-test.csv"):
            record = Provenance(command="x", members=[{"run": name}], trained_on_complete=True)
            write_with_provenance(abaw_emi.read_predictions(files / file), files / file, record)
    line = "--preds new-test.csv old-test.csv --fit old.csv new.csv --labels valid.csv --method weights"
    done = run(files, f"ensemble {line}")
    with contextlib.chdir(files), pytest.warns(DiagnosticWarning) as warned:
        abaw_emi.ensemble(
            {"new-test.csv": "new-test.csv", "old-test.csv": "old-test.csv"},
            "weights",
            labels="valid.csv",
            fit={"new-test.csv": "old.csv", "old-test.csv": "new.csv"},
        )
    lines = [f"warning: {warning.message}" for warning in warned]
    assert lines == done.stderr.splitlines()
    assert "it comes from new, but is fitted on old.csv, which comes from old" in lines[0]


def test_check_submission(files: Path) -> None:
    say(files, "submit --preds new-test.csv --name mine")
    archive = files / "submissions" / "mine" / "mine.zip"
    ids = abaw_emi.read_predictions(files / "new-test.csv")["Filename"].to_list()
    assert abaw_emi.check_submission(archive, ids).problems == ()
    assert len(abaw_emi.check_submission(archive, ids[1:]).problems) == 1
    strict = abaw_emi.read_profile(files / "rules.toml")
    assert len(abaw_emi.check_submission(archive, ids, profile=strict).problems) == 16
    (entry,) = abaw_emi.read_ledger(files / "submissions").entries
    assert entry.name == "mine"


def test_every_public_name_is_there() -> None:
    for name in abaw_emi.__all__:
        assert getattr(abaw_emi, name).__doc__
    with pytest.raises(AttributeError):
        _ = abaw_emi.nothing
