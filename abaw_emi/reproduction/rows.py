"""The rows of a table as runs: their configs and their folders. Imports no torch.

Run folders have the names that `abaw-emi train` gives them, and `train --resume` continues the runs of a
table. A run folder with another config is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.config.compare import compare_configs
from abaw_emi.config.presets import PRESETS, find_preset
from abaw_emi.config.read import change_config, has_key
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, UsageError, collect_errors
from abaw_emi.core.suggest import suggest_name
from abaw_emi.reproduction.published import PublishedRow
from abaw_emi.reproduction.table import State
from abaw_emi.runs.resume import name_run
from abaw_emi.runs.run import Run

BACKBONES: Mapping[str, str] = {
    "audeering": PRESETS["paper"].model.backbone,
    "w2v2-large": PRESETS["w2v2-gv"].model.backbone,
    "xlsr": PRESETS["xlsr-gv"].model.backbone,
}
"""Hub ids of the published backbones, by short names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlan:
    """A row and the runs that reproduce it.

    Attributes:
        row: what was published.
        config: of its runs, up to the seed.
        runs: by seed; none where the row has no preset.
    """

    row: PublishedRow
    config: RunConfig
    runs: Mapping[int, Run]

    @property
    def backbone(self) -> str | None:
        """Hub id or folder of its pretrained wav2vec 2.0; None where it uses none."""
        config = self.config
        starts = self.runs and config.model.encoder == "pretrained" and not config.training.init_from
        return config.model.backbone if starts else None

    @property
    def run_names(self) -> tuple[str, ...]:
        """Names of the run folders."""
        return tuple(run.name for run in self.runs.values())

    def config_of(self, seed: int) -> RunConfig:
        """The config of a seed's run."""
        return replace(self.config, training=replace(self.config.training, seed=seed))


def plan_rows(
    rows: Sequence[PublishedRow],
    out: Path,
    *,
    seeds: Sequence[int] = (),
    changes: Sequence[str] = (),
    backbones: Mapping[str, str] | None = None,
) -> list[RowPlan]:
    """The runs of each row.

    Args:
        rows: of one table.
        out: the folder of run folders.
        seeds: one run for each; the seed of the preset where there are none.
        changes: KEY=VALUE, applied to every row that has the key.
        backbones: folders or hub ids that replace published backbones, by the hub ids of these.

    Raises:
        UsageError: the key of a change is in no row, or its value is impossible; all problems together.
    """
    problems: list[Problem] = []
    plans = []
    unused = list(changes)
    for row in rows:
        config = RunConfig() if row.preset is None else find_preset(row.preset)
        preset = row.preset is not None
        applied = [change for change in changes if preset and has_key(config, change.partition("=")[0])]
        unused = [change for change in unused if change not in applied]
        with collect_errors(problems):
            config = change_config(config, applied)
        backbone = (backbones or {}).get(config.model.backbone, config.model.backbone)
        config = replace(config, model=replace(config.model, backbone=backbone))
        runs = {}
        if row.preset is not None:
            for seed in dict.fromkeys(seeds or [config.training.seed]):
                fold = config.data.fold
                name = name_run(row.preset, train_plus_val=row.train_plus_val, fold=fold, seed=seed)
                runs[seed] = Run(out / name)
        plans.append(RowPlan(row=row, config=config, runs=runs))
    if unused and not problems:
        change_config(plans[0].config, unused[:1])  # raises, with the keys that there are
    if problems:
        raise UsageError(problems)
    return plans


def use_finished(plans: Sequence[RowPlan], folder: Path) -> tuple[list[RowPlan], list[Problem]]:
    """The plans, with the runs in `folder` for rows that are finished there and not begun in their own place.

    Returns:
        Also a warning of runs that are only begun there.
    """
    chosen, problems = [], []
    for plan in plans:
        there = replace(plan, runs={seed: Run(folder / run.name) for seed, run in plan.runs.items()})
        state = inspect_runs(there)[0] if inspect_runs(plan)[0] == "not run" else "not run"
        if state == "unfinished":
            found = f"{', '.join(there.run_names)}: begun there, and not finished"
            problems.append(Problem(str(folder), found, next_step=f"--runs {folder} goes on"))
        chosen.append(there if state == "finished" else plan)
    return chosen, list(dict.fromkeys(problems))


def parse_backbones(texts: Iterable[str]) -> dict[str, str]:
    """The replacements of published backbones that `NAME=ID_OR_DIR` texts define, by hub id.

    Raises:
        UsageError: a text is not NAME=ID_OR_DIR, or there is no such name; all problems together.

    >>> parse_backbones(["xlsr=models/small"])
    {'facebook/wav2vec2-large-xlsr-53': 'models/small'}
    """
    found: dict[str, str] = {}
    problems = []
    for text in texts:
        name, _, value = text.partition("=")
        if name in BACKBONES and value:
            found[BACKBONES[name]] = value
        else:
            expected = f"NAME=ID_OR_DIR, NAME one of {', '.join(BACKBONES)}"
            step = suggest_name(name, BACKBONES) if name not in BACKBONES else ""
            wrong = "not a backbone and its replacement"
            problems.append(Problem(f"--backbone {text}", wrong, expected, step))
    if problems:
        raise UsageError(problems)
    return found


def inspect_runs(plan: RowPlan) -> tuple[State, list[Problem]]:
    """The state of a row's runs, and why they cannot be used."""
    if not plan.runs:
        return "no preset", []
    problems: list[Problem] = []
    finished, begun = [], []
    for seed, run in plan.runs.items():
        if not run.config_file.is_file():
            continue
        begun.append(run)
        with collect_errors(problems):
            if changed := compare_configs(run.read_config(), plan.config_of(seed)):
                expected = f"the config of row {plan.row.name}"
                step = "use the --set and --backbone that it was trained with, or another --runs"
                problems.append(Problem(str(run.folder), "; ".join(map(str, changed)), expected, step))
            finished += [run] if run.finished else []
    if problems:
        return "refused", problems
    if len(finished) == len(plan.runs):
        return "finished", []
    return "unfinished" if begun else "not run", []


def name_problems(plan: RowPlan, problems: Iterable[Problem]) -> list[Problem]:
    """The problems, each with the name of the row."""
    return [replace(problem, where=f"row {plan.row.name}, {problem.where}") for problem in problems]
