from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tests.command import run_command
from tests.report.conftest import Made, make_folder, make_labels

_WITHOUT_MATPLOTLIB = """
import importlib.metadata as metadata
real = metadata.Distribution.from_name.__func__
def from_name(cls, name):
    if name == "matplotlib":
        raise metadata.PackageNotFoundError(name)
    return real(cls, name)
metadata.Distribution.from_name = classmethod(from_name)
import sys
sys.modules["matplotlib"] = None
"""


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return run_command("report", *arguments, cwd=folder, env=environment(**changes))


def test_the_command_finds_what_lies_in_its_usual_place(tmp_path: Path) -> None:
    make_folder(tmp_path)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("report.html: 9 figures, ")
    assert (tmp_path / "report.html").stat().st_size < 3 * 2**20


def test_json_is_one_object_with_every_score(made: Made) -> None:
    done = run(made.folder, "--json", "--out", "json.html", "--preds", "predictions/theirs.csv", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["report"] == "json.html"
    assert printed["bytes"] == (made.folder / "json.html").stat().st_size
    assert {system["name"] for system in printed["systems"]} == {
        "tiny-seed1",
        "tiny-seed2",
        "tiny-seed3",
        "theirs",
        "mean of 3 runs",
    }
    best = made.written.results.best
    assert best is not None
    assert printed["systems"][0]["mean_pearson"] == best.score.mean_pearson
    assert len(printed["comparison"]["pairs"]) == 10
    assert len(printed["worst"]) == 20
    assert printed["missing"] == {}
    assert printed["ensemble_gain"]["difference"]["first"] == "mean of 3"
    assert 0 < printed["clipped"]["share_changed"] < 1


def test_what_is_not_on_the_page_is_said(tmp_path: Path) -> None:
    make_labels(tmp_path / "data")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not on it: No runs given." in done.stdout
    assert "not on it: No submissions: no ledger was found." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 1, "report: nothing to report; expected labels, runs, predictions or submissions"),
        (["--data", "nowhere"], 1, "nowhere: does not exist"),
        (["--runs", "no-run"], 1, "no-run: no such run"),
        (["--preds", "none.csv"], 1, "none.csv: no such file"),
        (["--submissions", "none"], 1, "ledger.jsonl: no such file"),
        (["--out", "."], 1, ".: is a folder"),
        (["--colour"], 2, "--colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(tmp_path: Path, arguments: list[str], code: int, expected: str) -> None:
    done = run(tmp_path, *arguments, COLUMNS="200")
    assert done.returncode == code
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_WITHOUT_MATPLOTLIB)
    command = [sys.executable, "-m", "abaw_emi", "report"]
    env = environment(PYTHONPATH=str(site))
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "installation: not installed: matplotlib; pip install 'abaw-emi[report]'\n"


def test_a_page_that_was_there_stays_whole_when_the_new_one_fails(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("the old page")
    assert run(tmp_path, "--preds", "none.csv").returncode == 1
    assert (tmp_path / "report.html").read_text() == "the old page"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
