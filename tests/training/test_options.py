"""What a run may ask for beyond the paper's recipe, through `train`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file

from abaw_emi.batching.batches import Batch
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.core.errors import CorpusError, RunError, TrainingError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.folds import hold_out
from abaw_emi.data.provenance import read_provenance
from abaw_emi.data.tables import read_labels, read_predictions
from abaw_emi.runs.run import Run, find_run
from abaw_emi.training.checkpoint import Checkpoint, write_checkpoint
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from abaw_emi.training.trainer import Training
from tests.backbones import write_backbone

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A small wav2vec 2.0 whose layers, frames and values are dropped, in two epochs."""
    backbone = write_backbone(tmp_path_factory.mktemp("backbone") / "small")
    return RunConfig(
        model=ModelConfig(backbone=str(backbone)),
        training=TrainingConfig(epochs=2, batch_size=5, group_size=2, learning_rate=1e-3, patience=0),
    )


def change(config: RunConfig, **dials: Any) -> RunConfig:
    return replace(config, training=replace(config.training, **dials))


def run_of(config: RunConfig, data: Path, out: Path, reporter: Reporter = QUIET, **plan: Any) -> Run:
    (run,) = train(
        Plan(**{"config": config, "preset": "small", "seeds": [1], "out": out, **plan}),
        DataFolder(data),
        reporter,
    )
    return run


def weights(run: Run) -> bytes:
    return run.weights_file.read_bytes()


EVERYTHING = {
    "loss": "mse+0.5*pearson",
    "ema_decay": 0.5,
    "layer_decay": 0.8,
    "clip_grad_norm": 1.0,
    "augmentation": AugmentationConfig(
        speed=(0.9, 1.0, 1.1), noise_probability=0.5, gain_db=3.0, time_mask_seconds=0.2
    ),
}


