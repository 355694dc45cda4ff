"""Where a run comes from: its provenance record, and whether a resumed run still comes from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import Problem
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.installation import find_git_commit
from abaw_emi.core.records import timestamp
from abaw_emi.models.device import Runtime, describe_hardware
from abaw_emi.runs.run import Run
from abaw_emi.training.data import TrainingData, compare_data
from abaw_emi.training.initial_weights import InitialWeights

# What a resumed run must share with the run that was started, else its record would not be true.
_FIXED = (
    "data",
    "trained_on",
    "skipped",
    "backbone",
    "text_encoder",
    "init_from",
    "init_branches",
    "precision",
)


def describe_origin(
    data: TrainingData, start: InitialWeights, revision: str, runtime: Runtime
) -> dict[str, Any]:
    """What is known of a run before it starts, for its provenance record.

    A run that starts from another one has seen that one's clips, too.
    """
    trained_on = frozenset(clip.filename for clip in data.train)
    backbone = start.backbone
    origin = {
        "version": VERSION,
        "git_commit": find_git_commit(),
        "started": timestamp(),
        "trained_on": pack_ids(trained_on),
        "trained_on_complete": True,
        "init_from": None,
        "init_branches": [_describe_run(run) for run in start.branches],
        "skipped": list(data.skipped),
        "read_from_video": dict(data.read_from_video),
        "missing": {modality: pack_ids(ids) for modality, ids in data.missing.items()},
        "data": {"fingerprint": data.fingerprint(), "train": len(data.train), "valid": len(data.valid)},
        "backbone": None
        if backbone is None
        else {"name": backbone.name, "revision": revision, "commit": backbone.commit},
        "text_encoder": None
        if start.text is None
        else {"name": start.text.name, "revision": start.text.revision, "commit": start.text.commit},
        "licenses": _find_licenses(start),
        "precision": runtime.precision,
        "hardware": describe_hardware(runtime.device),
        "finished": None,
    }
    seen = [run.trained_on or frozenset() for run in start.runs]
    origin |= {
        "trained_on": pack_ids(trained_on.union(*seen)),
        "trained_on_complete": all(run.trained_on_complete for run in start.runs),
    }
    if start.run is None:
        return origin
    record = start.run.read_provenance()
    return origin | {
        "init_from": _describe_run(start.run),
        "backbone": record.get("backbone"),
        "text_encoder": record.get("text_encoder"),
    }


def _find_licenses(start: InitialWeights) -> dict[str, str | None]:
    """The licences of the published encoders that weights come from, by name; None where it is not known."""
    found: dict[str, str | None] = {}
    for run in start.runs:
        found |= run.read_provenance().get("licenses") or {}
    return found | {
        each.name: each.read_license() for each in (start.backbone, start.text) if each is not None
    }


def _describe_run(run: Run) -> dict[str, Any]:
    return {"run": run.name, "weights_sha256": run.read_provenance().get("weights_sha256")}


def check_seen(start: Run, data: TrainingData) -> list[Problem]:
    """A warning where the run that weights come from has seen clips that are now validated on."""
    seen = (start.trained_on or frozenset()).intersection(clip.filename for clip in data.valid)
    if not seen:
        return []
    found = f"it was trained on {len(seen):,} of the {len(data.valid):,} clips that are validated on"
    return [Problem(str(start.folder), found, next_step="SEEN IN TRAINING: this is no validation")]


def compare_origin(
    run: Run, before: Mapping[str, Any], now: Mapping[str, Any], data: TrainingData
) -> list[Problem]:
    """A problem for everything that is not as it was when the run was started; of the data, by id."""
    step = "put it back as it was, or start again with --overwrite"
    problems = [
        Problem(f"{run.folder}, {key}", f"now {now[key]}", f"{before.get(key)}, as it was started", step)
        for key in _FIXED
        if before.get(key) != now[key] and (key in before or now[key])  # older records have no newer keys
    ]
    if before.get("data") != now["data"] and (described := run.read_data()) is not None:
        changes = compare_data(described, data.describe())
        problems += [Problem(f"{run.folder}, data", change, next_step=step) for change in changes]
    return problems
