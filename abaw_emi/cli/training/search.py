"""The command search: better options of a run, by Optuna."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_presets
from abaw_emi.cli.next_step import PLACES, keep, print_next
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.installation import require
from abaw_emi.core.progress import Reporter

EXAMPLES = """Examples:
  abaw-emi search --preset paper --space space.toml --trials 20
  abaw-emi search --preset paper --space space.toml --trials 20 --folds 5

space.toml has a line for each option, such as:
  training.learning_rate = {low = 1e-5, high = 1e-3, log = true}
  training.loss = ["mse", "mse+0.5*pearson"]

The same command on other GPUs or machines that share the disk makes trials of the same search."""


def search(
    space: Annotated[
        Path,
        typer.Option(
            "--space",
            metavar="FILE",
            help="A TOML file: the options, and their values or ranges; see below.",
        ),
    ],
    trials: Annotated[int, typer.Option("--trials", help="How many, by all processes together.", min=1)],
    preset: Annotated[
        str,
        typer.Option(
            "--preset", autocompletion=complete_presets, metavar="NAME", help="What is not searched over."
        ),
    ] = "paper",
    changes: options.Changes = None,
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="Of the search.", show_default="the name of the preset"),
    ] = "",
    folds: Annotated[
        int, typer.Option("--folds", help="Score each trial on N folds of train, not on valid.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of every run.", min=0)] = 1,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the searches.")] = Path(
        "search"
    ),
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Search for better options: trials that share what they learn, given up early where they are worse."""
    from abaw_emi.config.presets import find_presets
    from abaw_emi.core.errors import Problem, UsageError
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.experiments.space import read_space

    config = find_presets([preset], changes or [], "--preset")[preset]
    dimensions = read_space(space, config)
    if folds == 1:
        raise UsageError(Problem("--folds 1", "no part would be left to train on", "2 or more"))
    folder = DataFolder(data, features)
    folder.read_labels("train", "valid")
    require(["optuna"], "search")
    require(["torch"], "train")

    from abaw_emi.experiments.search import search as run_search
    from abaw_emi.experiments.study import SearchPlan

    common = ["--data", str(data), "--features", str(features), "--on-bad-clip", on_bad_clip]
    plan = SearchPlan(
        name=name or preset,
        config=config,
        space=dimensions,
        folder=out / (name or preset),
        labels=folder.read_labels("valid"),
        seed=seed,
        folds=folds,
        common=(*common, "--device", device, "--precision", precision),
    )
    reporter = Reporter(quiet=quiet)
    found = run_search(plan, trials, reporter)
    counts = f"{found.trials} trials, {found.pruned} given up, {found.failed} failed, {found.running} running"
    lines = [counts]
    if found.value is not None:
        split = f"mean over {folds} folds" if folds else "valid"
        values = " ".join(f"{key}={value}" for key, value in found.options.items())
        lines.append(f"best: trial {found.best}, {split} {found.value:.4f}: {values}")
        lines.append(f"optimistic: it is the best of {found.trials} on the clips that it is scored on")
        if found.estimate is not None:
            lines.append(f"chosen on other clips than it is scored on: {found.estimate:.4f}")
    result = {**asdict(found), "config_file": str(found.config_file)}

    def show() -> None:
        print_line("\n".join(lines))
        if found.value is not None:
            print_next("train", "--config", found.config_file, "--seeds", "1", "2", "3", *keep(*PLACES))

    print_result(result, show, reporter.warnings)
