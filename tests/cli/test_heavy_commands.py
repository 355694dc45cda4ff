"""What the commands that run the model say before they load torch, and where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import WITHOUT_TORCH, Shell, environment, problems, test_ids, values, write_csv

NOT_INSTALLED = (
    "installation: not installed: torch, torchaudio, transformers, safetensors, soundfile, av, soxr; "
    "pip install 'abaw-emi[train]'"
)


@pytest.fixture
def finished(folder: Path) -> Path:
    """What a finished run looks like from outside."""
    run = folder / "runs" / "paper-seed1"
    run.mkdir(parents=True)
    (run / "run.toml").write_text("")
    (run / "provenance.json").write_text('{"finished": true, "trained_on": ["00000-00004"]}')
    (run / "model.safetensors").touch()
    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["train"],
        ["train", "--train-plus-val", "--seeds", "1", "2", "3"],
        ["extract", "facebook/dinov2-small"],
        ["transcribe", "openai/whisper-tiny"],
        ["prepare", "--presets", "text"],
        ["pipeline", "--presets", "tiny", "--dry-run"],
        ["predict", "--ckpt", "runs/paper-seed1", "--split", "valid"],
        ["ensemble", "--ckpts", "runs/paper-seed1"],
        ["import-weights", "x.pth", "--backbone", "b", "--out", "runs/x"],
    ],
    ids=" ".join,
)
def test_without_the_extra_the_one_line_says_what_to_install(
    shell_without_torch: Shell, finished: Path, arguments: list[str]
) -> None:
    done = shell_without_torch(*arguments)
    assert problems(done, 1) == [NOT_INSTALLED]
    assert done.stdout == ""
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]
    assert not (finished.parent.parent / "demo").exists()


def test_adapters_need_an_extra_of_their_own(shell_without_torch: Shell, finished: Path) -> None:
    done = shell_without_torch("train", "--set", "model.tuning.lora_rank=4")
    assert problems(done, 1) == ["installation: not installed: peft; pip install 'abaw-emi[lora]'"]


def test_a_fold_that_is_none_is_named_by_its_option(shell_without_torch: Shell) -> None:
    (line,) = problems(shell_without_torch("train", "--fold", "1"), 2)
    assert line.startswith("--fold 1: no part of the training clips; expected k/K, such as 1/5: the first ")


def test_what_presets_read_is_planned_without_torch(shell_without_torch: Shell, folder: Path) -> None:
    done = shell_without_torch("prepare", "--presets", "text", "--dry-run", "--model", "text=models/whisper")
    assert problems(done, 0) == []
    made, following = done.stdout.splitlines()
    assert made.endswith("are missing: abaw-emi transcribe models/whisper")
    assert following == "next: abaw-emi prepare --presets text --model text=models/whisper"
    mistyped = shell_without_torch("prepare", "--presets", "text", "--model", "text")
    assert problems(mistyped, 2) == [
        "--model text: not NAME=MODEL; expected such as text=openai/whisper-small"
    ]
    assert problems(shell_without_torch("pipeline"), 1)[0].startswith(
        "vit-huge, read by winner-2025: no clip"
    )


def test_ensemble_names_every_stray_path_and_unfinished_run_before_it_needs_torch(
    shell_without_torch: Shell, folder: Path, finished: Path
) -> None:
    unfinished = folder / "runs" / "unfinished"
    unfinished.mkdir()
    (unfinished / "run.toml").write_text("")
    (folder / "runs" / "notes.txt").write_text("x")
    (folder / "runs" / "empty").mkdir()
    bad = folder / "bad.csv"
    bad.write_text("a,b\n")
    members = ["runs/paper-seed1", "runs/unfinished", "runs/notes.txt", "runs/empty", "runs/nowhere"]
    lines = problems(shell_without_torch("ensemble", "--ckpts", *members, "--preds", "bad.csv"), 1)
    assert lines[0].startswith("runs/unfinished: the run is not finished")
    assert lines[1].startswith("runs/notes.txt: not a run folder")
    assert lines[2].startswith("runs/empty: not a run folder")
    assert lines[3].startswith("runs/nowhere: no such run")
    assert all(line.startswith("bad.csv, line 1: column ") for line in lines[4:])
    assert len(lines) > 5
    assert not (folder / "predictions").exists()


def test_ensemble_of_csvs_alone_needs_no_torch(shell_without_torch: Shell, folder: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_csv(folder / f"{name}.csv", values(test_ids(), seed))
    done = shell_without_torch("ensemble", "--preds", "a.csv", "b.csv")
    assert problems(done, 0) == []
    assert done.stdout.splitlines() == [
        "predictions/ensemble-test.csv: mean of 2, 6 clips",
        "next: abaw-emi submit --preds predictions/ensemble-test.csv",
    ]


def test_what_is_wrong_with_the_configuration_is_said_before_torch_is_missed(
    shell_without_torch: Shell, folder: Path
) -> None:
    (folder / "mine.toml").write_text("[training]\nepoch = 3\n")
    (line,) = problems(shell_without_torch("train", "--config", "mine.toml"), 1)
    assert line.startswith("mine.toml, training.epoch: no such key")


def test_without_the_extra_all_public_names_are_there_and_say_what_they_need(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(WITHOUT_TORCH)
    code = "import abaw_emi; help(abaw_emi); from abaw_emi import *; load('runs/paper-seed1')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "load(" in done.stdout
    assert "mean_pearson(" in done.stdout
    last = "InstallationError: abaw_emi.load: it needs "
    assert last in done.stderr.splitlines()[-1]
    assert done.stderr.rstrip().endswith("pip install 'abaw-emi[train]'")
