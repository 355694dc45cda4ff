"""The rows of a table as runs: their recipes and their folders. Imports no torch.

Runs are named as `abaw-emi train` names them, so that a table takes what `train` made, and `train --resume`
goes on with what a table began. A run folder of another recipe is refused, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.config.parts import SOUND
from abaw_emi.config.presets import PRESETS, find_preset
from abaw_emi.config.run import RunConfig, change_config, compare_configs, has_key
from abaw_emi.core.errors import Problem, UsageError, gather
from abaw_emi.reproduction.published import PublishedRow
from abaw_emi.reproduction.table import State
from abaw_emi.runs.run import Run, name_run

BACKBONES: Mapping[str, str] = {
    "audeering": PRESETS["paper"].model.backbone,
    "w2v2-large": PRESETS["w2v2-gv"].model.backbone,
    "xlsr": PRESETS["xlsr-gv"].model.backbone,
}
"""Short names of the published backbones, and their hub ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlan:
    """A row and the runs that stand for it here.

    Attributes:
        row: what was published.
        config: its recipe; its seed is replaced by each of the runs'.
        runs: by seed; none where the row has no preset.
    """

    row: PublishedRow
    config: RunConfig
    runs: Mapping[int, Run]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What its model reads of a clip: sound, and names of feature folders."""
        heard = (SOUND,) if self.config.model.encoder != "none" else ()
        return (*heard, *(feature.name for feature in self.config.model.features)) if self.runs else ()

    @property
    def backbone(self) -> str | None:
        """Hub id or folder of the wav2vec 2.0 that it starts from; None where it starts from none."""
        config = self.config
        starts = self.runs and config.model.encoder == "wav2vec2" and not config.training.init_from
        return config.model.backbone if starts else None

    @property
    def run_names(self) -> tuple[str, ...]:
        """Names of the run folders."""
        return tuple(run.name for run in self.runs.values())

    def config_of(self, seed: int) -> RunConfig:
        """The recipe of a seed's run."""
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
        seeds: one run each; the recipe's own where there are none.
        changes: KEY=VALUE, for every row that has the key.
        backbones: folders or hub ids in the place of published ones, by their hub ids.

    Raises:
        UsageError: a change that no row has the key of, or that a row cannot have; all at once.
    """
    problems: list[Problem] = []
    plans = []
    unused = list(changes)
    for row in rows:
        config = RunConfig() if row.preset is None else find_preset(row.preset)
        applied = (
            []
            if row.preset is None
            else [change for change in changes if has_key(config, change.partition("=")[0])]
        )
        unused = [change for change in unused if change not in applied]
        with gather(problems):
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


def parse_backbones(texts: Iterable[str]) -> dict[str, str]:
    """What `NAME=ID_OR_DIR` puts in the place of which hub id.

    Raises:
        UsageError: no NAME=ID_OR_DIR, or no such name; all at once.

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
            problems.append(Problem(f"--backbone {text}", "not a known backbone and its place", expected))
    if problems:
        raise UsageError(problems)
    return found


def inspect_runs(plan: RowPlan) -> tuple[State, list[Problem]]:
    """How far a row's runs are, and what stands against using them."""
    if not plan.runs:
        return "no preset", []
    problems: list[Problem] = []
    finished, begun = [], []
    for seed, run in plan.runs.items():
        if not run.config_file.is_file():
            continue
        begun.append(run)
        with gather(problems):
            if changed := compare_configs(run.read_config(), plan.config_of(seed)):
                step = "give the --set and --backbone that it was made with, or another --out"
                problems.append(
                    Problem(str(run.folder), "; ".join(changed), f"what row {plan.row.name} asks for", step)
                )
            finished += [run] if run.finished else []
    if problems:
        return "refused", problems
    if len(finished) == len(plan.runs):
        return "finished", []
    return "unfinished" if begun else "not run", []


def name_problems(plan: RowPlan, problems: Iterable[Problem]) -> list[Problem]:
    """Problems of a row, with its name."""
    return [replace(problem, where=f"row {plan.row.name}, {problem.where}") for problem in problems]
