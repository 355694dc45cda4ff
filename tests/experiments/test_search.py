"""The search: what it may try, what it gives up on, and what several processes make of it together."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import TrialState

from abaw_emi.config.presets import find_preset
from abaw_emi.config.read import read_config
from abaw_emi.core.constants import COLUMNS, EMOTIONS, FILENAME
from abaw_emi.core.errors import ConfigError, RunError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.frames import write_predictions
from abaw_emi.evaluation.pearson import mean_pearson
from abaw_emi.experiments.jobs import Job
from abaw_emi.experiments.search import search as run_search
from abaw_emi.experiments.search import summarise_search
from abaw_emi.experiments.selection import score_choice
from abaw_emi.experiments.space import Dimension, read_space
from abaw_emi.experiments.study import SearchPlan, next_trial, open_study
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import find_run, find_runs
from tests.command import run_command

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
SPACE = '"training.learning_rate" = {low = 1e-4, high = 1e-1, log = true}\n"training.loss" = ["mse", "ccc"]\n'


def write_words(folder: Path, data: Path, *arguments: str) -> list[str]:
    (folder / "space.toml").write_text(SPACE)
    words = ["search", "--preset", "tiny", "--space", str(folder / "space.toml"), "--out", str(folder)]
    return [*words, "--data", str(data), "--device", "cpu", *arguments]


def start(folder: Path, data: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "abaw_emi", *write_words(folder, data, *arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def search(folder: Path, data: Path, *arguments: str, code: int = 0) -> CompletedProcess[str]:
    done = run_command(*write_words(folder, data, *arguments), env=ENVIRONMENT)
    assert done.returncode == code, done.stderr
    return done


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    values: dict[str, Any] = json.loads(out)
    return values


@pytest.mark.parametrize(
    ("processes", "trials"), [(1, 1), pytest.param(2, 8, marks=pytest.mark.exact)], ids=["one", "two"]
)
def test_processes_make_the_trials_together_and_the_best_is_kept(
    data_root: Path, tmp_path: Path, processes: int, trials: int
) -> None:
    options = ("--trials", str(trials), "--set", "training.epochs=2", "--json")
    others = [start(tmp_path, data_root, *options) for _ in range(processes - 1)]
    ends = [json.loads(search(tmp_path, data_root, *options).stdout), *map(finish, others)]
    found = json.loads(search(tmp_path, data_root, *options).stdout)
    assert found["trials"] + found["pruned"] == trials
    assert found["running"] == 0
    folder = tmp_path / "tiny"
    # A trial may be given up when its last epoch is over already: its run is stopped before it is finished.
    runs = [run for run in find_runs(folder) if run.finished]
    values = [run.read_provenance()["valid"]["mean_pearson"] for run in runs]
    assert found["value"] == max(values)
    best = read_config(folder / "best.toml").training
    assert (best.learning_rate, best.loss) == tuple(found["options"].values())
    assert max(end["trials"] for end in ends) == found["trials"]
    for run in runs:
        epochs = [line for line in run.metrics_file.read_text().splitlines() if "valid" in line]
        assert len(epochs) == 2
    assert not (tmp_path / "runs").exists()
    other = search(tmp_path, data_root, "--trials", "1", "--set", "training.epochs=3", code=1)
    assert "was begun with another config; give the new search another --name" in other.stderr


@pytest.mark.exact
def test_a_trial_whose_process_was_killed_is_taken_over(data_root: Path, tmp_path: Path) -> None:
    options = ("--trials", "1", "--set", "training.epochs=300", "training.patience=0", "--json")
    killed = start(tmp_path, data_root, *options)
    metrics = tmp_path / "tiny" / "trial000-seed1" / "metrics.jsonl"
    while not metrics.exists():
        assert killed.poll() is None
        time.sleep(0.1)
    killed.send_signal(signal.SIGINT)
    _, errors = killed.communicate(timeout=60)
    assert killed.returncode == 130
    assert "saved the trial; go on with: abaw-emi search" in errors
    found = finish(start(tmp_path, data_root, *options))
    assert (found["trials"], found["failed"], found["best"]) == (1, 0, 0)
    assert "going on after epoch" in (metrics.parent / "train.log").read_text()


@pytest.mark.exact
def test_with_folds_a_trial_is_the_mean_of_its_folds(data_root: Path, tmp_path: Path) -> None:
    options = ("--trials", "2", "--folds", "2", "--set", "training.epochs=1", "--json")
    found = json.loads(search(tmp_path, data_root, *options).stdout)
    runs = [tmp_path / "tiny" / f"trial{found['best']:03}-fold{fold}of2-seed1" for fold in (1, 2)]
    values = [find_run(run).read_provenance()["valid"]["mean_pearson"] for run in runs]
    assert found["value"] == pytest.approx(np.mean(values), abs=1e-12)


def random_tables(count: int) -> list[pl.DataFrame]:
    """Tables of predictions that have nothing to do with each other."""
    rng = np.random.default_rng(5)
    ids = [f"{number:05}" for number in range(300)]
    columns = [dict(zip(EMOTIONS, rng.random((6, len(ids))), strict=True)) for _ in range(count)]
    return [pl.DataFrame({FILENAME: ids, **each}).select(COLUMNS) for each in columns]


def plan_search(folder: Path) -> SearchPlan:
    """A search that has no trials yet."""
    space = (Dimension(key="training.learning_rate", low=1e-4, high=1e-1, log=True),)
    (labels,) = random_tables(1)
    folder.mkdir()
    return SearchPlan(name="tiny", config=find_preset("tiny"), space=space, folder=folder, labels=labels)


def train_instead(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """Has trials write one bad epoch and a checkpoint in place of training."""
    code = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "state").mkdir(parents=True, exist_ok=True)
(folder / "state" / "training-1.pt").touch()
valid = {"mean_pearson": 0.1, "pearson": {}}
(folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "valid": valid}) + chr(10))
"""
    words = property(lambda job: [sys.executable, "-c", code + then, str(job.run.folder)])
    monkeypatch.setattr(Job, "words", words)


