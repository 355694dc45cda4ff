"""Printing never ends a command and never undoes one, and what files hold never acts on a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Shell, environment, problems, test_ids, values, write_csv

HOSTILE = "a\x1b[2K\x9b\u202e\r\x07"
SHOWN = r"a\x1b[2K\x9b\u202e\r\x07"


def bash(folder: Path, line: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """The line in a shell, where `abaw-emi` is the command."""
    setup = f'set -o pipefail; abaw-emi() {{ "{sys.executable}" -m abaw_emi "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", setup + line],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=60,
    )


@pytest.fixture
def preds(folder: Path) -> Path:
    return write_csv(folder / "preds.csv", values(test_ids(), 1))


@pytest.mark.parametrize(
    ("redirection", "said"),
    [
        (">&-", ""),
        (
            ">/dev/full",
            "stdout: No space left on device; what was printed there is lost, what was done is not",
        ),
        (">/dev/full 2>&1", ""),
        (">&- 2>&-", ""),
        ("| true", ""),
        ("2>&1 | true", ""),
    ],
)
def test_a_submission_that_cannot_be_told_of_is_made_and_exits_0(
    folder: Path, preds: Path, redirection: str, said: str
) -> None:
    done = bash(folder, f"abaw-emi submit --preds preds.csv {redirection}")
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len((folder / "submissions/ledger.jsonl").read_text().splitlines()) == 1
    assert len(list((folder / "submissions").glob("*/*.csv"))) == 1


def test_a_score_that_was_lost_is_no_success(folder: Path) -> None:
    write_csv(folder / "valid.csv", values([f"{i:05}" for i in range(5, 17)], seed=3))
    line = "abaw-emi score valid.csv data/valid_split.csv --bootstrap 0"
    assert problems(bash(folder, f"{line} >/dev/full"), 1)[-1].startswith("stdout: No space left on device")
    (warning,) = problems(bash(folder, f"{line} | true"), 0)
    assert warning.startswith("warning: valid.csv")


def test_a_name_that_the_terminal_cannot_print_is_spelt(folder: Path, preds: Path) -> None:
    done = bash(folder, "abaw-emi submit --preds preds.csv --name Größe-名", PYTHONIOENCODING="latin-1")
    lines = problems(done, 0)
    assert not [line for line in lines if "fault" in line]
    assert "\\u540d" in done.stdout
    assert (folder / "submissions" / "Größe-名").is_dir()


def test_a_closed_descriptor_is_not_that_of_a_file(folder: Path, preds: Path) -> None:
    """Without standard output and error, the first files that are opened would be theirs."""
    done = bash(folder, "abaw-emi ensemble --preds preds.csv preds2.csv >&- 2>&- <&-")
    assert done.returncode == 1
    write_csv(folder / "preds2.csv", values(test_ids(), 2))
    assert bash(folder, "abaw-emi ensemble --preds preds.csv preds2.csv >&- 2>&- <&-").returncode == 0
    lines = (folder / "predictions/ensemble-test.csv").read_text().splitlines()
    assert len(lines) == 1 + len(test_ids())


def test_names_of_files_do_not_act_on_the_terminal(folder: Path, shell: Shell) -> None:
    name = f"{HOSTILE}\nb.csv"
    (line,) = problems(shell("score", name, "data/valid_split.csv"), 1)
    assert line.startswith(f"{SHOWN}\\nb.csv: no such file")
    found = json.loads(shell("score", name, "data/valid_split.csv", "--json").stdout)
    assert found["problems"][0].startswith(f"{name}: no such file")


def test_names_of_runs_do_not_act_on_the_terminal(folder: Path, shell: Shell) -> None:
    run = folder / "runs" / f"[red]:smile:{HOSTILE}"
    run.mkdir(parents=True)
    (run / "run.toml").write_text("")
    (run / "provenance.json").write_text(json.dumps({"preset": "paper", "fold": f"1/5{HOSTILE}"}))
    text = shell("runs").stdout
    assert f"[red]:smile:{SHOWN}" in text
    assert f"fold 1/5{SHOWN}" in text
    assert not set(text) & set(HOSTILE[1:].replace("[2K", ""))


def test_entries_of_a_ledger_do_not_act_on_the_terminal(folder: Path, shell: Shell) -> None:
    (folder / "submissions").mkdir()
    entry = {"name": f"x{HOSTILE}", "created": "2025-01-01T00:00:00+00:00", "note": HOSTILE}
    (folder / "submissions/ledger.jsonl").write_text(json.dumps(entry) + "\n")
    done = shell("ledger", "--out", "submissions")
    assert not set(done.stdout + done.stderr) & set("\x1b\x9b\u202e\r\x07")
