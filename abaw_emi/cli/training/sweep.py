"""The command sweep: presets x folds x seeds, on this machine, a cluster, or as a list of commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_presets
from abaw_emi.cli.next_step import print_next, print_words, retype
from abaw_emi.cli.output import print_command, print_line, print_result
from abaw_emi.core.progress import Reporter

if TYPE_CHECKING:
    from abaw_emi.core.errors import Problem
    from abaw_emi.experiments.jobs import Job

EXAMPLES = """Examples:
  abaw-emi sweep --presets paper winner-2025 --seeds 1 2 3            one process a GPU
  abaw-emi sweep --presets paper --folds 5 --jobs 2
  abaw-emi sweep --presets paper --seeds 1 2 3 --executor slurm --slurm partition=gpu gres=gpu:1 time=600
  abaw-emi sweep --presets paper --seeds 1 2 3 --executor print       a command a line, for other schedulers

Typed again, here or on another machine that shares the disk, it goes on with what is not done."""

Executor = Literal["local", "slurm", "print"]


def sweep(
    presets: Annotated[
        list[str] | None,
        typer.Option(
            "--presets",
            "--preset",
            autocompletion=complete_presets,
            metavar="NAME",
            help="Names; abaw-emi presets lists them.",
            show_default="paper",
        ),
    ] = None,
    seeds: options.Seeds = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Cut the training clips into N parts; a run for each.", min=0)
    ] = 0,
    train_plus_val: options.TrainPlusVal = False,
    changes: options.ChangesOfPresets = None,
    executor: Annotated[
        Executor, typer.Option("--executor", help="Where: this machine, Slurm, or only as a list.")
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", help="So many at once.", show_default="one a GPU; without GPUs, one", min=1),
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", help="KEY=VALUE: options of sbatch; time in minutes (1440).", metavar="K=V"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and their states.")] = False,
    out: options.Runs = options.DEFAULT_RUNS,
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train every preset with every seed, and show how far each run is."""
    from abaw_emi.config.presets import find_presets
    from abaw_emi.config.read import has_key
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.experiments.jobs import list_jobs

    names = list(dict.fromkeys(presets or ["paper"]))
    configs = find_presets(names, changes or [])
    common = ["--data", str(data), "--features", str(features), "--on-bad-clip", on_bad_clip]
    common += ["--device", device, "--precision", precision]
    planned = list_jobs(
        {
            name: [change for change in changes or [] if has_key(config, change.partition("=")[0])]
            for name, config in configs.items()
        },
        seeds or [1],
        out,
        folds=folds,
        train_plus_val=train_plus_val,
        common=common,
    )
    DataFolder(data, features).read_labels("train", "valid")
    reporter = Reporter(quiet=quiet)
    if dry_run:
        _print_jobs(planned, [], reporter)
    elif executor == "print":
        todo = [job for job in planned if job.look()[0] != "finished"]

        def show() -> None:
            for job in todo:
                print_command(shlex.join(job.command))

        print_result({"commands": [job.command for job in todo]}, show)
    elif executor == "slurm":
        _submit(planned, out, slurm or [], jobs, reporter)
    else:
        _run(planned, jobs, reporter)


def _run(planned: Sequence[Job], at_once: int | None, reporter: Reporter) -> None:
    from abaw_emi.core.installation import require
    from abaw_emi.experiments.local import find_gpus, run_jobs

    require(["torch"], "train")
    gpus = find_gpus()
    number = at_once or len(gpus) or 1
    if gpus and number > len(gpus):
        reporter.say(f"{number} at once on {len(gpus)} GPUs: runs share them")
        gpus = [gpus[place % len(gpus)] for place in range(number)]
    reporter.say(f"{len(planned)} runs, {number} at once; Ctrl-C stops and saves all of them")
    failed = run_jobs(planned, number, reporter, gpus)
    _print_jobs(planned, failed, reporter)
    if failed:
        raise typer.Exit(1)


def _submit(
    planned: Sequence[Job], out: Path, texts: Sequence[str], at_once: int | None, reporter: Reporter
) -> None:
    from abaw_emi.experiments.slurm import FOLDER, check_slurm, find_queued, parse_settings, submit_jobs

    settings = parse_settings(texts)
    check_slurm()
    queued = find_queued(out)
    for name, number in queued.items():
        reporter.say(f"{name}: in Slurm's queue already, job {number}")
    free = [job for job in planned if job.run.name not in queued]
    todo = [job for job in free if job.look()[0] not in ("in use", "finished")]
    numbers = submit_jobs(todo, out, settings, at_once) if todo else []
    lines = [f"{job.run.name}: job {number}" for job, number in zip(todo, numbers, strict=True)]
    lines.append(f"messages: RUN/train.log; of the cluster: {out / FOLDER}; next: abaw-emi runs {out}")
    jobs = {job.run.name: number for job, number in zip(todo, numbers, strict=True)}
    print_result({"jobs": jobs, "queued": queued}, "\n".join(lines), reporter.warnings)


def _print_jobs(planned: Sequence[Job], failed: Sequence[Problem], reporter: Reporter) -> None:
    from abaw_emi.evaluation.text_tables import TextTable, render

    broken = {problem.where for problem in failed}
    states = [
        (job, *(("failed", f"see {job.run.log_file}") if job.run.name in broken else job.look()))
        for job in planned
    ]
    rows = [[job.run.name, state, detail] for job, state, detail in states]
    reporter.fail(failed)
    done = [job.run.folder for job, state, _ in states if state == "finished"]

    def show() -> None:
        print_line(render(TextTable(["run", "state", ""], rows), "table"))
        if len(done) < len(planned):
            print_line(f"{len(planned) - len(done)} of {len(planned)} are to be trained")
            if failed:
                print_words("mend what made runs fail, then type the same command again")
            else:
                print_next(*retype("--dry-run"))
        else:
            print_next("ensemble", "--ckpts", *done)

    values = [{"run": str(job.run.folder), "state": state, "detail": detail} for job, state, detail in states]
    print_result({"runs": values}, show, [*reporter.warnings, *failed])
