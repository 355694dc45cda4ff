"""`train` from end to end: the data folder and a config to finished run folders, one for each seed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from abaw_emi.challenge.provenance import Provenance, hash_file, write_with_provenance
from abaw_emi.config import Precision, RunConfig
from abaw_emi.corpus.clips import OnBadClip
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import Problem, RunError, gather
from abaw_emi.files import check_writable
from abaw_emi.learning.batches import make_batch
from abaw_emi.learning.checkpoints import install_best
from abaw_emi.learning.data import TrainingData, read_training_data
from abaw_emi.learning.devices import choose_device, choose_precision
from abaw_emi.learning.logmel import LogMelEncoder
from abaw_emi.learning.model import EmiConfig, EmiModel
from abaw_emi.learning.origin import compare_origin, describe_origin
from abaw_emi.learning.prediction import describe_run, load_model, predict
from abaw_emi.learning.runs import Run, name_run
from abaw_emi.learning.training import Result, Training
from abaw_emi.learning.weights import Backbone, find_backbone, load_backbone
from abaw_emi.progress import Reporter

IfThere = Literal["refuse", "resume", "overwrite"]
"""What to do about a run folder that is already there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `train` was asked for.

    Attributes:
        config: the run; its seed is replaced by each of `seeds`.
        preset: its name, for the run folders.
        seeds: one run each.
        out: the folder of run folders.
        train_plus_val: whether valid is trained on too.
        epochs_from: the run whose best epoch the number of epochs was taken from, for the record.
    """

    config: RunConfig
    preset: str
    seeds: Sequence[int]
    out: Path
    train_plus_val: bool = False
    epochs_from: str = ""
    if_there: IfThere = "refuse"
    on_bad_clip: OnBadClip = "error"
    device: str = "auto"
    precision: Precision = "auto"

    def run_of(self, seed: int) -> Run:
        """The run of a seed."""
        name = name_run(self.preset, train_plus_val=self.train_plus_val, seed=seed)
        return Run(self.out / name)

    def config_of(self, seed: int) -> RunConfig:
        """The config of a seed's run."""
        return replace(self.config, training=replace(self.config.training, seed=seed))


def train(plan: Plan, data: DataFolder, reporter: Reporter) -> list[Run]:
    """Trains one run for each seed and returns their folders; a finished run is left as it is on resume.

    Raises:
        EmiError: whatever stands in the way; before a run that is there is touched.
    """
    _check_folders(plan)
    device = choose_device(plan.device)
    precision = choose_precision(plan.precision, plan.config.training.precision, device)
    runs = {seed: plan.run_of(seed) for seed in plan.seeds}
    to_do = {seed: run for seed, run in runs.items() if plan.if_there == "overwrite" or not run.finished}
    for run in runs.values():
        if run not in to_do.values():
            reporter.say(f"{run.folder} is finished already")
    if not to_do:
        return list(runs.values())
    backbone = _find_backbone(plan.config)
    training_data = _read_data(plan, data, reporter)
    if plan.train_plus_val:
        reporter.say("training on train and valid: no validation remains, and the last weights are kept")
    for seed, run in to_do.items():
        reporter.say(f"{run.folder} on {device} in {precision}")
        _train_run(plan, seed, run, backbone, training_data, device, precision, reporter)
    return list(runs.values())


def try_out(plan: Plan, data: DataFolder, limit: int, reporter: Reporter) -> dict[str, float]:
    """Trains one epoch on `limit` clips, keeps nothing, and returns what a full run would take.

    Returns:
        Seconds: "epoch" of training and "validation" on the full splits, "run" for all epochs and seeds.
    """
    device = choose_device(plan.device)
    precision = choose_precision(plan.precision, plan.config.training.precision, device)
    backbone = _find_backbone(plan.config)
    few = _read_data(plan, data, reporter, limit)
    smoke = replace(plan, config=replace(plan.config, training=replace(plan.config.training, epochs=1)))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "smoke")
        result = _train_run(smoke, plan.seeds[0], run, backbone, few, device, precision, reporter)
    full_train, full_valid = len(data.ids("train")), len(data.ids("valid"))
    if plan.train_plus_val:
        full_train, full_valid = full_train + full_valid, 0
    epoch = result.training_seconds * full_train / len(few.train)
    validation = result.validation_seconds * full_valid / max(1, len(few.valid))
    return {
        "epoch": epoch,
        "validation": validation,
        "run": plan.config.training.epochs * (epoch + validation) * len(plan.seeds),
    }


