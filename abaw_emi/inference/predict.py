"""A model and clips to a prediction table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers.utils import logging as transformers_logging

from abaw_emi.batching.examples import Example, InputSpec
from abaw_emi.core.arrays import Float32
from abaw_emi.core.constants import EMOTIONS, FILENAME, SAMPLE_RATE, OnBadClip, Precision
from abaw_emi.core.errors import Problem, RunError, TrainingError, UsageError, shorten_error, show_first
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.records import read_json
from abaw_emi.inference.workers import run_examples
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder
from abaw_emi.models.load import load_tokenizer
from abaw_emi.runs.run import Run

_BF16_ERROR = 0.1
"""Of frames, relative: rounding makes 1 to 3 % of it, a wrong kernel 30 % and more."""


def predict(
    model: EmiModel,
    examples: Sequence[Example],
    runtime: Runtime,
    *,
    description: str = "predicting",
) -> pl.DataFrame:
    """The model's intensities for each example, sorted by id; raw, so they may lie outside [0, 1].

    The model stays as it is. At any time some minutes of sound are in memory.

    Args:
        model: on the runtime's device.
        examples: in any order; all that have sound are encoded (`frozen_encoder.encode_examples`), or none.
        runtime: bf16 and fp16 are autocast, unless the encoder's weights are of half precision already.
        description: beside the progress bar.

    Raises:
        TrainingError: a prediction is not finite; every such clip is named.
    """
    intensities = np.empty((len(examples), len(EMOTIONS)), np.float32)  # in the order of `examples`
    with closing(run_examples(model, "intensities", examples, runtime, description)) as results:
        for place, values in results:
            intensities[place] = values
    filenames = [example.filename for example in examples]
    check_finite(filenames, intensities)
    return make_table(filenames, intensities).sort(FILENAME)


def check_finite(filenames: Sequence[str], intensities: Float32) -> None:
    """Raises a TrainingError that names the clips whose intensities (N, 6) are not finite."""
    broken = sorted(
        filenames[place] for place in np.flatnonzero(~np.isfinite(intensities).all(axis=1)).tolist()
    )
    if broken:
        raise TrainingError(
            Problem("predictions", f"not finite for {len(broken)} clips: {show_first(broken)}")
        )


def make_table(filenames: Sequence[str], intensities: Float32) -> pl.DataFrame:
    """The prediction table of clips and their intensities (N, 6), in their order."""
    ids = pl.Series(FILENAME, filenames, pl.String)  # text where there are none, too
    columns = {
        emotion: pl.Series(column, dtype=pl.Float32)
        for emotion, column in zip(EMOTIONS, intensities.T, strict=True)
    }
    return pl.DataFrame({FILENAME: ids, **columns})


def describe_files(run: Run) -> dict[str, Any]:
    """What a run's record says of the files that its predictions follow from."""
    files = [run.model_config_file, run.config_file]
    files += [run.tokenizer_file] if run.tokenizer_file.is_file() else []
    return {
        "weights_sha256": hash_file(run.weights_file),
        "files_sha256": {path.name: hash_file(path) for path in files},
    }


def read_spec(run: Run, on_bad: OnBadClip = "error") -> InputSpec:
    """What a run reads of each clip.

    Raises:
        EmiError: its configuration or its tokenizer cannot be read.
    """
    config = run.read_config()
    has_text = any(feature.backbone for feature in config.model.features)
    return InputSpec.of(config, on_bad, load_tokenizer(run.folder) if has_text else None)


def verify_weights(run: Run) -> str:
    """The SHA-256 of a run's weights; its configuration is verified with them.

    Raises:
        RunError: they are not those of the run's record; runs of before recorded the weights alone.
    """
    record, found = run.read_provenance(), describe_files(run)
    expected = {run.weights_file.name: record.get("weights_sha256"), **(record.get("files_sha256") or {})}
    actual = {run.weights_file.name: found["weights_sha256"], **found["files_sha256"]}
    step = "put the file back as it was; for other options, train another run"
    problems = [
        Problem(str(run.folder / name), f"SHA-256 {actual[name]}", f"{value}, as the run recorded", step)
        for name, value in expected.items()
        if actual.get(name) != value
    ]
    if problems:
        raise RunError(problems)
    return str(found["weights_sha256"])


def load_run(run: Run, device: torch.device, precision: Precision = "fp32") -> EmiModel:
    """The model of a run whose record names its weights, on `device`, in evaluation mode.

    Args:
        run: a finished one.
        device: where the model is to run.
        precision: with bf16 on a CPU, the encoder and the VAD head get weights in bfloat16, which is four
            times as fast where the processor knows it; not for a model that is to be trained.

    Raises:
        RunError: its weights are not those of its record, or do not fit.
        UsageError: bf16 on this CPU gives other frames than float32 does.
    """
    verify_weights(run)
    _check_keys(run.model_config_file)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = EmiModel.from_pretrained(run.folder, output_loading_info=True, local_files_only=True)
    except Exception as error:  # a config that was changed by hand fails anywhere
        found = f"the model cannot be loaded: {shorten_error(error)}"
        raise RunError(Problem(str(run.folder), found)) from error
    model, info = loaded
    strays = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if strays:
        raise RunError(Problem(str(run.folder), f"weights and config do not fit: {strays}"))
    ready: EmiModel = model.to(device).eval()
    if precision == "bf16" and device.type == "cpu" and isinstance(ready.encoder, Wav2Vec2Encoder):
        _narrow_encoder(ready)
    return ready


def _check_keys(path: Path) -> None:
    """Refuses keys of a model's config that transformers would obey: other kernels, quantisation, code."""
    known = EmiConfig().to_dict().keys() | {"architectures", "dtype", "torch_dtype"}
    values = read_json(path, dict[str, Any], "a model's config")
    if unknown := sorted(values.keys() - known):
        found = f"unknown keys: {', '.join(unknown)}"
        raise RunError(Problem(str(path), found, next_step="remove them; train wrote none of them"))


def _narrow_encoder(model: EmiModel) -> None:
    """Gives the encoder and the VAD head weights in bfloat16, and looks at what comes of it.

    oneDNN has grouped convolutions that are silently wrong in bfloat16 on some processors: seen with torch
    2.14 and AMX for groups of 8 channels, not for the 48 and more of published backbones.
    """
    assert model.encoder is not None, "there is an encoder to narrow"
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, SAMPLE_RATE), np.float32))
    lengths = torch.tensor([SAMPLE_RATE])
    with torch.inference_mode():
        expected, _ = model.encode(noise, lengths)
        model.encoder.to(torch.bfloat16)
        if model.parts.vad_head:
            model.vad_head.to(torch.bfloat16)
        found, _ = model.encode(noise, lengths)
    error = float((found.float() - expected).norm() / expected.norm())
    if not error <= _BF16_ERROR:
        what = f"bf16 on this CPU gives frames that are off by {error:.0%}"
        raise UsageError(Problem("precision", what, f"at most {_BF16_ERROR:.0%}", "use fp32"))


def describe_run(run: Run, runtime: Runtime) -> dict[str, Any]:
    """A run as a member of a prediction file's provenance."""
    record = run.read_provenance()
    keys = ("preset", "seed", "weights_sha256", "best_epoch", "valid", "data", "backbone")
    return {
        "run": run.name,
        **{key: record.get(key) for key in keys},
        "precision": runtime.precision,
        "device": runtime.device.type,
    }
