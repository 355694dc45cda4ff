"""Pretrained models as they are loaded: their files, config and licence."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from abaw_emi.config.pretrained import BACKBONE, TEXT_BACKBONE, find_folder
from abaw_emi.core.errors import Problem, WeightsError, collect_errors
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.records import read_json
from abaw_emi.models.encoders.speech import SPEECH_ENCODERS
from abaw_emi.models.encoders.text import TEXT_ENCODERS

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

_CARD = "README.md"

_LICENSE = re.compile(r"[A-Za-z0-9.+-]{1,60}")


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

    def read_license(self) -> str | None:
        """The licence that its card names, such as "apache-2.0"; None where there is none, or no card."""
        from huggingface_hub import metadata_load

        try:
            licence = (metadata_load(self.folder / _CARD) or {}).get("license")
        except Exception:  # no card, or one that is no YAML, of a parser that huggingface_hub brings
            return None
        return licence if isinstance(licence, str) and _LICENSE.fullmatch(licence) else None


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
    folder, commit = find_folder(name, revision, [_CARD, *_SETTINGS, *safetensors], option)
    weights = _list(folder, safetensors)
    if needs_weights and not weights and commit is not None:
        folder, commit = find_folder(name, revision, [_CARD, *_SETTINGS, *torch_files], option)
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
    found = find_pretrained(name, revision, BACKBONE, SPEECH_ENCODERS, needs_weights=needs_weights)
    path = found.folder / "preprocessor_config.json"
    settings = read_json(path, dict[str, Any], "a preprocessor's config") if path.is_file() else {}
    if settings.get("do_normalize", True):
        return found
    return replace(found, config={**found.config, "do_normalize": False})


def find_text_encoder(name: str, revision: str = "main", *, needs_weights: bool = True) -> Pretrained:
    """The text encoder that a run starts from; as `find_pretrained`."""
    return find_pretrained(name, revision, TEXT_BACKBONE, TEXT_ENCODERS, needs_weights=needs_weights)


def _retype(config: dict[str, Any]) -> dict[str, Any]:
    """The config of gte-en-mlm-base and its kin as transformers knows the same network by now.

    They are of the type "new", whose code lies on the hub and is not run here.
    """
    if config.get("model_type") != "new" or not str(config.get("architectures")).startswith("['New"):
        return config
    others = {key: value for key, value in config.items() if key not in ("auto_map", "architectures")}
    return {**others, "model_type": "gte"}


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
