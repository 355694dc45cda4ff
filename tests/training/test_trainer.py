from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from abaw_emi.batching.batches import Batch, make_batch
from abaw_emi.batching.examples import InputSpec
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.presets import find_preset
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.core.errors import ClipError, RunError, TrainingError, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.core.signals import Interrupted
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.provenance import read_provenance
from abaw_emi.data.tables import read_labels, read_predictions
from abaw_emi.evaluation.score import score
from abaw_emi.inference.members import predict_runs
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run, find_run
from abaw_emi.training.data import read_training_data
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train, try_out
from abaw_emi.training.trainer import Training
from tests.backbones import write_backbone
from tests.command import run_command
from tests.foreign_data import write_data
from tests.small_models import CPU

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    backbone = write_backbone(tmp_path_factory.mktemp("backbone") / "small")
    return RunConfig(
        model=ModelConfig(backbone=str(backbone)),
        training=TrainingConfig(epochs=3, batch_size=5, group_size=2, learning_rate=1e-3, patience=0),
    )


def plan_for(config: RunConfig, out: Path, **changes: object) -> Plan:
    return Plan(**{"config": config, "preset": "small", "seeds": [1], "out": out, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def finished(config: RunConfig, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    (run,) = train(plan_for(config, tmp_path_factory.mktemp("runs")), DataFolder(data_root), QUIET)
    return run


def test_a_finished_run_holds_exactly_the_files_of_the_contract(finished: Run) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "README.md",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "preprocessor_config.json",
        "provenance.json",
        "run.toml",
        "tensorboard",  # where it is installed
        "valid_predictions.csv",
        "valid_predictions.provenance.json",
    ]
    assert [path.name for path in finished.folder.parent.iterdir()] == ["small-seed1"]
    assert find_run(finished.folder).read_config().training.seed == 1


def test_valid_predictions_read_back_and_scored_by_id_equal_the_score_in_memory(
    finished: Run, data_root: Path
) -> None:
    labels = read_labels(data_root / "valid_split.csv")
    # Rows in another order than the labels: a match by position would be found out.
    predictions = read_predictions(finished.valid_predictions).reverse()
    on_disk = score(labels, predictions, resamples=0)
    in_memory = finished.read_provenance()["valid"]
    assert on_disk.mean_pearson == pytest.approx(in_memory["mean_pearson"], abs=1e-12)
    assert on_disk.pearson == pytest.approx(in_memory["pearson"], abs=1e-12)
    assert on_disk.clipped_mean_pearson == in_memory["clipped_mean_pearson"]
    record, problems = read_provenance(finished.valid_predictions)
    assert record is not None
    assert record.trained_on == set(read_labels(data_root / "train_split.csv")["Filename"])
    assert not problems


def test_metrics_hold_a_line_an_epoch_and_the_best_is_the_one_kept(finished: Run) -> None:
    lines = [json.loads(line) for line in finished.metrics_file.read_text().splitlines()]
    epochs = {line["epoch"]: line["valid"]["mean_pearson"] for line in lines if "valid" in line}
    assert sorted(epochs) == [1, 2, 3]
    record = finished.read_provenance()
    assert max(epochs.values()) == epochs[record["best_epoch"]] == record["valid"]["mean_pearson"]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    config: RunConfig, data_root: Path, finished: Run, tmp_path: Path
) -> None:
    again, other = train(plan_for(config, tmp_path, seeds=[1, 2]), DataFolder(data_root), QUIET)
    assert again.weights_file.read_bytes() == finished.weights_file.read_bytes()
    assert other.weights_file.read_bytes() != finished.weights_file.read_bytes()


def test_training_lowers_the_loss(config: RunConfig, data_root: Path, tmp_path: Path) -> None:
    longer = replace(config, training=replace(config.training, epochs=12))
    (run,) = train(plan_for(longer, tmp_path), DataFolder(data_root), QUIET)
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    losses = [line["train_loss"] for line in lines if "train_loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_early_stopping_waits_for_the_patience_and_no_longer(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    still = replace(
        config, training=replace(config.training, epochs=9, patience=2, learning_rate=1e-30, warmup_epochs=0)
    )
    (run,) = train(plan_for(still, tmp_path), DataFolder(data_root), QUIET)
    record = run.read_provenance()
    assert (record["best_epoch"], record["epochs"]) == (1, 3)


def test_train_plus_val_keeps_the_last_weights_and_knows_that_valid_was_seen(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    (run,) = train(plan_for(config, tmp_path, train_plus_val=True), DataFolder(data_root), QUIET)
    record = run.read_provenance()
    assert run.name == "small-trainval-seed1"
    assert record["best_epoch"] == record["epochs"] == config.training.epochs
    assert record["valid"] is None
    assert not run.valid_predictions.exists()
    labels = pl.concat([read_labels(data_root / f"{split}_split.csv") for split in ("train", "valid")])
    assert run.trained_on == set(labels["Filename"])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    wild = replace(config, training=replace(config.training, learning_rate=1e30, warmup_epochs=0))
    with pytest.raises(TrainingError) as error:
        train(plan_for(wild, tmp_path), DataFolder(data_root), QUIET)
    named = set(re.findall(r"\b\d{5}\b", str(error.value)))
    assert named
    assert named <= set(read_labels(data_root / "train_split.csv")["Filename"])
    with pytest.raises(RunError, match="not finished"):
        find_run(tmp_path / "small-seed1")


def test_a_run_that_is_there_is_refused_and_overwrite_starts_anew(
    config: RunConfig, data_root: Path, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder, tmp_path / "small-seed1")
    with pytest.raises(RunError, match=r"--resume.*--overwrite"):
        train(plan_for(config, tmp_path), DataFolder(data_root), QUIET)
    shorter = replace(config, training=replace(config.training, epochs=1))
    (run,) = train(plan_for(shorter, tmp_path, if_there="overwrite"), DataFolder(data_root), QUIET)
    assert run.read_provenance()["epochs"] == 1


def test_overwrite_leaves_a_folder_that_is_no_run_alone(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "small-seed1" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(RunError, match="left alone"):
        train(plan_for(config, tmp_path, if_there="overwrite"), DataFolder(data_root), QUIET)
    assert precious.read_text() == "years of work"


def test_resume_refuses_another_config_and_names_what_changed(
    config: RunConfig, data_root: Path, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder, tmp_path / "small-seed1")
    changed = replace(config, training=replace(config.training, epochs=7))
    with pytest.raises(
        RunError, match=r"training\.epochs is 7, not 3; expected the config it was started with"
    ):
        train(plan_for(changed, tmp_path, if_there="resume"), DataFolder(data_root), QUIET)


def test_bad_clips_are_all_named_at_once_or_left_out_listed_and_missing(
    config: RunConfig, finished: Run, tmp_path: Path
) -> None:
    root = write_data(tmp_path / "data")
    broken = {"00002": b"", "00013": b"<html>not found</html>", "00021": b"RIFF"}
    for name, content in broken.items():
        (path,) = root.rglob(f"{name}.wav")
        path.write_bytes(content)
    with pytest.raises(ClipError) as error:
        train(plan_for(config, tmp_path / "runs"), DataFolder(root), QUIET)
    assert {name for name in broken if name in str(error.value)} == {"00002", "00013"}
    assert not (tmp_path / "runs").exists()

    plan = plan_for(config, tmp_path / "runs", on_bad_clip="skip")
    (run,) = train(plan, DataFolder(root), QUIET)
    assert run.read_provenance()["skipped"] == ["00002", "00013"]
    assert "00002" not in (run.trained_on or ())
    assert "00013" not in read_predictions(run.valid_predictions)["Filename"]
    members = predict_runs([run], DataFolder(root), "test", CPU, on_bad="skip")
    assert members.skipped == ["00021"]
    (member,) = members.members
    assert "00021" not in member.table["Filename"]
    assert len(member.table) == 5


def test_the_released_preset_runs_on_a_cpu_in_fp32(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    released = find_preset("released")
    small = replace(released, training=replace(released.training, epochs=1), model=config.model)
    (run,) = train(plan_for(small, tmp_path), DataFolder(data_root), QUIET)
    assert run.read_provenance()["precision"] == "fp32"


def test_a_smoke_run_estimates_the_full_time_and_leaves_nothing(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    seconds = try_out(plan_for(config, tmp_path / "runs", limit=4), DataFolder(data_root), QUIET)
    assert not (tmp_path / "runs").exists()
    assert seconds["run"] == pytest.approx(3 * (seconds["epoch"] + seconds["validation"]))
    assert seconds["epoch"] > 0


def test_a_step_on_groups_is_one_adamw_step_on_the_whole_batch(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    # A ragged batch of 5 in groups of 2, with visible decay and clipping; no randomness in the model.
    dials = {"learning_rate": 1e-2, "weight_decay": 0.5, "clip_grad_value": 1e-3, "warmup_epochs": 0.0}
    training_config = replace(config.training, epochs=1, **dials)  # type: ignore[arg-type]
    data = read_training_data(DataFolder(data_root), InputSpec.of(RunConfig()), QUIET, limit=5)
    torch.manual_seed(0)
    model = EmiModel(EmiConfig(encoder_config={"dropout": 0.0}))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    reference = EmiModel(EmiConfig(encoder_config={"dropout": 0.0}))
    reference.load_state_dict(model.state_dict())
    (tmp_path / "run").mkdir()
    Training(model, training_config, data, Run(tmp_path / "run"), CPU).train()

    batch = make_batch(data.train, data.intensities())
    loss = torch.nn.functional.mse_loss(reference(batch.waveforms, batch.lengths), batch.intensities)
    loss.backward()
    for name, weight in reference.named_parameters():
        assert weight.grad is not None
        gradient = weight.grad.clamp(-1e-3, 1e-3)
        # AdamW's first step by its formula: decay, then the bias-corrected moments, g / (|g| + eps).
        expected = weights[name] * (1 - 1e-2 * 0.5) - 1e-2 * gradient / (gradient.abs() + 1e-8)
        actual = dict(model.named_parameters())[name]
        certain = gradient.abs() > 1e-6  # where rounding decides the sign, the step may be either
        torch.testing.assert_close(actual[certain], expected[certain], rtol=0, atol=1e-4)
        assert (actual != weights[name]).any()


def test_the_learning_rate_warms_up_linearly_and_falls_as_a_cosine(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abaw_emi.training.trainer.LOG_EVERY", 1)
    longer = replace(config, training=replace(config.training, epochs=4, warmup_epochs=1.0))
    (run,) = train(plan_for(longer, tmp_path), DataFolder(data_root), QUIET)
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "step" in line]
    steps, warm = 4 * 3, 3  # 12 clips in batches of 5
    expected = [
        1e-3 * step / warm
        if step < warm
        else 1e-3 * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
        for step in range(steps)
    ]
    assert rates == pytest.approx(expected)


def test_resume_refuses_other_data_and_names_what_changed(config: RunConfig, tmp_path: Path) -> None:
    root = write_data(tmp_path / "data")
    wild = replace(config, training=replace(config.training, learning_rate=1e30, warmup_epochs=0.0))
    with pytest.raises(TrainingError):
        train(plan_for(wild, tmp_path / "runs"), DataFolder(root), QUIET)
    lines = (root / "train_split.csv").read_text().splitlines()
    (root / "train_split.csv").write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(RunError) as error:
        train(plan_for(wild, tmp_path / "runs", if_there="resume"), DataFolder(root), QUIET)
    assert "data: now {'fingerprint'" in str(error.value)
    assert "trained_on: now ['00000-00009']; expected ['00000-00011']" in str(error.value)


def test_overwrite_keeps_the_run_that_is_there_until_the_new_one_can_start(
    config: RunConfig, data_root: Path, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder, tmp_path / "small-seed1")
    backbone = write_backbone(tmp_path / "backbone")
    weights = torch.load(backbone / "pytorch_model.bin", weights_only=True)
    del weights["classifier.out_proj.bias"]
    torch.save(weights, backbone / "pytorch_model.bin")
    broken = replace(config, model=replace(config.model, backbone=str(backbone)))
    with pytest.raises(WeightsError, match="classifier.out_proj.bias".replace(".", r"\.")):
        train(plan_for(broken, tmp_path, if_there="overwrite"), DataFolder(data_root), QUIET)
    assert find_run(tmp_path / "small-seed1").weights_file.read_bytes() == finished.weights_file.read_bytes()


def test_a_stop_in_the_last_epoch_stops_before_the_next_seed(
    config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(config, training=replace(config.training, epochs=1))
    validate = Training._validate

    def interrupted(training: Training, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return validate(training, *arguments)

    monkeypatch.setattr(Training, "_validate", interrupted)
    with pytest.raises(Interrupted, match="saved after epoch 1"):
        train(plan_for(short, tmp_path, seeds=[1, 2]), DataFolder(data_root), QUIET)
    monkeypatch.undo()
    assert not (tmp_path / "small-seed2").exists()
    runs = train(plan_for(short, tmp_path, seeds=[1, 2], if_there="resume"), DataFolder(data_root), QUIET)
    assert all(run.finished for run in runs)


def test_a_member_that_does_not_tell_hides_nothing_that_another_tells(
    config: RunConfig, data_root: Path, tmp_path: Path
) -> None:
    (run,) = train(plan_for(config, tmp_path, train_plus_val=True), DataFolder(data_root), QUIET)
    labels = (data_root / "valid_split.csv").read_text()
    (tmp_path / "stranger.csv").write_text(labels)
    combined = run_command(
        *("ensemble", "--ckpts", run.folder, "--preds", "stranger.csv", "--split", "valid"),
        *("--data", data_root, "--out", "both.csv", "--device", "cpu"),
        cwd=tmp_path,
    )
    assert combined.returncode == 0, combined.stderr
    scored = run_command("score", "both.csv", data_root / "valid_split.csv", "--json", cwd=tmp_path)
    result = json.loads(scored.stdout)
    assert result["contaminated"] is True
    assert any("not all of what" in problem for problem in result["problems"])


@pytest.mark.exact
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.exact)]
)
def test_a_stopped_run_saves_says_how_to_go_on_and_ends_as_if_never_stopped(
    config: RunConfig, data_root: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = Run(tmp_path / "runs" / "tiny-seed1")
    arguments = ["train", "--preset", "tiny", "--set", "training.epochs=40", "training.patience=0"]
    arguments += ["training.batch_size=2", "--data", str(data_root), "--device", "cpu"]
    command = [sys.executable, "-m", "abaw_emi", *arguments, "--out", str(run.folder.parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (run.metrics_file.exists() and run.metrics_file.read_text().count("valid") >= 2):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.strip().endswith("--resume")
    assert "Traceback" not in errors
    assert not run.finished

    resumed = run_command(*arguments, "--out", run.folder.parent, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch" in resumed.stderr
    straight = run_command(*arguments, "--out", tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    assert (run.folder / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "tiny-seed1" / "model.safetensors"
    ).read_bytes()
    # Every epoch has its line once, though the process was stopped between two checkpoints.
    lines = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert [line["epoch"] for line in lines if "valid" in line] == list(range(1, 41))

    again = run_command(*arguments, "--out", run.folder.parent, "--resume")
    assert again.returncode == 0
    assert "finished already" in again.stderr


@pytest.mark.exact
def test_kill_at_any_moment_leaves_a_run_that_resumes(data_root: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "tiny-seed1")
    arguments = ["train", "--preset", "tiny", "--set", "training.epochs=30", "training.patience=0"]
    arguments += ["--data", str(data_root), "--device", "cpu", "--out", str(tmp_path), "--resume", "--quiet"]
    for delay in (0.0, 0.05, 0.1):
        process = subprocess.Popen([sys.executable, "-m", "abaw_emi", *arguments], stderr=subprocess.DEVNULL)
        lines = run.metrics_file.read_text().count("valid") if run.metrics_file.exists() else 0
        while process.poll() is None and not (
            run.metrics_file.exists() and run.metrics_file.read_text().count("valid") > lines
        ):
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.wait()
    assert run_command(*arguments).returncode == 0
    assert find_run(run.folder).read_provenance()["epochs"] == 30


def test_every_run_that_is_there_is_named_at_once(
    config: RunConfig, data_root: Path, finished: Run, tmp_path: Path
) -> None:
    for seed in (1, 2):
        shutil.copytree(finished.folder, tmp_path / f"small-seed{seed}")
    with pytest.raises(RunError) as error:
        train(plan_for(config, tmp_path, seeds=[1, 2]), DataFolder(data_root), QUIET)
    assert [problem.where[-5:] for problem in error.value.problems] == ["seed1", "seed2"]


@pytest.mark.parametrize("loss", ["mse", "pearson"])
def test_a_gradient_that_is_no_number_names_its_clip_and_never_ends_in_a_finished_run(
    loss: str, config: RunConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, forward = "00007", Batch.run

    def run(self: Batch, model: EmiModel, **options: Any) -> torch.Tensor:
        outputs = forward(self, model, **options)
        if broken in self.filenames and outputs.requires_grad:
            row = self.filenames.index(broken)
            outputs.register_hook(lambda grad: grad.index_fill(0, torch.tensor([row]), math.nan))
        return outputs

    monkeypatch.setattr(Batch, "run", run)
    training = replace(config.training, epochs=1, batch_size=20, group_size=4, loss=loss)
    plan = plan_for(replace(config, training=training), tmp_path, train_plus_val=True)
    with pytest.raises(TrainingError, match=rf"the gradient is not finite for 1 of 20 clips: {broken};"):
        train(plan, DataFolder(data_root), QUIET)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert not Run(folder).finished
    assert not Run(folder).weights_file.exists()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.toml", "max_seconds = 12.0", "max_seconds = 3.0"),
        ("config.json", '"pad_samples": 0', '"pad_samples": 9'),
    ],
)
def test_options_that_were_changed_by_hand_are_not_predicted_with(
    name: str, old: str, new: str, finished: Run, data_root: Path, tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(finished.folder, tmp_path / "changed")))
    text = (run.folder / name).read_text()
    assert old in text
    (run.folder / name).write_text(text.replace(old, new))
    with pytest.raises(RunError, match=rf"{name}: SHA-256 .*; put the file back as it was"):
        predict_runs([run], DataFolder(data_root), "valid", CPU)
    record = run.read_provenance()
    del record["files_sha256"]  # a run of before
    run.write_provenance(record)
    predict_runs([run], DataFolder(data_root), "valid", CPU)
