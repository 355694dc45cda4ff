"""The command train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_presets, complete_runs
from abaw_emi.cli.next_step import print_next, retype
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.cli.training.results import print_runs, print_verification
from abaw_emi.cli.training.start import check_start
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.core.installation import check_installation, require, require_training
from abaw_emi.core.progress import Reporter

if TYPE_CHECKING:
    from abaw_emi.config.run import RunConfig
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.training.plan import IfThere, Plan

EXAMPLES = """abaw-emi presets lists the presets, abaw-emi options every key of --set.

Examples:
  abaw-emi train                                   the paper's system, seed 1
  abaw-emi train --train-plus-val --seeds 1 2 3 --epochs-from runs/paper-seed1    of which to submit the mean
  abaw-emi train --limit 64                        how long would it take here?
  abaw-emi train --preset paper-dropout --set training.epochs=10 training.patience=3
  abaw-emi train --fold 1/5                        validates on a fifth of the training clips
  abaw-emi train --verify-resume                   does a killed run, resumed, end the same here?
  torchrun --nproc-per-node 4 -m abaw_emi train    one run on four GPUs
"""


def train(
    train_plus_val: options.TrainPlusVal = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            autocompletion=complete_presets,
            metavar="NAME",
            help="A system by name; abaw-emi presets lists them.",
            show_default="paper",
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="A run's run.toml, or a TOML file like it, instead of a preset."
        ),
    ] = None,
    changes: options.Changes = None,
    seeds: options.Seeds = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", metavar="ID_OR_DIR", help="wav2vec 2.0 to start from: a hub id or a folder."
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="REVISION", help="Of the backbone on the hub.", show_default="main"
        ),
    ] = None,
    epochs_from: Annotated[
        Path | None,
        typer.Option(
            "--epochs-from",
            autocompletion=complete_runs,
            metavar="RUN",
            help="With --train-plus-val: stop at the best epoch of this run.",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            autocompletion=complete_runs,
            metavar="RUN",
            help="Start from the weights of this finished run.",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold", metavar="k/K", help="k/K: hold the k-th of K parts of the training clips out."
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", rich_help_panel="Machine", help="On a GPU: the same bits every time, slower."
        ),
    ] = False,
    out: options.Runs = options.DEFAULT_RUNS,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", rich_help_panel="Resuming", help="Go on from the last checkpoint of each run."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel="Resuming", help="Replace runs that are there.")
    ] = False,
    save_minutes: Annotated[
        float,
        typer.Option(
            "--save-minutes", rich_help_panel="Resuming", help="Between two saves inside an epoch.", min=0
        ),
    ] = 5.0,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            rich_help_panel="Trial",
            help="A smoke run on N clips; prints the time of a full run.",
            min=2,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify-resume",
            rich_help_panel="Trial",
            help="Check that a killed and resumed run gives identical weights.",
        ),
    ] = False,
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train one run for each seed, into runs/<preset>[-trainval]-seed<k>/."""
    from abaw_emi.config.read import replace_values
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.shard import Shard
    from abaw_emi.runs.resume import name_run
    from abaw_emi.runs.run import Run

    trial = verify or limit is not None
    wrong = {
        ("both --resume and --overwrite", "one of them"): resume and overwrite,
        ("both --preset and --config", "one of them"): preset and config_file,
        ("--epochs-from without --train-plus-val", "both"): epochs_from and not train_plus_val,
        ("a trial under torchrun", "one process"): trial and not Shard.read(None).is_whole,
    }
    _refuse(wrong)
    if fold is not None:
        _check_fold(fold)
    name, config = _read_config(preset, config_file, changes or [])
    options_of_config = {
        "data.fold": fold,
        "model.backbone": backbone,
        "model.revision": revision,
        "training.init_from": init_from and str(init_from),
        "training.deterministic": deterministic or None,
    }
    length = _read_length(epochs_from, changes or [])
    config = replace_values(config, {**options_of_config, **length}, "train")
    folder = DataFolder(data, features)
    folder.read_labels("train", "valid")
    if config.model.tuning.lora_rank:
        require(["peft"], "lora")
    require_training()
    asked = list(dict.fromkeys(seeds or [config.training.seed]))
    if_there = _say_if_there(resume=resume, overwrite=overwrite)
    new = [
        Run(out / name_run(name, train_plus_val=train_plus_val, fold=config.data.fold, seed=number))
        for number in asked
    ]
    check_start(config, [] if trial or if_there != "refuse" else new, resumes=resume)
    check_installation()

    from abaw_emi.training.plan import Plan

    plan = Plan(
        config=config,
        preset=name,
        seeds=asked,
        out=out,
        train_plus_val=train_plus_val,
        epochs_from=str(epochs_from or ""),
        if_there=if_there,
        on_bad_clip=on_bad_clip,
        limit=limit,
        save_minutes=save_minutes,
        device=device,
        precision=precision,
    )
    _carry_out(plan, folder, Reporter(quiet=quiet), verify=verify)


