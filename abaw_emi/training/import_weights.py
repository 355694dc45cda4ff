"""A checkpoint of the paper's released code to a run folder."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from abaw_emi.config.presets import find_preset
from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.hashing import hash_file
from abaw_emi.inference.predict import describe_files, load_model
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weights import import_released
from abaw_emi.runs.card import write_card
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.preprocessor import write_preprocessor
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import check_weights, save_model


def import_run(file: Path, backbone_name: str, revision: str, out: Path) -> Run:
    """The finished run folder `out`, made from the released code's checkpoint `file`.

    Which clips it was trained on is not recorded in such a file, nor in the run.

    Raises:
        WeightsError: the checkpoint or the backbone is not what it should be.
        RunError: `out` is already there, or another process is making it.
    """
    with ExitStack() as locks:
        held, _ = lock_runs([Run(out)], locks)
        if held:
            raise RunError(held.values())
        return _import(file, backbone_name, revision, out)


def _import(file: Path, backbone_name: str, revision: str, out: Path) -> Run:
    if out.exists():
        raise RunError(Problem(str(out), "already there", next_step="give --out another folder"))
    backbone = find_backbone(backbone_name, revision, needs_weights=False)
    model = import_released(file, backbone)
    check_weights(model)
    staging = Run(out.with_name(f".{out.name}.partial"))
    shutil.rmtree(staging.folder, ignore_errors=True)
    try:
        save_model(model, staging.folder)
        write_preprocessor(staging, standardises=model.standardises)
        config = find_preset("released")
        staging.write_config(
            replace(config, model=replace(config.model, backbone=backbone_name, revision=revision))
        )
        staging.write_provenance(
            {
                "version": VERSION,
                "preset": "released",
                "imported_from": {"file": file.name, "sha256": hash_file(file)},
                "trained_on": None,
                "backbone": {"name": backbone.name, "revision": revision, "commit": backbone.commit},
                "licenses": {backbone.name: backbone.read_license()},
                **describe_files(staging),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        write_card(staging)
        load_model(staging, torch.device("cpu"))  # as whoever uses the run will
        staging.folder.rename(out)
    except BaseException:
        shutil.rmtree(staging.folder, ignore_errors=True)
        raise
    return Run(out)
