"""A model and clips to a prediction table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from abaw_emi.challenge.facts import EMOTIONS, FILENAME
from abaw_emi.challenge.provenance import hash_file
from abaw_emi.config import Precision
from abaw_emi.corpus.clips import Clip
from abaw_emi.errors import Problem, RunError, TrainingError
from abaw_emi.learning.batches import group_by_length, make_batch
from abaw_emi.learning.devices import autocast
from abaw_emi.learning.model import EmiModel
from abaw_emi.learning.runs import Run
from abaw_emi.progress import Reporter

GROUP_SIZE = 8
"""Clips run side by side in prediction; the result does not depend on it."""


def predict(
    model: EmiModel,
    clips: Sequence[Clip],
    *,
    device: torch.device,
    precision: Precision = "fp32",
    reporter: Reporter | None = None,
    description: str = "predicting",
) -> pl.DataFrame:
    """The model's intensities for each clip, sorted by id; raw, so they may lie outside [0, 1].

    Raises:
        TrainingError: a prediction is not finite; every such clip is named.
    """
    lengths = [clip.samples for clip in clips]
    intensities: dict[str, npt.NDArray[np.float32]] = {}
    was_training = model.training
    model.train(False)
    context = nullcontext() if reporter is None else reporter.bar(description, len(clips))
    with context as bar, torch.inference_mode():
        for group in group_by_length(range(len(clips)), lengths, GROUP_SIZE):
            batch = make_batch([clips[index] for index in group]).to(device)
            with autocast(precision, device):
                output = model(batch.waveforms, batch.lengths)
            intensities.update(zip(batch.filenames, output.float().cpu().numpy(), strict=True))
            if bar is not None:
                bar.advance(len(group))
    model.train(was_training)
    broken = sorted(name for name, values in intensities.items() if not np.isfinite(values).all())
    if broken:
        raise TrainingError(
            Problem("predictions", f"not finite for {len(broken)} clips: {', '.join(broken[:10])}")
        )
    filenames = sorted(intensities)
    values = np.stack([intensities[filename] for filename in filenames])  # (N, 6)
    return pl.DataFrame({FILENAME: filenames, **dict(zip(EMOTIONS, values.T, strict=True))})


def load_model(run: Run, device: torch.device) -> EmiModel:
    """The model of a run whose record names its weights, on `device`, in evaluation mode.

    Raises:
        RunError: its weights are not those of its record, or do not fit.
    """
    found = hash_file(run.weights_file)
    expected = run.read_provenance().get("weights_sha256")
    if expected != found:
        raise RunError(Problem(str(run.weights_file), f"SHA-256 {found}", f"{expected}, as the run recorded"))
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = EmiModel.from_pretrained(run.folder, output_loading_info=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RunError(Problem(str(run.folder), f"the model cannot be loaded: {error}")) from error
    model, info = loaded
    strays = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if strays:
        raise RunError(Problem(str(run.folder), f"weights and config do not fit: {strays}"))
    ready: EmiModel = model.to(device).eval()
    return ready


def describe_run(run: Run, precision: Precision, device: torch.device) -> dict[str, Any]:
    """A run as a member of a prediction file's provenance."""
    record = run.read_provenance()
    keys = ("preset", "seed", "weights_sha256", "best_epoch", "valid", "data", "backbone")
    return {
        "run": run.name,
        **{key: record.get(key) for key in keys},
        "precision": precision,
        "device": device.type,
    }
