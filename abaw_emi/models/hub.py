"""Model folders, on disk or from the hub; the hub's local cache stands in where the hub is out of reach."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic_core import from_json
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.models.auto import feature_extraction_auto, image_processing_auto, tokenization_auto
from transformers.utils import logging as transformers_logging

from abaw_emi.core.constants import EncoderKind
from abaw_emi.core.errors import Problem, UsageError, WeightsError, collect_errors, shorten_error
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.records import read_json
from abaw_emi.models.encoders.speech import SPEECH_ENCODERS
from abaw_emi.models.encoders.text import TEXT_ENCODERS

# What transformers knows of each type of model; none of these names is documented, all are long-standing.
_SOUND: Any = getattr(feature_extraction_auto, "FEATURE_EXTRACTOR_MAPPING_NAMES")  # noqa: B009 - untyped
_PICTURES: Any = getattr(image_processing_auto, "IMAGE_PROCESSOR_MAPPING_NAMES")  # noqa: B009
_WORDS: Any = tokenization_auto.TOKENIZER_MAPPING_NAMES

# One of the two; many repositories hold both, and the same again for other libraries.
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "normalizer.json",
    "sentencepiece.bpe.model",
    "spiece.model",
)
"""Files beside the weights that say how a model reads its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A model folder of transformers.

    Attributes:
        name: as the user wrote it.
        revision: asked for, of the hub.
        commit: the hub's; None for a plain folder.
        folder: where its files lie.
        config: its `config.json`.
        retyped: whether `config` is of another type than the file says, which is then not to be read again.
        files: those that are loaded: weights and settings.
    """

    name: str
    revision: str
    commit: str | None
    folder: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    retyped: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record of it, with the SHA-256 of its files: these are the model, whatever it is called."""
        revision = None if self.commit is None else self.revision
        files = {file.name: hash_file(file) for file in self.files}
        return {"name": self.name, "revision": revision, "commit": self.commit, "files": files}


def find_pretrained(
    name: str,
    revision: str = "main",
    option: str = "ENCODER",
    model_types: Collection[str] = (),
    *,
    needs_weights: bool = True,
) -> Pretrained:
    """The model at folder or hub id `name`; from the hub's local cache where the hub is out of reach.

    Args:
        name: a folder, or a hub id.
        revision: of the model on the hub; a plain folder has none.
        option: what takes a folder too, for messages.
        model_types: those that are accepted; () for any.
        needs_weights: whether its weights are needed, or only its configuration.

    Raises:
        WeightsError: there is no such model, no weights in its folder, or it is of another type.
    """
    safetensors, torch_files = (_SAFETENSORS, _TORCH) if needs_weights else ((), ())
    folder, commit = find_folder(name, revision, [*_SETTINGS, *safetensors], option)
    weights = _list(folder, safetensors)
    if needs_weights and not weights and commit is not None:
        folder, commit = find_folder(name, revision, [*_SETTINGS, *torch_files], option)
    weights = weights or _list(folder, torch_files)
    problems: list[Problem] = []
    config: dict[str, Any] = {}
    with collect_errors(problems):
        config = _read_config(folder / "config.json", model_types)
    if needs_weights and not weights:
        problems.append(Problem(str(folder), "no weights", f"{_SAFETENSORS[0]} or {_TORCH[0]}"))
    if problems:
        raise WeightsError(problems)
    files = sorted((*_list(folder, _SETTINGS), *weights), key=lambda file: file.name)
    return Pretrained(
        name=name,
        revision=revision,
        commit=commit,
        folder=folder,
        config=_retype(config),
        files=tuple(files),
        retyped=_retype(config) is not config,
    )