def test_a_trial_that_is_given_up_leaves_no_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_search(tmp_path / "tiny")
    study = open_study(plan)
    for number in range(5):  # without five of them none is given up
        study.add_trial(optuna.trial.create_trial(value=0.9, intermediate_values={1: 0.9}))
        plan.config_file(number).touch()
        write_predictions(plan.labels, plan.job(number, "").run.valid_predictions)
    train_instead(monkeypatch, "time.sleep(60)")
    found = run_search(plan, 6, Reporter(quiet=True))
    assert (found.trials, found.pruned) == (5, 1)
    folder = plan.job(5, "").run.folder
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.jsonl", "train.log"]


def test_trials_that_fail_leave_no_checkpoints_but_those_of_a_process_that_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_search(tmp_path / "tiny")
    train_instead(monkeypatch, "sys.exit(1)")
    runs = [plan.job(number, "").run for number in range(3)]
    with ExitStack() as locks:
        lock_runs(runs[:1], locks)
        with pytest.raises(RunError):
            run_search(plan, 9, Reporter(quiet=True))
    assert [run.state_folder.exists() for run in runs] == [True, False, False]


def test_without_locks_each_process_has_trials_of_its_own_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    plan = plan_search(tmp_path / "tiny")
    study, reporter = open_study(plan), Reporter(quiet=True)
    with ExitStack() as locks:
        asked = [next_trial(study, plan, 2, locks, reporter) for _ in range(3)]
    assert [trial and trial.number for trial in asked] == [0, 1, None]
    (warning,) = map(str, reporter.warnings)
    assert f"{plan.folder}: cannot be locked: No locks available; trials that were stopped" in warning


