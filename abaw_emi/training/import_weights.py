"""A checkpoint of the public code of the paper, or of a winner, to a run folder."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer

from abaw_emi.config.presets import find_preset
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import Problem, RunError, UsageError
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Reporter
from abaw_emi.core.records import timestamp
from abaw_emi.inference.predict import describe_files, load_run
from abaw_emi.models.hub import Pretrained, find_backbone, find_text_encoder
from abaw_emi.models.load import check_tokens, load_part
from abaw_emi.models.released import ReleasedPreset, import_released
from abaw_emi.runs.card import write_card
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.preprocessor import write_preprocessor
from abaw_emi.runs.run import Run, check_absent
from abaw_emi.training.checkpoint import check_weights, save_model


def import_run(
    file: Path,
    backbone_name: str,
    revision: str,
    out: Path,
    *,
    preset: ReleasedPreset = "released",
    text: str = "",
    reporter: Reporter | None = None,
) -> Run:
    """The finished run folder `out`, made from the checkpoint `file` of the code of `preset`.

    Which clips it was trained on is not recorded in such a file, nor in the run.

    Args:
        file: a state dict.
        backbone_name: hub id or folder of the speech encoder it was trained from.
        revision: of it.
        out: the folder to make.
        preset: whose code it is of.
        text: the text encoder it was trained from; "" for the preset's.
        reporter: is told where nothing keeps another process from making the same run.

    Raises:
        UsageError: a text encoder, for a preset without one.
        WeightsError: the checkpoint or the backbone is not what it should be.
        RunError: `out` is already there, or another process is making it.
    """
    with ExitStack() as locks:
        held, warnings = lock_runs([Run(out)], locks)
        if held:
            raise RunError(held.values())
        (reporter or Reporter(quiet=True)).warn(warnings)
        return _import(file, _read_config(preset, backbone_name, revision, text), preset, out)


def _read_config(preset: ReleasedPreset, backbone: str, revision: str, text: str) -> RunConfig:
    config = find_preset(preset)
    features = [
        replace(feature, backbone=text or feature.backbone) if feature.backbone else feature
        for feature in config.model.features
    ]
    if text and not any(feature.backbone for feature in features):
        raise UsageError(Problem("--text", text, f"nothing: {preset} has no text encoder"))
    model = replace(config.model, backbone=backbone, revision=revision, features=tuple(features))
    return replace(config, model=model)


def _import(file: Path, config: RunConfig, preset: ReleasedPreset, out: Path) -> Run:
    check_absent(Run(out))
    parts = config.model
    backbone = find_backbone(parts.backbone, parts.revision, needs_weights=False)
    text = tokenizer = None
    for feature in parts.features:
        if feature.backbone:
            text = find_text_encoder(feature.backbone, feature.revision, needs_weights=False)
            tokenizer = load_part(AutoTokenizer, text)
            check_tokens(tokenizer, text, feature.max_tokens)
    model = import_released(file, preset, parts, backbone, text)
    check_weights(model)
    staging = Run(out.with_name(f".{out.name}.partial"))
    shutil.rmtree(staging.folder, ignore_errors=True)
    try:
        save_model(model, staging.folder)
        write_preprocessor(staging, standardises=model.standardises)
        if tokenizer is not None:
            tokenizer.save_pretrained(staging.folder)
        staging.write_config(config)
        staging.write_provenance(
            {
                "version": VERSION,
                "preset": preset,
                "imported_from": {"file": file.name, "sha256": hash_file(file)},
                "trained_on": None,
                "backbone": _describe(backbone),
                "text_encoder": text and _describe(text),
                "licenses": {each.name: each.read_license() for each in (backbone, text) if each is not None},
                **describe_files(staging),
                "finished": timestamp(),
            }
        )
        write_card(staging)
        load_run(staging, torch.device("cpu"))  # as whoever uses the run will
        staging.folder.rename(out)
    except BaseException:
        shutil.rmtree(staging.folder, ignore_errors=True)
        raise
    return Run(out)


def _describe(encoder: Pretrained) -> dict[str, str | None]:
    return {"name": encoder.name, "revision": encoder.revision, "commit": encoder.commit}
