"""What the rows of a table read, and how to get what of it is missing. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from abaw_emi.config.parts import SOUND
from abaw_emi.config.presets import find_preset
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import Problem, gather
from abaw_emi.data.align import list_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.reproduction.rows import BACKBONES, RowPlan, inspect_runs

_MADE = {
    "vit": "the data brings it, abaw-emi extract makes one",
    "wav2vec2": "the data brings it, abaw-emi extract makes one",
    "gte": "abaw-emi transcribe writes the text, and abaw-emi extract makes it of that",
}
"""Where feature folders of the presets come from."""

_SPLITS: tuple[Split, ...] = ("train", "valid")


def find_lacks(plan: RowPlan, data: DataFolder, *, skip_bad: bool = False) -> dict[str, Problem]:
    """What is missing of what a row reads of the clips of train and valid, by its name, and how to get it.

    Args:
        plan: of the row.
        data: the data folder.
        skip_bad: whether clips that have nothing at all are left out.

    Raises:
        EmiError: the label files or a folder cannot be read.
    """
    found: dict[str, Collection[str]] = {
        name: data.files if name == SOUND else find_features(data.root, data.features, name)
        for name in plan.modalities
    }
    ids = {split: data.ids(split) for split in _SPLITS}
    lacks: dict[str, Problem] = {}
    for name, clips in found.items():
        empty = [split for split in _SPLITS if not any(filename in clips for filename in ids[split])]
        if empty:
            text = f"no clip of {' or '.join(empty)} has any"
            lacks[name] = Problem(_call(name), text, next_step=_advise(name, data))
    nothing = [
        filename
        for split in _SPLITS
        for filename in ids[split]
        if not any(filename in clips for clips in found.values())
    ]
    if nothing and found and not lacks and not skip_bad:
        what = list_ids(nothing, f"have no {' and no '.join(found)}")
        advice = "; ".join(_advise(name, data) for name in found)
        lacks["clips"] = Problem(str(data.root), what, next_step=f"{advice}; or --on-bad-clip skip")
    return lacks


def find_backbone_lack(plan: RowPlan) -> Problem | None:
    """Whether the backbone that a row starts from is not on this machine, and how to get it."""
    name = plan.backbone
    if name is None or Path(name).is_dir() or _is_cached(name, plan.config.model.revision):
        return None
    return Problem(name, "not on this machine", next_step=advise_backbone(plan))


def advise_backbone(plan: RowPlan) -> str:
    """How to get the backbone of a row with a preset."""
    published = find_preset(plan.row.preset or "").model.backbone
    short = next((name for name, hub in BACKBONES.items() if hub == published), "NAME")
    return f"fetch it where there is a network (hf download), or give a folder: --backbone {short}=DIR"


def list_row(plan: RowPlan, data: DataFolder) -> dict[str, Any]:
    """A row, what it reads and what of it is missing, as JSON values."""
    row = plan.row
    state, problems = inspect_runs(plan)
    lacks: dict[str, Problem] = {}
    with gather(problems):
        lacks |= find_lacks(plan, data)
    if plan.backbone and (lack := find_backbone_lack(plan)):
        lacks[plan.backbone] = lack
    return {
        "table": row.table,
        "name": row.name,
        "system": row.system,
        "preset": row.preset,
        "train_plus_val": row.train_plus_val,
        "published": {"valid": row.valid, "test": row.test, "words": row.words or None},
        "reads": [*plan.modalities, *filter(None, [plan.backbone])],
        "missing": list(lacks),
        "runs": [str(run.folder) for run in plan.runs.values()],
        "state": state,
        "remarks": list(row.remarks),
        "problems": [str(problem) for problem in (*problems, *lacks.values())],
    }


def _call(name: str) -> str:
    return name if name == SOUND else f"feature folder {name}"


def _advise(name: str, data: DataFolder) -> str:
    """How to get a modality of the clips."""
    if name == SOUND:
        return f"put the sound files under {data.root}/audio/, or the videos under {data.root}/raw/"
    made = _MADE.get(name, "abaw-emi extract makes it")
    return f"put it under {data.root}/{name}/ or {data.features}/{name}/; {made}"


def _is_cached(name: str, revision: str) -> bool:
    """Whether the hub's local cache has the config of a model."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return False
    try:
        return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    except HFValidationError:
        return False