def test_a_trial_that_another_process_takes_as_it_is_asked_for_is_left_to_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_search(tmp_path / "tiny")
    study = open_study(plan)
    ask, others = study.ask, list[optuna.Trial | None]()
    with ExitStack() as mine, ExitStack() as theirs:

        def ask_and_lose() -> optuna.Trial:
            asked = ask()
            if not others:
                others.append(next_trial(open_study(plan), plan, 2, theirs, Reporter(quiet=True)))
            return asked

        monkeypatch.setattr(study, "ask", ask_and_lose)
        own = next_trial(study, plan, 2, mine, Reporter(quiet=True))
        assert [trial and trial.number for trial in (*others, own)] == [0, 1]
        assert [trial.state for trial in study.trials] == [TrialState.RUNNING] * 2


def test_what_cannot_be_searched_over_is_named_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        '"training.speed" = [1, 2]\n"training.epochs" = {low = 9, high = 3}\n"training.seed" = [1]\n'
    )
    with pytest.raises(ConfigError) as caught:
        read_space(path, find_preset("tiny"))
    assert [problem.where.rpartition(", ")[2] for problem in caught.value.problems] == [
        "training.speed",
        "training.epochs",
        "training.seed",
    ]
    path.write_text('"training.loss" = ["mse", "hinge"]\n')
    with pytest.raises(ConfigError, match="hinge"):
        read_space(path, find_preset("tiny"))
    path.write_text('"training.epochs" = {low = 3, high = 9}\n')
    assert read_space(path, find_preset("tiny")) == (
        Dimension(key="training.epochs", low=3, high=9, whole=True),
    )


def test_the_best_of_many_that_know_nothing_is_worth_nothing_on_other_clips() -> None:
    """The best of 100 seems to be .1; chosen on other clips than it is scored on, it is near 0."""
    labels, *trials = random_tables(101)
    best = max(mean_pearson(labels, trial) for trial in trials)
    assert best > 0.05
    assert score_choice(trials, labels) < best / 2
    knowing = labels.with_columns(pl.col(EMOTIONS) * 0.5 + 0.1)
    assert score_choice([*trials, knowing], labels) == pytest.approx(1.0, abs=1e-12)


def test_no_options_are_tried_twice_and_a_finite_space_is_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = (
        Dimension(key="training.loss", choices=("mse", "ccc")),
        Dimension(key="training.epochs", low=1, high=2, whole=True),
    )
    plan = replace(plan_search(tmp_path / "tiny"), space=space)
    study, reporter = open_study(plan), Reporter()
    tried = []
    with ExitStack() as locks:
        while (trial := next_trial(study, plan, 9, locks, reporter)) is not None:
            tried.append((trial.params["training.loss"], trial.params["training.epochs"]))
            if len(tried) != 2:  # that one goes on running
                study.tell(trial, state=TrialState.PRUNED)
    assert sorted(tried) == [("ccc", 1), ("ccc", 2), ("mse", 1), ("mse", 2)]
    assert "all 4 combinations of the options are tried, or being tried" in capsys.readouterr().err
    found = summarise_search(plan, study, reporter)
    assert (found.pruned, found.running, found.failed) == (3, 1, 0)


def test_keys_of_a_space_may_be_quoted_nested_or_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        '"training.loss" = ["mse", "ccc"]\ntraining.learning_rate = [0.001, 0.01]\n'
        "[model]\nlogmel.dropout = {low = 0.1, high = 0.3}\n"
    )
    space = read_space(path, find_preset("tiny"))
    assert [dimension.key for dimension in space] == [
        "training.loss",
        "training.learning_rate",
        "model.logmel.dropout",
    ]
    path.write_text(
        '"training.loss" = ["mse", "ccc"]\ntraining.loss = ["mse", "pearson"]\n'
        'training.learning_rat = [0.001, 0.01]\ntraining.optimizer = ["adam", "adam"]\n'
    )
    with pytest.raises(ConfigError) as caught:
        read_space(path, find_preset("tiny"))
    twice, misspelt, same = map(str, caught.value.problems)
    assert twice == f"{path}, training.loss: given twice; expected each option once"
    assert (
        misspelt
        == f"{path}, training.learning_rat: no option of the run; did you mean training.learning_rate?"
    )
    assert same.startswith(
        f"{path}, training.optimizer: ['adam', 'adam']; expected a list of different values"
    )
