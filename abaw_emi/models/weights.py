"""Published weights into an `EmiModel`, strictly: a weight that was to be loaded and is not is an error.

Sources of names: transformers' models; the audeering checkpoint's `classifier.*` (its model card).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import AutoModel

from abaw_emi.config.model import ModelConfig
from abaw_emi.core.errors import EmiError, Problem, WeightsError, shorten_error
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import count_weights, load_model
from abaw_emi.models.weight_files import read_weights, rename

# The vector that SpecAugment writes over masked frames. Some published checkpoints (the 960h ones) lack
# it; it is no part of the forward pass outside training.
_MASK_VECTOR = "masked_spec_embed"


def load_backbone(model: EmiModel, backbone: Pretrained) -> list[Problem]:
    """Fills the encoder, and the VAD head if the model has one, with the backbone's weights.

    Returns:
        Warnings.

    Raises:
        WeightsError: a weight is missing, has another shape, or the file cannot be read.
    """
    weights = read_weights(backbone.folder)
    prefix = _find_prefix(weights, backbone.config["model_type"])
    if model.parts.vad_head and "classifier.dense.weight" not in weights:
        raise WeightsError(
            Problem(
                backbone.name,
                "the checkpoint has no VAD head (classifier.dense, classifier.out_proj)",
                next_step="use the audeering checkpoint, or --set model.vad_head=false",
            )
        )
    targets = name_as(
        {prefix: "encoder.wav2vec2."}
        if isinstance(model.encoder, Wav2Vec2Encoder)
        else {prefix: "encoder.model."},
        model,
    ) | name_as({"classifier.": "vad_head."}, model)
    warnings = []
    mask_vector = f"{prefix}{_MASK_VECTOR}"
    if mask_vector in targets and mask_vector not in weights:
        weights[mask_vector] = model.state_dict()[targets[mask_vector]]
        warnings.append(
            Problem(backbone.name, f"no {mask_vector}; SpecAugment starts from a new mask vector")
        )
    fresh = _copy_last_layers(model, model.parts.tuning.reset_layers)
    # What else a published checkpoint holds (a decoder, a quantiser) is no part of the encoder.
    fill(model, {key: weights[key] for key in weights if key in targets}, targets, backbone.name)
    state = model.state_dict()
    for name, value in fresh.items():
        state[name].copy_(value)  # the state dict shares the model's memory
    return warnings


def _copy_last_layers(model: EmiModel, count: int) -> dict[str, Tensor]:
    """The weights of the encoder's last layers as they are now: new ones."""
    encoder = model.encoder
    if encoder is None or not count:
        return {}
    levels = range(2 + encoder.layers - count, 2 + encoder.layers)
    return {
        f"encoder.{name}": value.clone()
        for name, value in encoder.state_dict().items()
        if encoder.find_level(name) in levels and not name.startswith(f"{encoder.norm_prefix}.")
    }


def load_text(model: EmiModel, pretrained: Pretrained) -> None:
    """Fills the text encoder of a model that has one.

    Raises:
        WeightsError: a weight is missing, has another shape, or the file cannot be read.
    """
    theirs = load_model(AutoModel, pretrained, ("pooler.",)).state_dict()
    weights = {key: value for key, value in theirs.items() if not key.startswith("pooler.")}
    fill(model, weights, name_as({"": "text.model."}, model), pretrained.name)


def _find_prefix(weights: Mapping[str, Tensor], model_type: str) -> str:
    """What a file's names of the encoder's weights begin with: it may hold a model that contains it."""
    own = f"{model_type.replace('-', '_')}."
    prefixes = ("model.encoder.", "encoder.") if model_type == "whisper" else (own,)
    return next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in weights)), "")


def make_model(
    parts: ModelConfig,
    backbone: Pretrained | None = None,
    widths: Mapping[str, int] | None = None,
    text: Pretrained | None = None,
) -> EmiModel:
    """A new model on the CPU, its encoders as large as their configs say.

    Raises:
        WeightsError: the config describes no model.
    """
    configs = [None if each is None else each.config for each in (backbone, text)]
    try:
        return EmiModel(EmiConfig.from_parts(parts, configs[0], widths, configs[1]))
    except EmiError:
        raise
    except Exception as error:  # transformers checks few of its values
        folders = [each.folder for each in (backbone, text) if each is not None]
        if not folders:
            raise
        where = " or ".join(str(folder / "config.json") for folder in folders)
        found = f"describes no model: {shorten_error(error)}"
        raise WeightsError(Problem(where, found, "the config of an encoder")) from error


def name_as(prefixes: Mapping[str, str], model: EmiModel) -> dict[str, str]:
    """The model's weights that a file of these prefixes holds: the file's name to the model's."""
    return {
        theirs + key.removeprefix(ours): key
        for key in model.state_dict()
        for theirs, ours in prefixes.items()
        if key.startswith(ours)
    }


def fill(model: EmiModel, weights: Mapping[str, Tensor], targets: Mapping[str, str], name: str) -> None:
    """Loads `weights` into `model`: every one of `targets` must be there, and nothing else.

    Raises:
        WeightsError: all weights that are missing, unknown, of another shape or not finite, by the names
            that the file uses.
    """
    weights = {rename(key): value for key, value in weights.items()}
    missing = sorted(set(targets) - set(weights))
    unknown = sorted(set(weights) - set(targets))
    problems = []
    if missing:
        problems.append(Problem(name, count_weights("missing", missing)))
    if unknown:
        problems.append(Problem(name, count_weights("unknown", unknown)))
    state = model.state_dict()
    for key in sorted(set(targets) & set(weights)):
        found, expected = tuple(weights[key].shape), tuple(state[targets[key]].shape)
        if found != expected:
            problems.append(Problem(f"{name}, {key}", f"shape {found}", str(expected)))
        elif not weights[key].is_floating_point():
            kind = str(weights[key].dtype).removeprefix("torch.")
            problems.append(Problem(f"{name}, {key}", f"{kind} numbers", "floats"))
        elif not torch.isfinite(weights[key].to(state[targets[key]].dtype)).all():
            problems.append(Problem(f"{name}, {key}", "a value that is not finite in float32"))
    if problems:
        raise WeightsError(problems)
    # Strict above: here only the weights that are no targets stay as they are.
    model.load_state_dict({targets[key]: value for key, value in weights.items()}, strict=False)
