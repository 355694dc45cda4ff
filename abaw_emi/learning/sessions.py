"""`train` from end to end: the data folder and a config to finished run folders, one for each seed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

import abaw_emi
from abaw_emi.challenge.provenance import Provenance, write_with_provenance
from abaw_emi.challenge.tables import pack_ids
from abaw_emi.config import Precision, RunConfig
from abaw_emi.corpus.clips import OnBadClip
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import Problem, RunError
from abaw_emi.learning.batches import make_batch
from abaw_emi.learning.data import TrainingData, read_training_data
from abaw_emi.learning.devices import choose_device, choose_precision, describe_hardware
from abaw_emi.learning.logmel import LogMelEncoder
from abaw_emi.learning.model import EmiConfig, EmiModel
from abaw_emi.learning.prediction import describe_run, hash_file, load_model, predict
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
    """

    config: RunConfig
    preset: str
    seeds: Sequence[int]
    out: Path
    train_plus_val: bool = False
    if_there: IfThere = "refuse"
    on_bad_clip: OnBadClip = "error"
    device: str = "auto"
    precision: Precision = "auto"

    def run(self, seed: int) -> Run:
        """The run folder of a seed."""
        name = name_run(self.preset, train_plus_val=self.train_plus_val, seed=seed)
        return Run(self.out / name)


def train(plan: Plan, data: DataFolder, reporter: Reporter) -> list[Run]:
    """Trains one run for each seed and returns their folders; a finished run is left as it is on resume.

    Raises:
        EmiError: whatever stands in the way, before anything is written.
    """
    _check_folders(plan)
    device = choose_device(plan.device)
    precision = choose_precision(plan.precision, plan.config.training.precision, device)
    open_runs = [seed for seed in plan.seeds if not plan.run(seed).finished or plan.if_there == "overwrite"]
    for seed in plan.seeds:
        if seed not in open_runs:
            reporter.say(f"{plan.run(seed).folder} is finished already")
    if not open_runs:
        return [plan.run(seed) for seed in plan.seeds]
    backbone = _find_backbone(plan.config)
    training_data = _read_data(plan, data, reporter)
    if plan.train_plus_val:
        reporter.say("training on train and valid: no validation remains, and the last weights are kept")
    for seed in open_runs:
        run = plan.run(seed)
        if plan.if_there == "overwrite":
            run.remove()
        config = replace(plan.config, training=replace(plan.config.training, seed=seed))
        reporter.say(f"{run.folder} on {device} in {precision}")
        record = _record(plan, seed, backbone, training_data, device, precision)
        _train_run(run, config, backbone, training_data, record, device, precision, reporter)
    return [plan.run(seed) for seed in plan.seeds]


def try_out(plan: Plan, data: DataFolder, limit: int, reporter: Reporter) -> dict[str, float]:
    """Trains one epoch on `limit` clips, keeps nothing, and returns what a full run would take.

    Returns:
        Seconds: "epoch" of training and "validation" on the full splits, "run" for all epochs.
    """
    device = choose_device(plan.device)
    precision = choose_precision(plan.precision, plan.config.training.precision, device)
    backbone = _find_backbone(plan.config)
    training_data = _read_data(plan, data, reporter, limit)
    config = replace(plan.config, training=replace(plan.config.training, epochs=1, seed=plan.seeds[0]))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "smoke")
        record = _record(plan, plan.seeds[0], backbone, training_data, device, precision)
        result = _train_run(run, config, backbone, training_data, record, device, precision, reporter)
        start = time.monotonic()
        if training_data.valid:
            predict(load_model(run, device), training_data.valid, device=device, precision=precision)
        validation = time.monotonic() - start if training_data.valid else 0.0
    full_train, full_valid = len(data.ids("train")), len(data.ids("valid"))
    if plan.train_plus_val:
        full_train, full_valid = full_train + full_valid, 0
    epoch = (result.seconds - validation) * full_train / len(training_data.train)
    validation *= full_valid / max(1, len(training_data.valid))
    return {
        "epoch": epoch,
        "validation": validation,
        "run": plan.config.training.epochs * (epoch + validation) * len(plan.seeds),
    }


def _train_run(
    run: Run,
    config: RunConfig,
    backbone: Backbone | None,
    data: TrainingData,
    record: dict[str, Any],
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> Result:
    torch.manual_seed(config.training.seed)
    model = EmiModel(EmiConfig.from_parts(config.model, backbone.config if backbone else None))
    if backbone is not None:
        reporter.warn(load_backbone(model, backbone))
    if isinstance(model.encoder, LogMelEncoder):
        alone = (make_batch([clip]) for clip in data.train)
        model.encoder.fit_scale((batch.waveforms, batch.lengths) for batch in alone)
    training = Training(
        model, config.training, data, run, device=device, precision=precision, reporter=reporter
    )
    if training.resume():
        reporter.say(f"going on after epoch {training.at.epoch}, step {training.at.step}")
    else:
        run.metrics_file.unlink(missing_ok=True)  # of an attempt that saved nothing
        run.write_config(config)
        run.write_provenance(record)
    result = training.run()
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
            trained_on=run.trained_on,
            skipped=data.skipped,
            read_from_video=data.read_from_video,
        )
        write_with_provenance(table, run.valid_predictions, provenance)
    run.write_provenance({**record, "finished": datetime.now(UTC).isoformat(timespec="seconds")})
    run.drop_state()
    return result


def _check_folders(plan: Plan) -> None:
    problems = []
    for seed in plan.seeds:
        run = plan.run(seed)
        if not run.folder.exists():
            continue
        if plan.if_there == "refuse":
            step = "go on with --resume, or start anew with --overwrite"
            problems.append(Problem(str(run.folder), "the run is already there", next_step=step))
        elif plan.if_there == "resume" and run.config_file.is_file():
            config = replace(plan.config, training=replace(plan.config.training, seed=seed))
            if run.read_config() != config:
                problems.append(_changed(run, config))
    if problems:
        raise RunError(problems)


def _changed(run: Run, config: RunConfig) -> Problem:
    before, now = asdict(run.read_config()), asdict(config)
    changed = [
        f"{table}.{key} is {now[table][key]!r}, was {before[table][key]!r}"
        for table in now
        for key in now[table]
        if now[table][key] != before[table][key]
    ]
    return Problem(
        str(run.folder), "; ".join(changed), "the config it was started with", "use --overwrite to start anew"
    )


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


def _record(
    plan: Plan,
    seed: int,
    backbone: Backbone | None,
    data: TrainingData,
    device: torch.device,
    precision: Precision,
) -> dict[str, Any]:
    return {
        "version": abaw_emi.__version__,
        "git_commit": _git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "preset": plan.preset,
        "seed": seed,
        "train_plus_val": plan.train_plus_val,
        "trained_on": pack_ids(clip.filename for clip in data.train),
        "skipped": list(data.skipped),
        "read_from_video": dict(data.read_from_video),
        "data": {"fingerprint": data.fingerprint(), "train": len(data.train), "valid": len(data.valid)},
        "backbone": None
        if backbone is None
        else {"name": backbone.name, "revision": plan.config.model.revision, "commit": backbone.commit},
        "precision": precision,
        "hardware": describe_hardware(device),
        "finished": None,
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed wheel."""
    try:
        output = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.stdout.strip()
