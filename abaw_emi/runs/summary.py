"""What the run folders of a folder hold, at a glance. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.core.errors import Problem, RunError, collect_errors
from abaw_emi.runs.metrics import read_metrics
from abaw_emi.runs.run import REMOVED, Run, find_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run, finished or not.

    Attributes:
        run: its folder.
        preset: its preset, or the name of its config file.
        seed: its seed; None for imported weights.
        fold: "k/K" where it holds a fold out.
        train_plus_val: whether it is trained on valid too.
        epochs: how many are done, and `of` how many at most.
        best_epoch: the one whose weights are kept; None before the first.
        mean_pearson: of the best epoch, on what it holds out; selected on it.
        clipped_mean_pearson: of the same predictions clipped to [0, 1]; None where it is not known.
        pearson: as mean_pearson, per emotion.
        precision: its arithmetic.
        finished: when, None while it is not.
    """

    run: Run
    preset: str
    seed: int | None
    fold: str | None
    train_plus_val: bool
    epochs: int
    of: int
    best_epoch: int | None
    mean_pearson: float | None
    clipped_mean_pearson: float | None
    pearson: Mapping[str, float | None]
    precision: str | None
    finished: str | None


def summarise_runs(folder: Path) -> tuple[list[Summary], list[Problem]]:
    """The runs in `folder`, by name, and what is wrong with those whose records are damaged.

    Whatever else lies there is no run.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(Problem(str(folder), "no such folder", "a folder of run folders, as train makes them"))
    if Run(folder).config_file.is_file():
        found, step = "a run folder", f"did you mean {folder.parent}?"
        raise RunError(Problem(str(folder), found, "a folder of run folders", step))
    problems: list[Problem] = []
    summaries = []
    for run in find_runs(folder):
        with collect_errors(problems):
            summaries.append(summarise_run(run))
    step = "move it away, or train it again with --overwrite"
    return summaries, [replace(problem, next_step=problem.next_step or step) for problem in problems]


def summarise_run(run: Run) -> Summary:
    """What a run folder holds.

    Raises:
        EmiError: its config, record or metrics are damaged.
    """
    record = run.read_provenance()
    epochs = [line for line in read_metrics(run.metrics_file) if "step" not in line]
    done = record.get("epochs") or max((line["epoch"] for line in epochs), default=0)
    scored = [line for line in epochs if "valid" in line]
    best = max(scored, key=lambda line: line["valid"]["mean_pearson"], default=None)
    valid = record.get("valid") or (best["valid"] if best else {})
    return Summary(
        run=run,
        preset=record.get("preset", ""),
        seed=record.get("seed"),
        fold=record.get("fold"),
        train_plus_val=bool(record.get("train_plus_val")),
        epochs=done,
        of=run.read_config().training.epochs,
        best_epoch=record.get("best_epoch") or (best["epoch"] if best else None),
        mean_pearson=valid.get("mean_pearson"),
        clipped_mean_pearson=valid.get("clipped_mean_pearson"),
        pearson=valid.get("pearson", {}),
        precision=record.get("precision"),
        finished=record.get("finished"),
    )


def find_leftovers(folder: Path) -> list[Problem]:
    """A warning for each run in a folder that was on its way out when `--overwrite` was killed."""
    return [
        Problem(
            str(path),
            "a run that --overwrite was removing when it was killed",
            next_step=f"delete it, or rename it to {path.name[1:].removesuffix(REMOVED)} to keep it",
        )
        for path in sorted(folder.glob(f".*{REMOVED}"))
    ]
