from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abaw_emi.submission.ledger import read_ledger
from tests.cli.conftest import Shell, environment, problems, test_ids, values, write_csv
from tests.simulated import draw_labels, predict

COUNTS = "warning: data, test: 6 clips; expected 4,586"
NO_RECORD = "no provenance record: whether its runs have seen test clips is not known"
VALID = [f"{i:05}" for i in range(5, 17)]


def write_record(path: Path, **changes: Any) -> None:
    record = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": "x",
        "version": "0",
        "split": "test",
        "trained_on": [],
        "trained_on_complete": True,
        "skipped": [],
        "read_from_video": {},
        "members": [],
    }
    path.with_suffix(".provenance.json").write_text(json.dumps(record | changes))


@pytest.fixture
def preds(folder: Path) -> Path:
    return write_csv(folder / "predictions" / "ensemble-test.csv", values(test_ids(), 6))


def test_what_is_sent_is_named_and_told_apart_in_the_ledger(shell: Shell, folder: Path, preds: Path) -> None:
    mean = "mean of 2: a-seed1, a-seed2"
    write_record(preds, members=[{"run": "a-seed1"}, {"run": "a-seed2"}])
    done = shell("submit", "--name", "both")
    assert done.stdout.splitlines()[0] == f"predictions/ensemble-test.csv: {mean}"
    write_csv(preds, values(test_ids(), 7))
    write_record(preds, members=[{"run": "a-seed1"}])
    assert json.loads(shell("submit", "--name", "one", "--json").stdout)["system"] == "a-seed1"
    write_csv(folder / "theirs.csv", values(test_ids(), 8))
    done = shell("submit", "--preds", "theirs.csv", "--name", "third")
    assert done.stdout.startswith("theirs.csv: what it is made of is not recorded\n")
    shown = shell("ledger", "--format", "markdown").stdout.splitlines()[2:5]
    assert [line.split(" | ")[-1] for line in shown] == [f"{mean} |", "a-seed1 |", "theirs.csv |"]
    ledger = folder / "submissions" / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["system"] for line in lines] == [mean, "a-seed1", ""]
    del lines[0]["system"]  # as entries of before
    ledger.write_text(json.dumps(lines[0]) + "\n")
    (before,) = read_ledger(ledger.parent).entries
    assert before.system == "ensemble-test.csv"


@pytest.mark.usefixtures("preds")
def test_the_ledger_lists_what_was_sent_with_its_interval_and_takes_the_test_score(
    shell: Shell, folder: Path
) -> None:
    write_csv(folder / "valid.csv", values(VALID, 3))
    done = shell("submit", "--name", "mine", "--valid-preds", "valid.csv")
    assert problems(done, 0) == [COUNTS, f"warning: predictions/ensemble-test.csv: {NO_RECORD}"]
    score = json.loads(shell("score", "valid.csv", "data/valid_split.csv", "--json").stdout)
    low, high = score["interval"]["mean_pearson"]
    told = f"{score['mean_pearson']:.4f} [{low:.4f}, {high:.4f}]"
    assert f"validation score: {told}; of valid.csv on valid\n" in done.stdout
    assert "tries: 1 of 5 (assumed) used\n" in done.stdout
    listed = shell("ledger")
    problems(listed, 0)
    header, line, tries, following = listed.stdout.splitlines()
    assert header.split()[:2] == ["Submission", "Created"]
    assert line.startswith("mine ")
    assert told in line
    assert tries == "tries: 1 of 5 (assumed) used"
    assert following == "next: abaw-emi ledger set mine --test-score R"
    done = shell("ledger", "set", "mine", "--test-score", ".554")
    assert problems(done, 0) == []
    assert done.stdout == f"mine: validation {told}, test 0.5540\nnext: abaw-emi ledger\n"
    assert " 0.5540 " in shell("ledger").stdout
    done = shell("ledger", "set", "mine", "--not-sent", "--json")
    assert json.loads(done.stdout)["sent"] is False
    result = json.loads(shell("ledger", "--json").stdout)
    assert result["tries"] == {"used": 0, "of": 5, "assumed": True}
    (entry,) = result["submissions"]
    assert (entry["name"], entry["test_score"], entry["val"]["mean_pearson"]) == (
        "mine",
        0.554,
        score["mean_pearson"],
    )
    assert shell("ledger", "--format", "markdown").stdout.startswith("| Submission | Created (UTC) |")


