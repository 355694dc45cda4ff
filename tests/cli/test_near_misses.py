"""What was probably meant is named, wherever something was mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Shell, problems, values, write_csv


@pytest.fixture
def mistyped(folder: Path) -> Path:
    """The folder of the commands, with what is nearly named."""
    (folder / "space.toml").write_text('"training.learning_rat" = [1e-5, 1e-4]\n')
    (folder / "config.toml").write_text("[training]\nepoch = 3\n")
    run = folder / "runs" / "paper-seed1"
    run.mkdir(parents=True)
    (run / "run.toml").write_text("")
    write_csv(folder / "preds" / "mine-valid.csv", values([f"{i:05}" for i in range(5, 17)], seed=3))
    return folder


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            "tables --table 1 --only papr",
            2,
            "--only: no row 'papr' of table 1; did you mean paper?",
        ),
        (
            "tables --table 2 --only xyz",
            2,
            "--only: no row 'xyz' of table 2; abaw-emi tables --list --table 2 lists them",
        ),
        (
            "tables --table 1 --backbone audering=x",
            2,
            "--backbone audering=x: not a backbone and its replacement; expected NAME=ID_OR_DIR, NAME one of "
            "audeering, w2v2-large, xlsr; did you mean audeering?",
        ),
        (
            "sweep --set training.epoch=3",
            2,
            "--set training.epoch=3: not KEY=VALUE of a key that a preset has; did you mean training.epochs?",
        ),
        ("sweep --preset winer-2025", 2, "--presets: no preset 'winer-2025'; did you mean winner-2025?"),
        (
            "search --space space.toml --trials 3",
            1,
            "space.toml, training.learning_rat: no option of the run; did you mean training.learning_rate?",
        ),
        (
            "train --config config.toml",
            1,
            "config.toml, training.epoch: no such key; did you mean training.epochs?",
        ),
        (
            "predict --ckpt runs/papr-seed1 a.wav",
            1,
            "runs/papr-seed1: no such run; expected a run folder, as abaw-emi train makes them; "
            "did you mean runs/paper-seed1?",
        ),
        (
            "ensemble --ckpts runs",
            1,
            "runs: not a run folder (no run.toml); expected a folder made by abaw-emi train; "
            "did you mean runs/*?",
        ),
        (
            "runs runs/paper-seed1",
            1,
            "runs/paper-seed1: a run folder; expected a folder of run folders; did you mean runs?",
        ),
        (
            "score preds/mine-vaild.csv",
            1,
            "preds/mine-vaild.csv: no such file; did you mean preds/mine-valid.csv?",
        ),
        ("score preds/mine-test.csv data/valid_split.csv", 1, "preds/mine-test.csv: no such file"),
        (
            "compare preds/mine-valid.csv runs/paper-seed1 runs/paper-seed1",
            2,
            "compare: runs/paper-seed1 in the place of the labels; expected two at least, then the label "
            "file; PREDS PREDS LABELS, such as data/valid_split.csv",
        ),
        (
            "compare data/valid_split.csv runs/paper-seed1 runs/paper-seed1",
            2,
            "compare: runs/paper-seed1 holds predictions, and valid_split.csv is a label file; expected "
            "PREDS first, then LABELS",
        ),
        (
            "score preds/mine-valid.csv runs/paper-seed1",
            2,
            "score: runs/paper-seed1 in the place of the labels; expected a label file; use --against "
            "runs/paper-seed1, or abaw-emi compare preds/mine-valid.csv runs/paper-seed1 LABELS",
        ),
        (
            "submit --preds runs/paper-seed1",
            1,
            "runs/paper-seed1: is a folder; expected a file; it is a run: abaw-emi predict --ckpt "
            "runs/paper-seed1 --split SPLIT writes its predictions as a CSV",
        ),
        ("submit --preds preds", 1, "preds: is a folder; expected a file"),
        (
            "submit --preds preds/mine-valid.csv",
            1,
            "preds/mine-valid.csv: 6 ids missing, against the test ids: 00020, 00021, 00022, 00023, 00024, "
            "00025; predict the test clips: it holds others",
        ),
        (
            "train --config runs/paper-seed1",
            1,
            "runs/paper-seed1: is a folder; expected a TOML file; did you mean runs/paper-seed1/run.toml?",
        ),
        ("audit --out /", 1, "/: is a folder; expected the name of a file"),
        (
            "ledger --submissions nowhere",
            0,
            "warning: nowhere/ledger.jsonl: not there; nothing is submitted yet; --submissions names another "
            "folder",
        ),
    ],
)
@pytest.mark.usefixtures("mistyped")
def test_what_was_meant_is_asked(shell: Shell, words: str, code: int, line: str) -> None:
    assert line in problems(shell(*words.split()), code)


def test_a_submission_is_found_by_nearly_its_name(shell: Shell, folder: Path) -> None:
    write_csv(folder / "test.csv", values([f"{i:05}" for i in range(20, 26)], seed=4))
    assert shell("submit", "--preds", "test.csv", "--name", "second").returncode == 0
    (found,) = problems(shell("ledger", "set", "secnd", "--test-score", "0.3"), 1)
    assert found == "submissions/ledger.jsonl: no submission 'secnd'; did you mean second?"


def test_options_of_a_run_are_named_once_and_without_others(shell: Shell) -> None:
    for command in ("train", "sweep", "search --space s.toml --trials 1"):
        said = " ".join(shell(*command.split(), "--lr", "3e-5", COLUMNS="200").stderr.split())
        assert (
            "No such option: --lr; options of a run are set with --set training.learning_rate=VALUE" in said
        )
        assert "Possible options" not in said
    said = " ".join(shell("train", "--seed", "3", COLUMNS="200").stderr.split())
    assert "--seeds" in said
    assert "--set training.seed" not in said
    assert "name the run with it, as in --ckpt" in " ".join(
        shell("predict", "a.wav", COLUMNS="200").stderr.split()
    )
