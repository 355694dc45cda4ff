"""The name of a run's folder, and how the run there goes on: with which command, and with which options.

Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from abaw_emi.config.compare import compare_configs
from abaw_emi.config.presets import PRESETS
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem

if TYPE_CHECKING:
    from abaw_emi.runs.run import Run

_NAME = re.compile(
    r"(?P<preset>.+?)(?P<full>-trainval)?(-fold(?P<part>\d+)of(?P<parts>\d+))?-seed(?P<seed>\d+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """What the name of a run's folder says, see `name_run`."""

    preset: str
    train_plus_val: bool
    fold: str
    seed: int


def name_run(preset: str, *, train_plus_val: bool, fold: str, seed: int) -> str:
    """The name of a run's folder.

    >>> name_run("paper", train_plus_val=True, fold="", seed=3)
    'paper-trainval-seed3'
    >>> name_run("paper", train_plus_val=False, fold="1/5", seed=3)
    'paper-fold1of5-seed3'
    """
    part = f"-fold{fold.replace('/', 'of')}" if fold else ""
    return f"{preset}{'-trainval' if train_plus_val else ''}{part}-seed{seed}"


def parse_name(name: str) -> RunName | None:
    """What a name of `name_run` was made of; None for any other name.

    >>> parse_name("paper-fold1of5-seed3")
    RunName(preset='paper', train_plus_val=False, fold='1/5', seed=3)
    >>> parse_name("mine")
    """
    if not (found := _NAME.fullmatch(name)):
        return None
    fold = f"{found['part']}/{found['parts']}" if found["part"] else ""
    return RunName(
        preset=found["preset"], train_plus_val=bool(found["full"]), fold=fold, seed=int(found["seed"])
    )


def name_config(file: Path) -> str:
    """What the runs of a configuration file are named after: the file, or the preset of a run that has it."""
    name = parse_name(file.resolve().parent.name) if file.name == "run.toml" else None
    return name.preset if name else file.stem


def name_training(run: Run, config: RunConfig, *more: str) -> str:
    """The `train` command that makes this run folder with this config.

    Args:
        run: its folder; the config of one that is named after no preset is its own `run.toml`.
        config: of the run.
        more: further options.
    """
    name = parse_name(run.name)
    if name is None:
        return "the command that it was started with"
    words = ["abaw-emi", "train"]
    if preset := PRESETS.get(name.preset):
        begun = replace(
            preset,
            data=replace(preset.data, fold=name.fold),
            training=replace(preset.training, seed=name.seed),
        )
        words += ["--preset", name.preset, *(["--fold", name.fold] if name.fold else [])]
        changes = [each.change for each in compare_configs(config, begun)]
    else:
        words += ["--config", str(run.config_file)]
        changes = []
    words += ["--train-plus-val"] * name.train_plus_val
    words += ["--seeds", str(name.seed)]
    words += ["--set", *changes] if changes else []
    words += ["--runs", str(run.folder.parent)] if run.folder.parent != Path("runs") else []
    return shlex.join([*words, *more])


_FREE = ("training.epochs", "training.schedule_epochs", "training.seed", "training.patience")
"""What may differ between a run on train+val and the validated one: length, seed, and how that was ended."""

_FORCED = ("data.fold", "training.schedule")
"""What must differ where the validated run held a fold out, or followed its validation."""


def compare_with_validated(config: RunConfig, validated: Run) -> list[Problem]:
    """A problem where a run on train+val is to be another system than the one whose length it takes.

    Raises:
        ConfigError: the `run.toml` of the validated run is missing or damaged.
    """
    changed = [each for each in compare_configs(config, validated.read_config()) if each.key not in _FREE]
    forced = [each.change for each in changed if each.key in _FORCED]
    other = [str(each) for each in changed if each.key not in _FORCED]
    if not other:
        return []
    words = shlex.join(["--config", str(validated.config_file), *(["--set", *forced] if forced else [])])
    found = f"only the length is taken from it: {'; '.join(other)}"
    step = f"for the system that was validated, with {words}"
    return [Problem(f"--epochs-from {validated.folder}", found, next_step=step)]


def check_config(run: Run, asked: RunConfig, step: str) -> list[Problem]:
    """A problem where the run has other options than are asked for, with each of them.

    Args:
        run: which is there.
        asked: of the run that is wanted.
        step: what to do about it.

    Raises:
        ConfigError: its `run.toml` is missing or damaged.
    """
    changed = compare_configs(asked, run.read_config())
    if not changed:
        return []
    return [Problem(str(run.folder), "; ".join(map(str, changed)), "the config it was started with", step)]
