"""Runs that are there with other options than are asked for, and the commands that go on with a run."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from abaw_emi.config.compare import compare_configs
from abaw_emi.config.presets import find_preset
from abaw_emi.config.read import change_config
from abaw_emi.core.errors import RunError
from abaw_emi.runs.resume import compare_with_validated, name_training
from abaw_emi.runs.run import Run, find_run
from tests.cli.conftest import Shell, problems

needs_train = pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra train")


def begin(path: Path, *changes: str, preset: str = "tiny") -> Run:
    """A run that was begun, with these options."""
    run = Run(path)
    run.folder.mkdir(parents=True)
    run.write_config(change_config(find_preset(preset), changes))
    return run


def test_differences_are_single_options_that_set_takes_back() -> None:
    changes = [
        "model.logmel.dropout=0.1",
        "training.loss=mse+0.5*pearson",
        "training.init_branches=['a \"b\"', 'ü']",
        "training.augmentation.noise_snr_db=[1e-5, 5.0]",
        "model.features.0.dropout=0.25",
    ]
    preset = find_preset("baseline-audio")
    found = compare_configs(change_config(preset, changes), preset)
    assert "model.features.0.dropout is 0.25, not 0.0" in map(str, found)
    assert "model.logmel.dropout is 0.1, not 0.3" in map(str, found)
    assert {each.key for each in found} == {change.partition("=")[0] for change in changes}
    assert change_config(preset, [each.change for each in found]) == change_config(preset, changes)
    other = change_config(preset, ["model.features.1.name=vit"])
    (features,) = compare_configs(other, preset)
    assert str(features) == "model.features is ['wav2vec2', 'vit'], not ['wav2vec2']"
    assert change_config(preset, [features.change]) == other


def test_sweep_refuses_runs_with_other_options_and_names_all_of_them(shell: Shell, folder: Path) -> None:
    begin(folder / "runs" / "tiny-seed1", "model.logmel.dropout=0.1")
    begin(folder / "runs" / "tiny-seed2", "training.seed=2", "training.epochs=2")
    begin(folder / "runs" / "tiny-seed3", "training.seed=3")
    words = ("sweep", "--presets", "tiny", "--seeds", "1", "2", "3", "--dry-run")
    first, second = problems(shell(*words), 1)
    assert first.startswith(
        "runs/tiny-seed1: model.logmel.dropout is 0.3, not 0.1; expected the config it was started with; "
        "move it away, or train it again: abaw-emi train --preset tiny --seeds 1 --runs runs --data data"
    )
    assert first.endswith(" --overwrite")
    assert second.startswith("runs/tiny-seed2: training.epochs is ")
    assert problems(shell(*words[:4], "3", "--dry-run"), 0) == []
    (named,) = problems(shell(*words[:4], "3", "--set", "training.epochs=7", "--dry-run"), 1)
    assert named.startswith("runs/tiny-seed3: training.epochs is 7, not ")


def test_the_command_that_finishes_a_run_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    begin(Path("runs/tiny-seed1"))
    begin(Path("mine/tiny-trainval-fold1of5-seed3"), "training.seed=3", "data.fold=1/5", "training.loss=ccc")
    begin(Path("search/tiny/trial000-seed1"), "training.epochs=2")
    begin(Path("runs/odd"))
    expected = {
        "runs/tiny-seed1": "abaw-emi train --preset tiny --seeds 1 --resume",
        "mine/tiny-trainval-fold1of5-seed3": "abaw-emi train --preset tiny --fold 1/5 --train-plus-val "
        "--seeds 3 --set 'training.loss=\"ccc\"' --runs mine --resume",
        "search/tiny/trial000-seed1": "abaw-emi train --config search/tiny/trial000-seed1/run.toml "
        "--seeds 1 --runs search/tiny --resume",
        "runs/odd": "the command that it was started with",
    }
    for path, command in expected.items():
        with pytest.raises(RunError) as caught:
            find_run(Path(path))
        step = f"leave it out, or finish it with: {command}"
        assert str(caught.value) == f"{path}: the run is not finished; {step}"


@needs_train
def test_the_config_of_a_run_stands_for_that_run(shell: Shell, folder: Path) -> None:
    """What `name_training` names, typed with no --resume, meets the run."""
    run = begin(folder / "search" / "tiny" / "trial000-seed1", "training.epochs=2")
    words = shlex.split(name_training(run, change_config(find_preset("tiny"), ["training.epochs=2"])))
    (found,) = problems(shell(*words[1:]), 1)
    assert found.startswith(f"{run.folder}: the run is already there")


def test_a_run_that_failed_before_it_began_is_named_as_such(shell: Shell, folder: Path) -> None:
    run = Run(folder / "runs" / "tiny-seed1")
    run.folder.mkdir(parents=True)
    sweep = ("sweep", "--presets", "tiny", "--dry-run")
    run.log_file.touch()  # a process that has just been started
    assert "waiting" in shell(*sweep).stdout
    run.log_file.write_text("features: no clip has any\n")
    assert "failed  before it began, see runs/tiny-seed1/train.log" in shell(*sweep).stdout
    (found,) = problems(shell("ensemble", "--ckpts", "runs/tiny-seed1"), 1)
    assert found == (
        "runs/tiny-seed1: a run that failed before it began; see runs/tiny-seed1/train.log, "
        "then delete the folder or leave it out"
    )


@needs_train
def test_train_plus_val_of_another_system_than_the_validated_one_is_warned_of(
    shell: Shell, folder: Path
) -> None:
    changes = ["training.learning_rate=0.002", "model.logmel.dropout=0.1", "training.epochs=3"]
    run = begin(folder / "runs" / "tiny-seed7", *changes, "training.seed=7", "training.patience=2")
    run.write_provenance({"finished": "now", "best_epoch": 2, "preset": "tiny"})
    run.weights_file.touch()
    words = ("train", "--train-plus-val", "--seeds", "7", "--epochs-from", "runs/tiny-seed7")
    warned = shell(*words, "--preset", "tiny").stderr.splitlines()
    assert (
        "warning: --epochs-from runs/tiny-seed7: only the length is taken from it: "
        "model.logmel.dropout is 0.3, not 0.1; training.learning_rate is 0.004, not 0.002; "
        "for the system that was validated, with --config runs/tiny-seed7/run.toml"
    ) in warned
    same = shell(*words, "--config", "runs/tiny-seed7/run.toml").stderr
    assert "2 epochs, up to the best epoch of runs/tiny-seed7, of a cosine over 3" in same
    assert "only the length" not in same


def test_what_a_validated_fold_must_change_is_said_with_what_it_needs(folder: Path) -> None:
    run = begin(folder / "yu-fold1of5-seed1", "data.fold=1/5", preset="yu")
    asked = find_preset("yu")
    cosine = change_config(asked, ["training.schedule=cosine", "training.epochs=9"])
    assert compare_with_validated(cosine, run) == []
    (problem,) = compare_with_validated(change_config(cosine, ["training.batch_size=64"]), run)
    assert problem.found.endswith(": training.batch_size is 64, not 128")
    words = shlex.split(problem.next_step.partition("with ")[2])
    assert words[:3] == ["--config", str(run.config_file), "--set"]
    assert compare_configs(change_config(run.read_config(), [*words[3:], "training.epochs=9"]), cosine) == []
