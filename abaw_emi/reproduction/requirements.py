"""What the rows of a table read, and how to get what is missing. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abaw_emi.config import pretrained
from abaw_emi.config.parts import SOUND
from abaw_emi.config.presets import find_preset
from abaw_emi.config.pretrained import check_pretrained, is_here
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import Problem, WeightsError, collect_errors
from abaw_emi.core.progress import Reporter
from abaw_emi.data.align import list_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.features.transcripts import find_transcripts
from abaw_emi.reproduction.rows import BACKBONES, RowPlan, inspect_runs, name_problems
from abaw_emi.reproduction.table import State

Failure = tuple[State, list[Problem]]
"""Why a row has no finished runs."""

_MADE = {
    "vit-huge": "abaw-emi prepare --presets winner-2025 makes it",
    "vit": "it is part of the official data, or abaw-emi extract makes one",
    "wav2vec2": "it is part of the official data, or abaw-emi extract makes one",
    "text": "abaw-emi transcribe writes the transcripts",
    "gte": "abaw-emi transcribe writes the transcripts, abaw-emi extract makes the features from them",
}
"""Where the feature folders of the presets come from."""

_SPLITS: tuple[Split, ...] = ("train", "valid")


def find_failures(
    plans: Sequence[RowPlan], data: DataFolder, reporter: Reporter, *, skip_bad: bool = False
) -> dict[str, Failure]:
    """Why rows cannot be trained, by their names, as far as that is seen without torch; each is reported.

    Args:
        plans: of the rows.
        data: the data folder.
        reporter: says what each row lacks.
        skip_bad: whether clips without any of the inputs are left out.
    """
    failures: dict[str, Failure] = {}
    for plan in plans:
        state, problems = inspect_runs(plan)
        if not plan.runs or state == "finished":
            continue
        failed: State = "refused" if problems else "lacks inputs"
        if not problems:
            with collect_errors(problems):
                problems += find_missing(plan.config, data, skip_bad=skip_bad).values()
            for name, revision in list_row_encoders(plan).items():
                problems += _check_encoder(plan, name, revision)
        if problems:
            failures[plan.row.name] = failed, problems
            reporter.fail(name_problems(plan, problems))
    return failures


def _check_encoder(plan: RowPlan, name: str, revision: str) -> list[Problem]:
    """What is wrong where there is no such encoder, here or on the hub."""
    advice = advise_encoder(plan, name)
    try:
        check_pretrained(name, revision, "--backbone")
    except WeightsError as error:
        return [replace(problem, next_step=advice) for problem in error.problems]
    return []


def find_missing(config: RunConfig, data: DataFolder, *, skip_bad: bool = False) -> dict[str, Problem]:
    """What a run reads of the clips of train and valid and is missing, by its name, and how to get it.

    Args:
        config: of the run.
        data: the data folder.
        skip_bad: whether clips without any of the inputs are left out.

    Raises:
        EmiError: the label files or a folder cannot be read.
    """
    found = {name: _find_clips(config, name, data) for name in config.model.reads}
    ids = {split: data.ids(split) for split in _SPLITS}
    missing: dict[str, Problem] = {}
    for name, clips in found.items():
        if empty := [split for split in _SPLITS if not set(clips).intersection(ids[split])]:
            where = name if name == SOUND else f"feature folder {name}"
            text = f"no clip of {' or '.join(empty)} has any"
            missing[name] = Problem(where, text, next_step=_advise(name, data))
    if found and not missing and not skip_bad:
        missing |= _find_empty(found, [clip for split in _SPLITS for clip in ids[split]], data)
    return missing


def _find_clips(config: RunConfig, name: str, data: DataFolder) -> Collection[str]:
    """The clips that have an input of a run."""
    if name == SOUND:
        return data.files
    if any(feature.name == name and feature.backbone for feature in config.model.features):
        return find_transcripts(data.root, data.features)
    return find_features(data.root, data.features, name)


def _find_empty(
    found: Mapping[str, Collection[str]], clips: Sequence[str], data: DataFolder
) -> dict[str, Problem]:
    """A problem, under "clips", where clips have none of the inputs."""
    some = set().union(*found.values())
    empty = [clip for clip in clips if clip not in some]
    if not empty:
        return {}
    advice = "; ".join(_advise(name, data) for name in found)
    what = list_ids(empty, f"have no {' and no '.join(found)}")
    return {"clips": Problem(str(data.root), what, next_step=f"{advice}; or --on-bad-clip skip")}


def list_row_encoders(plan: RowPlan) -> dict[str, str]:
    """The pretrained encoders of a row, of speech and of text, with their revisions."""
    encoders = pretrained.list_encoders(plan.config) if plan.runs else []
    return {encoder.name: encoder.revision for encoder in encoders}


def advise_encoder(plan: RowPlan, name: str) -> str:
    """How to get a pretrained encoder of a row with a preset."""
    places = [place for place, each in enumerate(plan.config.model.features) if each.backbone == name]
    if places:
        option = f"--set model.features.{places[0]}.backbone=DIR"
    else:
        name = plan.backbone or name
        published = find_preset(plan.row.preset or "").model.backbone
        short = next((short for short, hub in BACKBONES.items() if hub == published), "NAME")
        option = f"--backbone {short}=DIR"
    return f"where there is a network: hf download {name}; or use a folder: {option}"


def list_row(plan: RowPlan, data: DataFolder) -> dict[str, Any]:
    """A row, what it reads and what of it is missing, as JSON values."""
    row = plan.row
    state, problems = inspect_runs(plan)
    missing: dict[str, Problem] = {}
    encoders = list_row_encoders(plan)
    if plan.runs:
        with collect_errors(problems):
            missing |= find_missing(plan.config, data)
    missing |= {
        name: Problem(name, "not on this machine", next_step=advise_encoder(plan, name))
        for name, revision in encoders.items()
        if not is_here(name, revision)
    }
    return {
        "table": row.table,
        "name": row.name,
        "system": row.system,
        "preset": row.preset,
        "train_plus_val": row.train_plus_val,
        "published": {"valid": row.valid, "test": row.test, "words": row.words or None},
        "reads": [*(plan.config.model.reads if plan.runs else ()), *encoders],
        "missing": list(missing),
        "runs": [str(run.folder) for run in plan.runs.values()],
        "state": state,
        "remarks": list(row.remarks),
        "problems": [str(problem) for problem in (*problems, *missing.values())],
    }


def _advise(name: str, data: DataFolder) -> str:
    """How to get an input of the clips."""
    if name == SOUND:
        return f"put the audio files into {data.root}/audio/, or the videos into {data.root}/raw/"
    made = _MADE.get(name, "abaw-emi extract makes it")
    return f"put it into {data.root}/{name}/ or {data.features}/{name}/; {made}"