def _say_if_there(*, resume: bool, overwrite: bool) -> IfThere:
    """What becomes of a run folder that is there."""
    if resume:
        return "resume"
    return "overwrite" if overwrite else "refuse"


def _read_length(epochs_from: Path | None, changes: Sequence[str]) -> dict[str, int]:
    """How long to train as a run did up to its best epoch.

    At the same learning rates, unless `changes` lay the cosine out otherwise.
    """
    from abaw_emi.runs.run import find_run

    if epochs_from is None:
        return {}
    run = find_run(epochs_from)
    length = {"training.epochs": run.best_epoch}
    if not any(change.startswith("training.schedule_epochs=") for change in changes):
        length["training.schedule_epochs"] = run.read_config().training.cosine_epochs
    return length


def _refuse(wrong: Mapping[tuple[str, str], object]) -> None:
    """Raises a UsageError of each (found, expected) that holds."""
    if problems := [Problem("train", *texts) for texts, holds in wrong.items() if holds]:
        raise UsageError(problems)


def _check_fold(text: str) -> None:
    from abaw_emi.data.folds import parse_fold

    try:
        parse_fold(text)
    except ValueError:
        expected = "k/K, such as 1/5: the first of five parts is held out"
        raise UsageError(Problem(f"--fold {text}", "no part of the training clips", expected)) from None


def _read_config(preset: str | None, config_file: Path | None, changes: list[str]) -> tuple[str, RunConfig]:
    """The name and the config of a preset or of a file, with the changes of `--set`."""
    from abaw_emi.config.presets import find_preset
    from abaw_emi.config.read import change_config, read_config
    from abaw_emi.runs.resume import name_config

    if config_file is None:
        name = preset or "paper"
        return name, change_config(find_preset(name), changes)
    return name_config(config_file), change_config(read_config(config_file), changes)


def _carry_out(plan: Plan, data: DataFolder, reporter: Reporter, *, verify: bool) -> None:
    """Trains what is planned, or makes the trial that was asked for, and prints the result."""
    from abaw_emi.audit.record import recall_audit
    from abaw_emi.models.distributed import join_world
    from abaw_emi.runs.resume import compare_with_validated
    from abaw_emi.runs.run import Run
    from abaw_emi.training.train import train as train_runs
    from abaw_emi.training.train import try_out
    from abaw_emi.training.verify_resume import verify_resume

    reporter.warn(recall_audit(data, "train", "valid", reads=plan.config.model.reads))
    if plan.epochs_from:
        training = plan.config.training
        reporter.warn(compare_with_validated(plan.config, Run(Path(plan.epochs_from))))
        reporter.say(
            f"{training.epochs} epochs, up to the best epoch of {plan.epochs_from}, of a cosine over "
            f"{training.cosine_epochs}"
        )
    if verify:
        print_verification(verify_resume(plan, data, reporter), reporter)
        return
    if plan.limit is not None:
        seconds = try_out(plan, data, reporter)
        durations = [f"{name:10} {timedelta(seconds=round(value))}" for name, value in seconds.items()]

        def show() -> None:
            print_line("\n".join(durations))
            print_next(*retype("--limit"))

        print_result({"seconds": seconds}, show, reporter.warnings)
        return
    with join_world() as world:
        reporter.console.quiet = not world.is_main
        runs = train_runs(plan, data, reporter, world)
    if world.is_main:
        print_runs(runs, reporter)
