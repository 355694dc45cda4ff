"""What others get of a finished run: its files, without what concerns its own machine. Imports no torch."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path, PureWindowsPath
from typing import Any

import tomli_w

from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.files import write_bytes
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.records import read_json, read_toml
from abaw_emi.runs.run import Run

PUBLISHED = (
    "README.md",
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "provenance.json",
    "run.toml",
    "tokenizer*",
)
"""Files of a run, as patterns of names, that a published one has; `load` reads no others."""

_RECORDED = (
    "version",
    "preset",
    "seed",
    "train_plus_val",
    "fold",
    "epochs",
    "best_epoch",
    "valid",
    "trained_on",
    "trained_on_complete",
    "data",
    "backbone",
    "text_encoder",
    "init_from",
    "init_branches",
    "imported_from",
    "licenses",
    "precision",
    "weights_sha256",
    "finished",
)
"""What is kept of a run's record: what `load` and the provenance of predictions need, and where it comes
from; nothing of the hardware, or of files that could not be read."""

_PLAIN = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""A hub id, or a folder's own name."""

_OF_PATHS = re.compile("path|file|backbone|^init_|^name$")
"""Keys whose values may be paths, in all files of a run."""


def stage_run(run: Run, folder: Path) -> None:
    """Lays the published files of a finished run into an empty folder; the weights as a link, where it can.

    Paths on this machine are shortened to their last part: in `run.toml`, in `config.json`, in the
    tokenizer's config, and in the record, which has the SHA-256 of the files as they are laid.

    Raises:
        RunError: the run has no model card.
    """
    if not run.card_file.is_file():
        step = "finish a run with this version, or write one"
        raise RunError(Problem(str(run.card_file), "no such file", "the model card of the run", step))
    for path in (path for pattern in PUBLISHED for path in run.folder.glob(pattern)):
        if path == run.weights_file:
            try:
                (folder / path.name).symlink_to(path.resolve())
            except OSError:  # Windows allows links to developers alone
                shutil.copyfile(path, folder / path.name)
        elif path != run.provenance_file:
            write_bytes(folder / path.name, _hide_paths_of(path))
    staged = Run(folder)
    record = {key: value for key, value in run.read_provenance().items() if key in _RECORDED}
    if record.get("licenses"):
        record["licenses"] = {shorten_path(name): value for name, value in record["licenses"].items()}
    files = [staged.model_config_file, staged.config_file, staged.tokenizer_file]
    hashes = {path.name: hash_file(path) for path in files if path.is_file()}
    staged.write_provenance({**_hide_paths(record), "files_sha256": hashes})


def shorten_path(name: str) -> str:
    r"""The last part of a path; a hub id as it is.

    >>> shorten_path("owner/name"), shorten_path("/home/me/name"), shorten_path(r"..\me\name")
    ('owner/name', 'name', 'name')
    """
    return name if _PLAIN.fullmatch(name) else PureWindowsPath(name).name


def _hide_paths_of(path: Path) -> bytes:
    """The content of a file of a run without paths; the same bytes where it has none."""
    if path.suffix == ".toml":
        return tomli_w.dumps(_hide_paths(read_toml(path, RunError))).encode()
    if path.name not in ("config.json", "tokenizer_config.json"):
        return path.read_bytes()
    values = read_json(path, dict[str, Any], "a config")
    hidden = _hide_paths(values)
    return path.read_bytes() if hidden == values else (json.dumps(hidden, indent=2) + "\n").encode()


def _hide_paths(values: Any, key: str = "") -> Any:
    """JSON values, with the last part of each path that stands under a key of `_OF_PATHS`."""
    if isinstance(values, dict):
        return {name: _hide_paths(value, name) for name, value in values.items()}
    if isinstance(values, list):
        return [_hide_paths(value, key) for value in values]
    return shorten_path(values) if isinstance(values, str) and _OF_PATHS.search(key) else values
