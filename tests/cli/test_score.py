from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import scipy.stats

from tests.cli.conftest import EMOTIONS, Shell, environment, problems, values, write_csv

VALID = [f"{i:05}" for i in range(5, 17)]
UNKNOWN = (
    "warning: preds.csv: what the predictor was trained on is not known; "
    "make sure it has not seen these clips"
)


@pytest.fixture
def preds(folder: Path) -> Path:
    """Predictions for valid, with ids in another spelling and rows in another order than the labels."""
    rows = {str(int(name)): row for name, row in values(VALID, 3, 0.001, 0.999).items()}
    return write_csv(folder / "preds.csv", dict(reversed(rows.items())))


def write_record(preds: Path, trained_on: list[str], *precisions: str) -> None:
    record = {
        "sha256": hashlib.sha256(preds.read_bytes()).hexdigest(),
        "command": "test",
        "version": "0",
        "split": "valid",
        "trained_on": trained_on,
        "trained_on_complete": True,
        "skipped": [],
        "read_from_video": {},
        "members": [{"run": f"run-{name}", "precision": name} for name in precisions],
    }
    preds.with_suffix(".provenance.json").write_text(json.dumps(record))


def test_arithmetic_other_than_float32_stands_in_the_signature(
    shell: Shell, folder: Path, preds: Path
) -> None:
    write_record(preds, ["00000-00004"], "fp32", "bf16")
    done = shell("score", "preds.csv", "data/valid_split.csv", "--bootstrap", "0")
    assert "|ci:none|precision:bf16|abaw_emi:" in done.stdout
    write_record(preds, ["00000-00004"], "fp32")
    assert "precision" not in shell("score", "preds.csv", "data/valid_split.csv", "--bootstrap", "0").stdout


def test_the_labels_are_those_of_the_split_that_the_record_names(
    shell: Shell, folder: Path, preds: Path
) -> None:
    bare = problems(shell("score", "preds.csv"), 2)
    assert bare == [
        "preds.csv: no labels are given, and no record says which clips these are; "
        "abaw-emi score preds.csv LABELS"
    ]
    write_record(preds, ["00000-00004"])
    given = shell("score", "preds.csv", "data/valid_split.csv")
    alone = shell("score", "preds.csv")
    assert alone.returncode == 0
    assert alone.stdout == given.stdout


def test_a_run_folder_stands_for_its_predictions_of_valid(shell: Shell, folder: Path, preds: Path) -> None:
    for number in (1, 2):
        run = folder / "runs" / f"paper-seed{number}"
        run.mkdir(parents=True)
        (run / "valid_predictions.csv").write_bytes(preds.read_bytes())
        write_record(run / "valid_predictions.csv", ["00000-00004"])
    by_file = shell("score", "runs/paper-seed1/valid_predictions.csv", "data/valid_split.csv")
    assert shell("score", "runs/paper-seed1").stdout == by_file.stdout
    both = shell("compare", "runs/paper-seed1", "runs/paper-seed2", "data/valid_split.csv")
    assert "runs/paper-seed2/valid_predictions.csv" in both.stdout
    (line,) = problems(shell("score", "runs"), 2)
    assert line.startswith("runs: a folder without valid_predictions.csv; expected a CSV, or a run folder")


def test_labels_in_the_place_of_predictions_are_recognised(shell: Shell, folder: Path, preds: Path) -> None:
    write_record(preds, ["00000-00004"])
    (line,) = problems(shell("score", "data/valid_split.csv", "preds.csv"), 2)
    assert "preds.csv holds predictions, and valid_split.csv is a label file; expected PREDS first" in line


def test_json_is_one_object_with_the_keys_of_the_contract_and_unrounded_numbers(
    shell: Shell, folder: Path, preds: Path
) -> None:
    write_record(preds, ["00000-00004"])
    done = shell("score", "preds.csv", "data/valid_split.csv", "--json", "--bootstrap", "200")
    assert problems(done, 0) == []
    result = json.loads(done.stdout)
    of_the_contract = {"mean_pearson", "pearson", "interval", "n", "signature", "contaminated", "problems"}
    assert set(result) >= of_the_contract
    truth = pl.read_csv(folder / "data" / "valid_split.csv", schema_overrides={"Filename": pl.Int64}).sort(
        "Filename"
    )
    found = pl.read_csv(preds).sort("Filename")
    expected = {e: scipy.stats.pearsonr(truth[e].to_numpy(), found[e].to_numpy()).statistic for e in EMOTIONS}
    assert result["pearson"] == pytest.approx(expected, abs=1e-12)
    assert result["mean_pearson"] == pytest.approx(sum(expected.values()) / 6, abs=1e-12)
    assert list(result["interval"]) == ["mean_pearson", *EMOTIONS]
    assert (result["n"], result["contaminated"], result["problems"]) == (12, False, [])


def test_without_resamples_there_is_no_interval(shell: Shell, preds: Path) -> None:
    result = json.loads(shell("score", preds, "data/valid_split.csv", "--json", "--bootstrap", "0").stdout)
    assert result["interval"] == {}
    text = shell("score", preds, "data/valid_split.csv", "--bootstrap", "0").stdout
    assert "interval" not in text
    assert "[" not in text