@pytest.mark.usefixtures("preds")
def test_an_empty_ledger_and_an_unknown_name(shell: Shell, folder: Path) -> None:
    (line,) = problems(shell("ledger"), 0)
    assert line == (
        "warning: submissions/ledger.jsonl: not there; nothing is submitted yet; "
        "--submissions names another folder"
    )
    assert problems(shell("ledger", "set", "x", "--sent"), 1) == [
        "submissions/ledger.jsonl: no submission 'x'; abaw-emi ledger lists them"
    ]
    assert problems(shell("ledger", "set", "x"), 2) == [
        "ledger set: nothing to enter; expected --test-score, --sent or --not-sent"
    ]
    assert not (folder / "submissions").exists()


def test_one_try_too_many_is_refused_without_force(shell: Shell, folder: Path, preds: Path) -> None:
    (folder / "rules.toml").write_text("tries = 1\n")
    problems(shell("submit", "--profile", "rules.toml"), 0)
    write_csv(preds, values(test_ids(), 7))
    lines = problems(shell("submit", "--profile", "rules.toml"), 1)
    assert lines[-1] == (
        "submissions/ledger.jsonl: 1 of 1 tries are used; expected one try left; "
        "--force (in Python force=True) to go on all the same"
    )
    done = shell("submit", "--profile", "rules.toml", "--force")
    assert any(line.startswith("warning: submissions/ledger.jsonl: 1 of 1") for line in problems(done, 0))
    assert "tries: 2 of 1 used\n" in done.stdout
    assert "csv name, zip name); the rest is that of rules.toml\n" in done.stdout


@pytest.mark.usefixtures("preds")
def test_a_dry_run_writes_nothing(shell: Shell, folder: Path) -> None:
    done = shell("submit", "--dry-run")
    problems(done, 0)
    assert "submission-1.zip: 6 clips; nothing is written (dry run)\n" in done.stdout
    assert not (folder / "submissions").exists()
    result = json.loads(shell("submit", "--dry-run", "--json").stdout)
    assert result["dry_run"] is True
    assert "header" in result["assumed"]


def test_check_and_submit_refuse_what_the_record_forbids(shell: Shell, preds: Path) -> None:
    write_record(preds, split="valid", trained_on=["00020"])
    expected = [
        f"{preds.relative_to(preds.parents[1])}: its runs were trained on 1 of the test clips",
        f"{preds.relative_to(preds.parents[1])}: its record says split valid; expected split test",
    ]
    assert problems(shell("submit"), 1) == [COUNTS, *expected]
    done = shell("check", "predictions/ensemble-test.csv")
    assert problems(done, 1) == [COUNTS, *expected]
    write_record(preds, sha256="0")
    assert any("was written for other bytes" in line for line in problems(shell("submit"), 1))


def test_a_broken_profile_is_told_with_every_key(shell: Shell, folder: Path, preds: Path) -> None:
    (folder / "rules.toml").write_text("tries = 0\nextension = 1\n")
    for command in (["submit"], ["check", str(preds)], ["ledger"]):
        lines = problems(shell(*command, "--profile", "rules.toml"), 1)
        assert [line.split(":")[0] for line in lines if line != COUNTS] == [
            "rules.toml, extension",
            "rules.toml, tries",
        ]


@pytest.mark.usefixtures("preds")
def test_a_file_sent_before_is_refused_though_its_folder_is_gone(shell: Shell, folder: Path) -> None:
    problems(shell("submit", "--name", "mine"), 0)
    shutil.rmtree(folder / "submissions" / "mine")
    (folder / "rules.toml").write_text("decimals = 4\n")
    for arguments in ([], ["--profile", "rules.toml"]):  # other bytes, made from the same file
        lines = problems(shell("submit", *arguments), 1)
        assert lines[-1] == (
            "predictions/ensemble-test.csv: the same file as submission mine; expected another system; "
            "--force (in Python force=True) to send it all the same"
        )
    problems(shell("ledger", "set", "mine", "--not-sent"), 0)
    problems(shell("submit"), 0)


@pytest.mark.usefixtures("preds")
def test_labels_are_no_predictions_of_valid(shell: Shell, folder: Path) -> None:
    lines = problems(shell("submit", "--valid-preds", "data/valid_split.csv"), 1)
    assert lines == [
        "data/valid_split.csv: these are the labels (mean r 1.0000); expected predictions",
    ]
    assert not (folder / "submissions").exists()


STOPPED = """
import os, signal, sys

seen = 0

def stop(event, arguments):
    global seen
    if event.startswith("fcntl") or any("submissions" in str(argument) for argument in arguments):
        seen += 1
        if seen == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGTERM)

from abaw_emi.cli import main
import filelock, pandera.polars
after, sys.argv[1:] = sys.argv[1], ["submit"]
sys.addaudithook(stop)
try:
    main()
finally:
    print(seen, file=sys.stderr)
"""


