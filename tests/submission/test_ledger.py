from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from abaw_emi.core.errors import SubmissionError
from abaw_emi.submission.ledger import amend, append, locked, read_ledger
from tests.cli.conftest import environment, test_ids, values, write_csv


def test_lines_are_entries_and_amendments_change_the_one_they_name(tmp_path: Path) -> None:
    assert read_ledger(tmp_path).entries == ()
    for name in ("a", "b"):
        append(tmp_path, {"name": name, "created": "now", "val": {"mean_pearson": 0.4}})
    assert amend(tmp_path, "a", test_score=0.554).test_score == 0.554
    assert amend(tmp_path, "b", sent=False).sent is False
    assert amend(tmp_path, "a", test_score=0.5).test_score == 0.5
    ledger = read_ledger(tmp_path)
    assert [(entry.name, entry.test_score, entry.sent) for entry in ledger.entries] == [
        ("a", 0.5, True),
        ("b", None, False),
    ]
    assert ledger.used == 1
    assert (tmp_path / "ledger.jsonl").read_text().count("\n") == 5  # append-only
    with pytest.raises(SubmissionError, match="no submission 'c'; abaw-emi ledger lists them"):
        amend(tmp_path, "c", sent=False)


def test_lines_that_cannot_be_read_are_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('by hand\n{"name": "a"}\n[1]\n{"amends": "z", "sent": false}')
    ledger = read_ledger(tmp_path)
    assert [entry.name for entry in ledger.entries] == ["a"]
    assert [problem.where.rpartition(" ")[2] for problem in ledger.problems] == ["1", "3", "4"]
    append(tmp_path, {"name": "b"})  # on a line of its own
    assert [entry.name for entry in read_ledger(tmp_path).entries] == ["a", "b"]


def test_a_line_is_whole_though_the_system_writes_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:7]))
    append(tmp_path, {"name": "a", "sha256": "0" * 64})
    append(tmp_path, {"name": "b"})
    ledger = read_ledger(tmp_path)
    assert ([entry.name for entry in ledger.entries], ledger.problems) == (["a", "b"], ())


def test_what_a_killed_process_left_counts_for_nothing_and_is_cleared_up(tmp_path: Path) -> None:
    append(tmp_path, {"name": "a"})
    (tmp_path / "a").mkdir()
    append(tmp_path, {"name": "b"})
    (tmp_path / ".b.partial").mkdir()
    assert [entry.name for entry in read_ledger(tmp_path).entries] == ["a"]
    with locked(tmp_path):
        pass
    assert not (tmp_path / ".b.partial").exists()
    assert (tmp_path / "ledger.jsonl").read_text() == '{"name": "a"}\n'
    with (tmp_path / "ledger.jsonl").open("a") as file:
        file.write('{"name": "c", "sha')
    (tmp_path / ".c.partial").mkdir()
    assert read_ledger(tmp_path).problems == ()
    with locked(tmp_path):
        pass
    assert (tmp_path / "ledger.jsonl").read_text() == '{"name": "a"}\n'


# Killed anywhere, and two at once.

KILLED = """
import os, signal, sys
from pathlib import Path
import polars as pl
from abaw_emi.submission.write import write_submission
from abaw_emi.data.tables import read_predictions

out, preds, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
table = read_predictions(preds)
ids = table["Filename"].to_list()
import filelock, pandera.polars
seen = 0

def kill(event, arguments):
    global seen
    if any(str(out) in str(argument) for argument in arguments):
        seen += 1
        if seen == after:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
write_submission(table, ids, out, name="second")
print(seen)
"""


def submit_until(out: Path, preds: Path, after: int) -> subprocess.CompletedProcess[str]:
    """Submits, and dies before the `after`-th thing that is done to a file below `out`."""
    command = [sys.executable, "-c", KILLED, str(out), str(preds), str(after)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)


def state(out: Path) -> tuple[list[str], list[str], int]:
    """What a user sees: the folder's visible content, the ledger's entries, the tries used."""
    ledger = read_ledger(out)
    visible = sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if "/." not in f"/{path.relative_to(out)}"
    )
    return visible, [entry.name for entry in ledger.entries], ledger.used


@pytest.mark.exact
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_anywhere_a_submission_leaves_the_state_before_it(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "a.csv", values(test_ids(), 1))
    second = write_csv(tmp_path / "b.csv", values(test_ids(), 2))
    out = tmp_path / "submissions"
    done = subprocess.run(
        [sys.executable, "-c", KILLED.replace('"second"', '"first"'), str(out), str(first), "0"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.returncode == 0
    before = state(out)
    shutil.copytree(out, tmp_path / "copy")
    steps = int(submit_until(tmp_path / "copy", second, 0).stdout)
    assert steps > 20
    assert before[1:] == (["first"], 1)
    # Every third step; of the last ones (the ledger's line, the rename) each. A cleared-up rest adds some.
    for after in sorted({*range(1, steps, 3), *range(steps - 6, steps + 20)}):
        ended = submit_until(out, second, after)
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
        assert state(out) == before, after
    else:
        pytest.fail("it never came to its end")
    assert state(out)[1:] == (["first", "second"], 2)
    lines = (out / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["first", "second"]
    assert not list(out.glob(".*.partial"))


def run_together(commands: Sequence[Sequence[str]], folder: Path) -> list[tuple[int, str]]:
    running = [
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    return [(process.returncode, output) for process, output in zip(running, outputs, strict=True)]


def test_two_at_once_do_not_corrupt_the_ledger(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "test_split.csv").write_text("Filename\n" + "\n".join(test_ids()) + "\n")
    emi = [sys.executable, "-m", "abaw_emi", "submit", "--preds"]
    names = [f"{i}.csv" for i in range(4)]
    for i, name in enumerate(names):
        write_csv(tmp_path / name, values(test_ids(), i))
    ended = run_together([[*emi, name] for name in [*names, names[0]]], tmp_path)
    out = tmp_path / "submissions"
    # The same file twice: whichever comes second is refused.
    assert sorted(code for code, _ in ended) == [0, 0, 0, 0, 1], ended
    assert any("the same file as submission" in text for code, text in ended if code), ended
    entries = read_ledger(out).entries
    assert sorted(entry.name for entry in entries) == [f"submission-{k}" for k in range(1, 5)]
    for entry in entries:
        manifest = json.loads((out / entry.name / "manifest.json").read_text())
        assert manifest["sha256"] == entry.record["sha256"]
    assert len((out / "ledger.jsonl").read_text().splitlines()) == 4
