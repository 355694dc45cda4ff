"""What transformers makes of a model folder: configs, tokenizers, models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.models.auto import feature_extraction_auto, image_processing_auto, tokenization_auto
from transformers.utils import logging as transformers_logging

from abaw_emi.core.constants import EncoderKind
from abaw_emi.core.errors import Problem, UsageError, WeightsError, shorten_error
from abaw_emi.models.hub import Pretrained

# What transformers knows of each type of model; none of these names is documented, all are long-standing.
_SOUND: Any = getattr(feature_extraction_auto, "FEATURE_EXTRACTOR_MAPPING_NAMES")  # noqa: B009 - untyped
_PICTURES: Any = getattr(image_processing_auto, "IMAGE_PROCESSOR_MAPPING_NAMES")  # noqa: B009
_WORDS: Any = tokenization_auto.TOKENIZER_MAPPING_NAMES


def detect_kind(pretrained: Pretrained) -> EncoderKind:
    """What a model reads, by its `model_type`; what reads several is taken for sound, then for vision.

    Raises:
        WeightsError: transformers knows no input for it.
    """
    model_type = pretrained.config["model_type"]
    if model_type in _SOUND:
        return "audio"
    if model_type in _PICTURES:
        return "vision"
    if model_type in _WORDS:
        return "text"
    found = f"model_type is {model_type!r}, which this version of transformers does not know"
    raise WeightsError(Problem(pretrained.name, found, next_step="name what it reads with --kind"))


def check_layer(pretrained: Pretrained, kind: EncoderKind, layer: int | None) -> None:
    """Passes where the encoder has a layer of this number; 0 is what goes into the first one.

    Raises:
        UsageError: it has not.
    """
    if layer is None:
        return
    config = load_part(AutoConfig, pretrained)
    config = getattr(config, f"{kind}_config", config)
    layers = getattr(config, "num_hidden_layers", None)
    if layers is None:
        found = f"{layer}, and {pretrained.name} does not say how many layers it has"
        raise UsageError(Problem("--layer", found, "no --layer: its last hidden states"))
    if not 0 <= layer <= layers:
        raise UsageError(Problem("--layer", str(layer), f"0 to {layers}, the layers of {pretrained.name}"))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that lies in a run folder.

    Raises:
        WeightsError: it cannot be loaded.
    """
    config = {"model_type": "bert"}  # the folder's own config.json is that of a run
    pretrained = Pretrained(
        name=str(folder), revision="", commit=None, folder=folder, config=config, files=(), retyped=True
    )
    return load_part(AutoTokenizer, pretrained)


def find_longest(tokenizer: Any, config: Any) -> int | None:
    """Tokens that an encoder reads: what its tokenizer says, else as many as it knows positions."""
    if tokenizer.model_max_length < 1_000_000:  # transformers writes 1e30 where it is not known
        return int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    return None if positions is None else int(positions)


def check_tokens(tokenizer: Any, pretrained: Pretrained, tokens: int) -> None:
    """Passes where the encoder reads so many tokens.

    Raises:
        UsageError: it does not.
    """
    longest = find_longest(tokenizer, load_part(AutoConfig, pretrained))
    if longest is not None and tokens > longest:
        expected = f"at most {longest}, which is what {pretrained.name} reads"
        raise UsageError(Problem("model.features.N.max_tokens", str(tokens), expected))


def load_part(auto: Any, pretrained: Pretrained, **settings: Any) -> Any:
    """What `auto`, transformers' `AutoConfig` or the like, makes of the folder.

    Raises:
        WeightsError: it cannot be made.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    if pretrained.retyped:
        settings["config"] = AutoConfig.for_model(**pretrained.config)
        if auto is AutoConfig:
            return settings["config"]
    try:
        return auto.from_pretrained(
            pretrained.folder, local_files_only=True, trust_remote_code=False, **settings
        )
    except Exception as error:  # whatever transformers, tokenizers and safetensors raise of a wrong folder
        what = getattr(auto, "__name__", "it").removeprefix("Auto")
        raise WeightsError(
            Problem(pretrained.name, f"its {what} cannot be loaded: {shorten_error(error)}")
        ) from error


def load_model(
    auto: Any, pretrained: Pretrained, unused: Sequence[str] = (), *, strict: bool = False
) -> PreTrainedModel:
    """The model in float32, in evaluation mode.

    Args:
        auto: transformers' `AutoModel`, or a class of models.
        pretrained: where it lies.
        unused: prefixes of weights that may be missing, because what they compute is not used.
        strict: whether weights that the model has no place for are refused.

    Raises:
        WeightsError: it cannot be loaded, or weights are missing.
    """
    # Not the dtype of its file: half precision is asked for by --precision.
    model, info = load_part(auto, pretrained, output_loading_info=True, dtype=torch.float32)
    missing = sorted(
        name
        for name in info["missing_keys"]
        if not name.endswith("masked_spec_embed")  # SpecAugment's, of training
        and not name.startswith(tuple(unused))
    )
    problems = []
    if missing:
        expected = "a checkpoint of the whole encoder"
        problems.append(Problem(pretrained.name, count_weights("missing", missing), expected))
    if strict and info["unexpected_keys"]:
        problems.append(Problem(pretrained.name, count_weights("unknown", sorted(info["unexpected_keys"]))))
    problems += [Problem(pretrained.name, str(found)) for found in info["mismatched_keys"]]
    if problems:
        raise WeightsError(problems)
    ready: PreTrainedModel = model.eval()
    return ready


def count_weights(what: str, names: Sequence[str], shown: int = 5) -> str:
    """How many weights are missing or unknown, and the names of the first ones."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what} weights ({len(names)}): {', '.join(names[:shown])}{more}"