@pytest.mark.exact
@pytest.mark.usefixtures("preds")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_stopped_anywhere_it_is_done_and_says_so_or_not_done_and_says_so(folder: Path) -> None:
    def stop(after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", STOPPED.replace("int(sys.argv[1])", str(after))]
        shutil.rmtree(folder / "submissions", ignore_errors=True)
        return subprocess.run(
            [*command, "0"], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )

    steps = int(stop(0).stderr.splitlines()[-1])
    ended = {}
    for after in range(steps - 14, steps + 1):
        done = stop(after)
        entered = [entry.name for entry in read_ledger(folder / "submissions").entries]
        ended[after] = (done.returncode, entered)
        if done.returncode:
            assert done.returncode == 143
            assert "stopped; nothing half-written is left" in done.stderr
            assert (entered, (folder / "submissions" / "submission-1").exists()) == ([], False), after
        else:
            assert "written, read back and checked" in done.stdout
            assert entered == ["submission-1"], after
    assert {code for code, _ in ended.values()} == {0, 143}, ended


# A run on train+val.


@pytest.fixture
def trained_on_both(folder: Path) -> Path:
    """`data/` of 60 labelled clips, 3-fold runs on them, and what a run on all of them predicts for valid."""
    rng = np.random.default_rng(4)
    labels = draw_labels(rng, 60)
    ids = [f"{i:05}" for i in range(60)]
    write_csv(folder / "data" / "train_split.csv", dict(zip(ids[:40], labels[:40].tolist(), strict=True)))
    write_csv(folder / "data" / "valid_split.csv", dict(zip(ids[40:], labels[40:].tolist(), strict=True)))
    (folder / "data" / "test_split.csv").write_text(
        "Filename\n" + "\n".join(f"{i:05}" for i in range(70, 76))
    )
    for k in range(3):
        run = folder / "runs" / f"paper-trainval-fold{k + 1}of3-seed1"
        rows = dict(zip(ids[k::3], predict(rng, labels[k::3], 1.0).tolist(), strict=True))
        write_csv(run / "valid_predictions.csv", rows)
        record = {
            "preset": "paper",
            "seed": 1,
            "fold": f"{k + 1}/3",
            "train_plus_val": True,
            "finished": True,
        }
        (run / "provenance.json").write_text(json.dumps(record))
    member = {"run": "paper-trainval-seed1", "preset": "paper", "seed": 1, "valid": None}
    near = write_csv(
        folder / "v.csv", dict(zip(ids[40:], predict(rng, labels[40:], 0.1).tolist(), strict=True))
    )
    write_record(near, split="valid", trained_on=["00000-00059"], members=[member])
    test = write_csv(folder / "t.csv", values([f"{i:05}" for i in range(70, 76)], 1))
    write_record(test, trained_on=["00000-00059"], members=[member])
    return folder


@pytest.mark.usefixtures("trained_on_both")
def test_for_a_run_on_both_splits_the_k_fold_score_is_told_in_place_of_its_own(shell: Shell) -> None:
    done = shell("score", "v.csv", "data/valid_split.csv")
    problems(done, 0)
    first, second, *_ = done.stdout.splitlines()
    assert first == "SEEN IN TRAINING: not a validation score"
    assert second.startswith("in its place, 0.")
    assert second.endswith(
        "3-fold runs of preset paper on train+val (seed 1), each on clips that it has not seen: "
        "of the recipe, not of this run; optimistic, since folds share speakers"
    )
    result = json.loads(shell("score", "v.csv", "data/valid_split.csv", "--json").stdout)
    assert result["contaminated"] is True
    assert result["kfold"]["n"] == 60
    assert result["kfold"]["mean_pearson"] < result["mean_pearson"]
    nowhere = shell("score", "v.csv", "data/valid_split.csv", "--json", "--runs", "nowhere")
    assert json.loads(nowhere.stdout)["kfold"] is None


@pytest.mark.usefixtures("trained_on_both")
def test_the_ledger_holds_the_k_fold_score_and_what_it_is(shell: Shell) -> None:
    done = shell("submit", "--preds", "t.csv", "--json")
    problems(done, 0)
    val = json.loads(done.stdout)["val"]
    score = json.loads(shell("score", "v.csv", "data/valid_split.csv", "--json").stdout)
    assert val["mean_pearson"] == score["kfold"]["mean_pearson"]
    assert val["kind"].startswith("3-fold runs of preset paper on train+val")
    assert "3-fold runs of preset paper" in shell("ledger").stdout


@pytest.mark.usefixtures("trained_on_both")
def test_predictions_of_clips_seen_in_training_are_no_validation_score(shell: Shell) -> None:
    lines = problems(shell("submit", "--preds", "t.csv", "--valid-preds", "v.csv"), 1)
    assert lines == ["v.csv: SEEN IN TRAINING: 20 of its clips"]


def test_a_fitted_ensemble_brings_its_out_of_fold_score(shell: Shell, folder: Path, preds: Path) -> None:
    told = {"mean_pearson": 0.41, "interval": {"mean_pearson": [0.4, 0.42]}}
    scheme = {"scheme": "weights", "out_of_fold": {"members": ["a", "b"], "schemes": {"weights": told}}}
    write_record(preds, scheme=scheme)
    done = shell("submit")
    problems(done, 0)
    said = "validation score: 0.4100 [0.4000, 0.4200]; of the weights of 2 members on valid, out of fold\n"
    assert said in done.stdout


def test_runs_on_train_bring_the_score_of_the_mean_of_their_predictions(
    shell: Shell, folder: Path, preds: Path
) -> None:
    for seed in (1, 2):
        write_csv(folder / "runs" / f"paper-seed{seed}" / "valid_predictions.csv", values(VALID, 20 + seed))
    members = [{"run": f"paper-seed{seed}", "preset": "paper", "seed": seed} for seed in (1, 2)]
    write_record(preds, members=members)
    done = shell("submit")
    problems(done, 0)
    assert "; of the mean of 2 runs on valid\n" in done.stdout


@pytest.fixture
def two_runs(folder: Path) -> list[Path]:
    """Predictions of test by two runs on other scales, whose own predictions of valid are there."""
    files = []
    for seed in (1, 2):
        name, high = f"paper-seed{seed}", 10.0**-seed
        write_csv(folder / "runs" / name / "valid_predictions.csv", values(VALID, 20 + seed, high=high))
        file = write_csv(folder / f"test{seed}.csv", values(test_ids(), 30 + seed, high=high))
        write_record(file, members=[{"run": name, "preset": "paper", "seed": seed}])
        files.append(file)
    return files


def validation_score(shell: Shell, *options: str) -> dict[str, Any] | None:
    done = shell("submit", "--dry-run", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["val"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["mean", "zscores", "ranks"])
def test_the_ledger_gets_the_score_of_the_scheme_that_combined_what_is_sent(
    shell: Shell, two_runs: list[Path], method: str
) -> None:
    own = [f"runs/paper-seed{seed}/valid_predictions.csv" for seed in (1, 2)]
    problems(shell("ensemble", "--method", method, "--preds", *own, "--split", "valid", "--out", "v.csv"), 0)
    problems(shell("ensemble", "--method", method, "--preds", *two_runs), 0)
    val = validation_score(shell)
    scored = json.loads(shell("score", "v.csv", "data/valid_split.csv", "--json").stdout)
    assert val is not None
    assert val["mean_pearson"] == pytest.approx(scored["mean_pearson"])
    assert val["kind"] == f"of the {method} of 2 runs on valid"


def test_weights_without_a_score_out_of_fold_bring_no_score_and_it_is_said(
    shell: Shell, two_runs: list[Path], preds: Path
) -> None:
    members = [{"run": f"paper-seed{seed}"} for seed in (1, 2)]
    write_record(preds, members=members, scheme={"scheme": "weights", "out_of_fold": None})
    *_, line = problems(shell("submit"), 0)
    assert line == (
        "warning: validation score: not known: the record of weights has no score out of fold; "
        "name its predictions of valid with --valid-preds"
    )
    assert read_ledger(preds.parents[1] / "submissions").entries[0].record["val"] is None


def test_a_member_that_is_not_one_run_leaves_the_score_unknown(
    shell: Shell, folder: Path, two_runs: list[Path]
) -> None:
    problems(shell("ensemble", "--preds", *two_runs, "--out", "both.csv"), 0)
    stranger = write_csv(folder / "stranger.csv", values(test_ids(), 9))
    problems(shell("ensemble", "--preds", "both.csv", stranger), 0)  # two members, and two runs
    assert validation_score(shell) is None
    for file, ranked in zip(two_runs, ("a.csv", "b.csv"), strict=True):
        problems(shell("ensemble", "--method", "ranks", "--preds", file, "--out", ranked), 0)
    problems(shell("ensemble", "--preds", "a.csv", "b.csv"), 0)
    assert validation_score(shell) is None