def test_a_constant_column_is_null_counted_0_and_exits_1_unless_allowed(shell: Shell, folder: Path) -> None:
    rows = {name: [*row[:5], 0.25] for name, row in values(VALID, 3).items()}
    write_csv(folder / "preds.csv", rows)
    arguments = ("score", "preds.csv", "data/valid_split.csv", "--bootstrap", "20")
    done = shell(*arguments, "--json")
    lines = problems(done, 1)
    result = json.loads(done.stdout)
    assert result["pearson"]["Joy"] is None
    assert result["interval"]["Joy"] is None
    assert result["mean_pearson"] == pytest.approx(sum(result["pearson"][e] for e in EMOTIONS[:5]) / 6)
    said = "preds.csv, Joy: the predictions are constant, so Pearson's r is undefined; counted as 0"
    assert result["problems"][0] == said
    assert f"warning: {said}" in lines
    assert lines[-1] == (
        "preds.csv: no r of Joy; expected columns that vary; --allow-constant to exit 0 all the same"
    )
    allowed = shell(*arguments, "--allow-constant")
    problems(allowed, 0)
    assert "undefined" in allowed.stdout


def test_a_score_on_clips_of_the_training_is_said_to_be_none(shell: Shell, preds: Path) -> None:
    write_record(preds, ["00000-00007"])
    done = shell("score", "preds.csv", "data/valid_split.csv", "--bootstrap", "20")
    assert any("3 of these 12 clips" in line for line in problems(done, 0))
    assert done.stdout.startswith("SEEN IN TRAINING: not a validation score\n")
    result = json.loads(shell("score", preds, "data/valid_split.csv", "--bootstrap", "0", "--json").stdout)
    assert result["contaminated"] is True
    assert any("SEEN IN TRAINING" in problem for problem in result["problems"])


def test_a_record_of_other_bytes_is_not_believed(shell: Shell, preds: Path) -> None:
    write_record(preds, ["00000-00007"])
    preds.write_text(preds.read_text(encoding="utf-8").replace("0.1", "0.2"), encoding="utf-8")
    done = shell("score", "preds.csv", "data/valid_split.csv", "--bootstrap", "0")
    first, second = problems(done, 0)
    assert first.startswith(
        "warning: preds.provenance.json: it was written for other bytes than preds.csv holds now"
    )
    assert second == UNKNOWN


def test_problems_of_both_files_are_on_stderr_one_a_line_and_nothing_on_stdout(
    shell: Shell, folder: Path
) -> None:
    rows = values(VALID, 3)
    write_csv(folder / "preds.csv", rows | {"00005": [0.1, float("nan"), 0.3, 0.4, 0.5, 0.6]})
    write_csv(folder / "labels.csv", rows | {"00006": [0.1, 0.2, 1.5, 0.4, 0.5, -1]})
    done = shell("score", "preds.csv", "labels.csv")
    assert problems(done, 1) == [
        "labels.csv, line 3, Determination: 1.5 is outside [0, 1]",
        "labels.csv, line 3, Joy: -1 is outside [0, 1]",
        "preds.csv, line 2, Amusement: nan is not finite; expected a finite number",
    ]
    assert done.stdout == ""


def test_json_holds_the_problems_also_where_there_is_no_score(shell: Shell) -> None:
    done = shell("score", "nowhere.csv", "data/valid_split.csv", "--json")
    assert problems(done, 1) == ["nowhere.csv: no such file"]
    assert json.loads(done.stdout) == {"problems": ["nowhere.csv: no such file"]}


def test_ids_that_do_not_match_are_named(shell: Shell, folder: Path) -> None:
    write_csv(folder / "preds.csv", values([*VALID[2:], "00099"], 3))
    assert problems(shell("score", "preds.csv", "data/valid_split.csv"), 1) == [
        "preds.csv: 2 ids missing, against data/valid_split.csv: 00005, 00006",
        "preds.csv: 1 id too many, against data/valid_split.csv: 00099",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes of Unix")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("extra", [[], ["--json"], ["--bootstrap", "x", "--json"]], ids=" ".join)
def test_a_reader_of_stdout_that_goes_away_is_no_traceback(
    folder: Path, preds: Path, unbuffered: str, extra: list[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "abaw_emi", "score", "preds.csv", "data/valid_split.csv", *extra]
    env = environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(command, cwd=folder, env=env, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    if not unbuffered:
        assert done.returncode == (2 if "x" in extra else 0)


def test_debug_shows_the_traceback(shell: Shell) -> None:
    done = shell("score", "nowhere.csv", "data/valid_split.csv", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "nowhere.csv: no such file" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_stopped_command_exits_as_a_shell_expects(
    folder: Path, preds: Path, number: signal.Signals, code: int
) -> None:
    os.mkfifo(folder / "labels.csv")
    command = [sys.executable, "-m", "abaw_emi", "score", "preds.csv", "labels.csv", "--bootstrap", "9999999"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    try:
        deadline = time.monotonic() + 30
        while True:  # until the command reads from the pipe
            try:
                pipe = os.open(folder / "labels.csv", os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        os.write(pipe, (folder / "data" / "valid_split.csv").read_bytes())
        os.close(pipe)
        time.sleep(1)  # it has read the labels, and resamples now
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in stderr