def find_backbone(name: str, revision: str = "main", *, needs_weights: bool = True) -> Pretrained:
    """The speech encoder that a run starts from; as `find_pretrained`.

    Its config has `do_normalize` of its `preprocessor_config.json` where that is false.
    """
    found = find_pretrained(name, revision, "--backbone", SPEECH_ENCODERS, needs_weights=needs_weights)
    path = found.folder / "preprocessor_config.json"
    settings = read_json(path, dict[str, Any], "a preprocessor's config") if path.is_file() else {}
    if settings.get("do_normalize", True):
        return found
    return replace(found, config={**found.config, "do_normalize": False})


def find_text_encoder(name: str, revision: str = "main", *, needs_weights: bool = True) -> Pretrained:
    """The text encoder that a run starts from; as `find_pretrained`."""
    return find_pretrained(
        name, revision, "model.features.N.backbone", TEXT_ENCODERS, needs_weights=needs_weights
    )


def _retype(config: dict[str, Any]) -> dict[str, Any]:
    """The config of gte-en-mlm-base and its kin as transformers knows the same network by now.

    They are of the type "new", whose code lies on the hub and is not run here.
    """
    if config.get("model_type") != "new" or not str(config.get("architectures")).startswith("['New"):
        return config
    others = {key: value for key, value in config.items() if key not in ("auto_map", "architectures")}
    return {**others, "model_type": "gte"}


def find_folder(name: str, revision: str, files: Sequence[str], option: str) -> tuple[Path, str | None]:
    """The folder of a model, and the hub's commit (None for a plain folder).

    Of the hub, the files of these name patterns are fetched, and none of a subfolder.
    """
    if Path(name).is_dir():
        return Path(name), None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    silence = _find_silence(name, revision)
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(files),
            ignore_patterns=["*/*"],
            local_files_only=bool(silence),
        )
    except HFValidationError as error:
        raise WeightsError(Problem(name, "neither a folder nor a hub id", "such as owner/name")) from error
    except (OSError, ValueError) as error:
        reason = silence or shorten_error(error)
        raise WeightsError(
            Problem(
                name,
                f"revision {revision!r} is neither in the hub's local cache nor to be fetched: {reason}",
                next_step=f"fetch it where there is a network (hf download), or give {option} a folder",
            )
        ) from error
    return Path(folder), Path(folder).name


def _find_silence(name: str, revision: str) -> str:
    """That the hub does not answer in time, as behind a firewall; "" where it answers, whatever it says.

    `snapshot_download` itself asks without a time limit (seen with huggingface_hub 2.4).
    """
    from huggingface_hub import HfApi, constants

    try:
        HfApi().model_info(name, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # of httpx or httpx2, as huggingface_hub's version has it
        if any(kind.__name__ == "TimeoutException" for kind in type(error).__mro__):
            return f"{constants.ENDPOINT} did not answer within {constants.HF_HUB_ETAG_TIMEOUT} s"
    return ""


def _read_config(path: Path, model_types: Collection[str]) -> dict[str, Any]:
    try:
        config = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(Problem(str(path), f"cannot be read: {error}")) from error
    found = _retype(config).get("model_type") if isinstance(config, dict) else None
    if not isinstance(found, str) or (model_types and found not in model_types):
        known = f"one of {', '.join(model_types)}"
        expected = known if model_types else "the config of a model of transformers"
        raise WeightsError(Problem(str(path), f"model_type is {found!r}", expected))
    return dict(config)


def _list(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())


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


def load_model(auto: Any, pretrained: Pretrained, unused: Sequence[str] = ()) -> PreTrainedModel:
    """The model in float32, in evaluation mode.

    Args:
        auto: transformers' `AutoModel`, or a class of models.
        pretrained: where it lies.
        unused: prefixes of weights that may be missing, because what they compute is not used.

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
    problems += [Problem(pretrained.name, str(found)) for found in info["mismatched_keys"]]
    if problems:
        raise WeightsError(problems)
    ready: PreTrainedModel = model.eval()
    return ready


def count_weights(what: str, names: Sequence[str], shown: int = 5) -> str:
    """How many weights are missing or unknown, and the names of the first ones."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what} weights ({len(names)}): {', '.join(names[:shown])}{more}"