def test_a_run_that_stops_before_the_end_of_its_cosine_has_the_rates_of_a_longer_one(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    def rates(name: str, **dials: Any) -> list[float]:
        run = run_of(change(config, **dials), data_root, tmp_path / name)
        lines = map(json.loads, run.metrics_file.read_text().splitlines())
        return [line["learning_rate"] for line in lines if line["epoch"] <= 2]

    longer, stopped, short = rates("a", epochs=4), rates("b", epochs=2, schedule_epochs=4), rates("c")
    assert stopped == longer
    assert short[-1] < 0.5 * stopped[-1]
    with pytest.raises(ValidationError, match="schedule_epochs 1 is less than epochs 2"):
        TypeAdapter(TrainingConfig).validate_python({"epochs": 2, "schedule_epochs": 1})


@pytest.mark.exact
@pytest.mark.parametrize("dial", EVERYTHING)
def test_each_dial_changes_the_weights_and_the_same_dial_gives_the_same_ones(
    config: RunConfig, data_root: Path, tmp_path: Path, dial: str
) -> None:
    plain = run_of(config, data_root, tmp_path / "plain")
    changed = change(config, **{dial: EVERYTHING[dial]})
    first, again = (run_of(changed, data_root, tmp_path / name) for name in ("first", "again"))
    assert weights(first) == weights(again)
    assert weights(first) != weights(plain)
    assert first.read_config() == changed


def test_a_seconds_budget_trains_on_batches_of_other_sizes(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    run = run_of(change(config, batch_seconds=2.0), data_root, tmp_path)
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert all(line["padding_efficiency"] > 0.6 for line in lines if "valid" in line)


def test_a_run_with_everything_on_is_killed_and_goes_on_as_if_it_had_not_been(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropping = replace(config, model=replace(config.model, lstm_dropout=0.3))
    everything = change(dropping, **EVERYTHING)
    straight = run_of(everything, data_root, tmp_path / "straight")
    collect, steps = Training._collect, 0

    def killed(training: Training, *arguments: Any) -> None:
        nonlocal steps
        collect(training, *arguments)
        steps += 1
        if steps in (2, 4):
            raise KeyboardInterrupt  # nothing is saved for it, as for kill -9

    monkeypatch.setattr(Training, "_collect", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_of(everything, data_root, tmp_path / "killed", if_there="resume", save_minutes=0.0)
    resumed = run_of(everything, data_root, tmp_path / "killed", if_there="resume", save_minutes=0.0)
    assert weights(resumed) == weights(straight)
    assert resumed.metrics_file.read_text().count("train_loss") == 2


@pytest.mark.parametrize("loss", ["mse", "mse+ccc"])
def test_a_batch_that_does_not_fit_the_memory_is_split_and_the_step_is_the_same(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    calm = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    calm |= {"feat_proj_dropout": 0.0, "final_dropout": 0.0}
    backbone = write_backbone(tmp_path / "calm", {**small(), **calm})
    whole = replace(
        change(config, group_size=5, loss=loss, epochs=1, learning_rate=1e-4, warmup_epochs=0.0),
        model=replace(config.model, backbone=str(backbone)),
    )
    straight = run_of(whole, data_root, tmp_path / "straight")
    run = Batch.run

    def limited(batch: Batch, model: Any, **options: Any) -> torch.Tensor:
        if model.training and len(batch) > 2:
            raise torch.OutOfMemoryError("no memory left, says the test")
        return run(batch, model, **options)

    monkeypatch.setattr(Batch, "run", limited)
    reporter = Reporter(quiet=True)
    split = run_of(whole, data_root, tmp_path / "split", reporter)
    told = [str(problem) for problem in reporter.warnings if "do not fit" in str(problem)]
    assert len(told) == 1  # and never tried again
    assert "groups of 2 from here on" in told[0]
    ours, theirs = load_file(split.weights_file), load_file(straight.weights_file)
    for name, value in theirs.items():
        assert float((ours[name] - value).abs().max()) <= 3 * 1e-4  # three steps of Adam at most
    close = [float((ours[name] - value).abs().max()) < 1e-6 for name, value in theirs.items()]
    assert sum(close) > 0.8 * len(close)  # where rounding does not decide a sign

    monkeypatch.setattr(
        Batch, "run", lambda batch, model, **options: limited(batch, model) if len(batch) > 9 else fail()
    )
    with pytest.raises(TrainingError, match=r"one clip does not fit.*max_seconds"):
        run_of(whole, data_root, tmp_path / "never")


def test_memory_that_runs_out_in_the_second_pass_leaves_a_consistent_step(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropouts depend on the groups: those of both passes are as if the small ones had been asked for."""
    backbone = str(write_backbone(tmp_path / "lively", {**small(), "hidden_dropout": 0.3}))
    model = replace(config.model, backbone=backbone)
    lively = replace(change(config, loss="ccc", epochs=1, warmup_epochs=0.0), model=model)
    asked = run_of(change(lively, group_size=2), data_root, tmp_path / "asked")
    other = run_of(change(lively, group_size=5), data_root, tmp_path / "other")
    run = Batch.run

    def limited(batch: Batch, model: Any, **options: Any) -> torch.Tensor:
        if model.training and torch.is_grad_enabled() and len(batch) > 2:
            raise torch.OutOfMemoryError("no memory left, says the test")
        return run(batch, model, **options)

    monkeypatch.setattr(Batch, "run", limited)
    split = run_of(change(lively, group_size=5), data_root, tmp_path / "split")
    assert weights(split) == weights(asked)
    assert weights(other) != weights(asked)


def small() -> dict[str, Any]:
    from tests.backbones import small_config

    return small_config()


def fail() -> torch.Tensor:
    raise torch.OutOfMemoryError("no memory at all, says the test")


def test_folds_are_trained_around_validated_on_and_named(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    train_ids = read_labels(data_root / "train_split.csv")["Filename"].to_list()
    for fold in ("1/2", "2/2"):
        folded = replace(config, data=replace(config.data, fold=fold))
        run = run_of(folded, data_root, tmp_path)
        assert run.name == f"small-fold{fold[0]}of2-seed1"
        held_out = hold_out(train_ids, fold)
        assert run.trained_on == set(train_ids) - held_out
        assert set(read_predictions(run.valid_predictions)["Filename"]) == held_out
        record, _ = read_provenance(run.valid_predictions)
        assert record is not None
        assert record.split == f"fold {fold} of train"
        assert run.read_provenance()["fold"] == fold


def test_a_fold_of_train_plus_val_holds_a_part_of_both_out(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    folded = replace(config, data=replace(config.data, fold="1/4"))
    run = run_of(folded, data_root, tmp_path, train_plus_val=True)
    assert run.name == "small-trainval-fold1of4-seed1"
    ids = [
        i for split in ("train", "valid") for i in read_labels(data_root / f"{split}_split.csv")["Filename"]
    ]
    assert run.trained_on == set(ids) - hold_out(ids, "1/4")


def test_a_run_can_start_from_another_and_has_then_seen_its_clips_too(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    first = run_of(config, data_root, tmp_path / "first", train_plus_val=True)
    still = change(config, init_from=str(first.folder), learning_rate=1e-30, epochs=1)
    second = run_of(still, data_root, tmp_path / "second")
    ours, theirs = load_file(second.weights_file), load_file(first.weights_file)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
    assert second.trained_on == first.trained_on  # valid included: its score on it is none
    record, _ = read_provenance(second.valid_predictions)
    assert record is not None
    assert record.trained_on == first.trained_on
    source = second.read_provenance()["init_from"]
    assert source == {"run": first.name, "weights_sha256": first.read_provenance()["weights_sha256"]}

    other = replace(still, model=replace(config.model, lstm_layers=1))
    with pytest.raises(RunError, match=r"its weights do not fit"):
        run_of(other, data_root, tmp_path / "third")


def test_resume_names_the_clips_and_the_labels_that_changed(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(data_root, tmp_path / "data")
    wild = change(config, learning_rate=1e30, warmup_epochs=0.0)
    with pytest.raises(TrainingError):
        run_of(wild, root, tmp_path / "runs")
    (first, second, *_), text = sorted((root / "audio").iterdir()), root / "train_split.csv"
    shutil.copy(second, first)
    lines = text.read_text().splitlines()
    lines[4] = lines[4].rpartition(",")[0] + ",0.123"
    text.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError) as error:
        run_of(wild, root, tmp_path / "runs", if_there="resume")
    assert "1 clips changed: 00000" in str(error.value)
    assert "1 labels changed: 00003" in str(error.value)


def test_a_finished_run_has_no_state_and_an_unfinished_one_says_what_it_was_made_of(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    run = run_of(config, data_root, tmp_path)
    assert find_run(run.folder)
    assert not run.state_folder.exists()


def test_overwriting_removes_every_old_run_before_the_first_new_one_trains(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = {"config": config, "preset": "small", "seeds": [1, 2], "out": tmp_path}
    first, second = train(Plan(**plan), DataFolder(data_root), QUIET)  # type: ignore[arg-type]

    def killed(training: Training, *arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_collect", killed)
    with pytest.raises(KeyboardInterrupt):
        train(Plan(**plan, if_there="overwrite"), DataFolder(data_root), QUIET)  # type: ignore[arg-type]
    assert not first.finished
    assert not second.folder.exists()  # --resume would have taken the old one for a new one
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@pytest.mark.exact
def test_what_a_kill_left_of_the_first_write_or_of_an_older_run_is_no_obstacle_and_no_start(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    straight = run_of(config, data_root, tmp_path / "straight")
    run = Run(tmp_path / "killed" / "small-seed1")
    run.folder.mkdir(parents=True)
    (run.folder / "run.toml.1-ab.part").write_text("[da")
    run_of(config, data_root, run.folder.parent, if_there="resume")
    assert weights(run) == weights(straight)
    # A checkpoint that no record speaks for is not gone on from.
    shutil.rmtree(run.folder)
    run.write_config(config)
    at = Checkpoint(epoch=1, best_epoch=1)
    write_checkpoint(run, at, {"model": {}})
    run_of(config, data_root, run.folder.parent, if_there="resume")
    assert weights(run) == weights(straight)


def test_a_start_that_has_seen_what_is_validated_on_is_told(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    first = run_of(config, data_root, tmp_path / "first", train_plus_val=True)
    reporter = Reporter(quiet=True)
    again = change(config, init_from=str(first.folder), epochs=1)
    run_of(again, data_root, tmp_path / "second", reporter)
    assert any("8 of the 8 clips that are validated on" in str(problem) for problem in reporter.warnings)
    with pytest.raises(RunError, match=r"also the run to start from"):
        run_of(again, data_root, tmp_path / "first", train_plus_val=True, if_there="overwrite")
    assert find_run(first.folder)
    logmel = replace(again, model=ModelConfig(encoder="logmel", vad_head=False))
    with pytest.raises(RunError, match="its encoder is pretrained; expected logmel"):
        run_of(logmel, data_root, tmp_path / "third")


def test_a_fold_that_holds_nothing_out_is_refused(config: RunConfig, data_root: Path, tmp_path: Path) -> None:
    folded = replace(config, data=replace(config.data, fold="50/50"))
    with pytest.raises(CorpusError, match="no clip is left to validate on"):
        run_of(folded, data_root, tmp_path)


def test_the_hours_of_a_long_run_on_a_cpu_are_said_after_its_first_steps(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Reporter(quiet=True)
    said: list[str] = []
    monkeypatch.setattr(reporter, "say", said.append)
    run_of(change(config, epochs=1, batch_size=2), data_root, tmp_path / "short", reporter)
    assert not any("by the first steps" in line for line in said)
    monkeypatch.setattr("abaw_emi.training.trainer._SHOWN_HOURS", 0.0)
    monkeypatch.setattr("abaw_emi.training.trainer._MANY_HOURS", 0.0)
    run_of(change(config, epochs=1, batch_size=2), data_root, tmp_path / "long", reporter)
    assert sum(line.endswith("h for 1 epochs, by the first steps") for line in said) == 1
    assert any("h on a CPU; use a GPU" in str(problem) for problem in reporter.warnings)