def _train_run(
    plan: Plan,
    seed: int,
    run: Run,
    backbone: Backbone | None,
    data: TrainingData,
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> Result:
    config = plan.config_of(seed)
    torch.manual_seed(seed)
    model = EmiModel(EmiConfig.from_parts(config.model, backbone.config if backbone else None))
    if backbone is not None:
        reporter.warn(load_backbone(model, backbone))
    training = Training(
        model, config.training, data, run, device=device, precision=precision, reporter=reporter
    )
    origin = describe_origin(data, backbone, config.model.revision, device, precision)
    record = {
        "preset": plan.preset,
        "seed": seed,
        "train_plus_val": plan.train_plus_val,
        "epochs_from": plan.epochs_from,
        **origin,
    }
    if plan.if_there == "overwrite":
        run.remove()
    elif before := run.read_provenance():
        if problems := compare_origin(run, before, origin):
            raise RunError(problems)
        record = before
    if training.resume():
        reporter.say(f"going on after epoch {training.at.epoch}, step {training.at.step}")
    else:
        if isinstance(model.encoder, LogMelEncoder):
            alone = (make_batch([clip]).to(device) for clip in data.train)
            model.encoder.fit_scale((batch.waveforms, batch.lengths) for batch in alone)
        run.metrics_file.unlink(missing_ok=True)  # of an attempt that saved nothing
        run.write_config(config)
        run.write_provenance(record)
    result = training.train()
    install_best(run, result.best_epoch)
    at = training.at
    record |= {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "valid": {"mean_pearson": at.best, "pearson": at.pearson} if data.valid else None,
        "weights_sha256": hash_file(run.weights_file),
    }
    run.write_provenance(record)
    if data.valid:
        table = predict(load_model(run, device), data.valid, device=device, precision=precision)
        provenance = Provenance(
            command="abaw-emi train",
            split="valid",
            members=[describe_run(run, precision, device)],
            trained_on=run.trained_on or frozenset(),
            trained_on_complete=True,
            skipped=data.skipped,
            read_from_video=data.read_from_video,
        )
        write_with_provenance(table, run.valid_predictions, provenance)
    run.write_provenance({**record, "finished": datetime.now(UTC).isoformat(timespec="seconds")})
    run.drop_state()
    return result


def _check_folders(plan: Plan) -> None:
    problems: list[Problem] = []
    for run in map(plan.run_of, plan.seeds):
        if not run.folder.exists():
            with gather(problems):
                check_writable(run.config_file)
            continue
        if plan.if_there == "refuse":
            step = "go on with --resume, or start anew with --overwrite"
            problems.append(Problem(str(run.folder), "the run is already there", next_step=step))
        elif not run.config_file.is_file() and any(run.folder.iterdir()):
            found = "there, but not a run folder (no run.toml); it is left alone"
            problems.append(Problem(str(run.folder), found, next_step="move it away, or use another --out"))
        elif plan.if_there == "resume" and run.config_file.is_file():
            problems += _compare_config(run, plan)
    if problems:
        raise RunError(problems)


def _compare_config(run: Run, plan: Plan) -> list[Problem]:
    before = run.read_config()
    now = asdict(plan.config_of(before.training.seed))
    changed = [
        f"{table}.{key} is {now[table][key]!r}, was {value!r}"
        for table, values in asdict(before).items()
        for key, value in values.items()
        if now[table][key] != value
    ]
    if not changed:
        return []
    step = "use --overwrite to start anew"
    return [Problem(str(run.folder), "; ".join(changed), "the config it was started with", step)]


def _find_backbone(config: RunConfig) -> Backbone | None:
    if config.model.encoder != "wav2vec2":
        return None
    return find_backbone(config.model.backbone, config.model.revision)


def _read_data(plan: Plan, data: DataFolder, reporter: Reporter, limit: int | None = None) -> TrainingData:
    return read_training_data(
        data,
        train_plus_val=plan.train_plus_val,
        max_seconds=plan.config.data.max_seconds,
        on_bad=plan.on_bad_clip,
        reporter=reporter,
        limit=limit,
    )
