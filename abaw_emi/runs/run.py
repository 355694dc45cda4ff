"""Run folders: what lies in them, and whether a path is one. Imports no torch.

runs/<preset>[-trainval]-seed<k>/
config.json + model.safetensors   the model (the best on valid; for train+val the last)
tokenizer.json, ...               how its text encoder reads, if it has one
README.md                         the model card
preprocessor_config.json          how others prepare sound for it, if it reads sound
run.toml                          the resolved run
metrics.jsonl                     a line an epoch, and a line every few steps
tensorboard/                      the same, where TensorBoard is installed
provenance.json                   versions, hardware, backbone, data; `finished` once it is
valid_predictions.csv             of the clips held out: valid, or a fold; none for train+val
train.log                         what it said, where sweep or a cluster started it
state/                            what resuming needs; gone when the run is done
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic_core import from_json
from typing_extensions import TypedDict

from abaw_emi.config.read import format_config, read_config
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import RUN_FILE
from abaw_emi.core.errors import EmiError, Problem, RunError
from abaw_emi.core.files import write_bytes
from abaw_emi.core.ids import unpack_ids
from abaw_emi.core.records import read_json
from abaw_emi.core.suggest import suggest_path
from abaw_emi.data.provenance import HELD_OUT
from abaw_emi.runs.resume import name_training

_DATA_FILE = "data.json"
REMOVED = ".removed"
"""What the hidden name of a run that is being removed ends with."""

LOG = "train.log"
"""The messages of a run that nobody watched, in its folder; there before the run itself is."""


class ValidRecord(TypedDict):
    """What a record or a line of metrics says of a validation."""

    mean_pearson: float
    pearson: dict[str, float | None]
    clipped_mean_pearson: NotRequired[float]


class _Record(TypedDict, total=False):
    """What is read of a run's record; an unfinished run has less of it."""

    preset: str | None
    seed: int | None
    fold: str | None
    train_plus_val: bool | None
    trained_on: list[str] | None
    trained_on_complete: bool | None
    best_epoch: int | None
    epochs: int | None
    valid: ValidRecord | None
    weights_sha256: str | None
    files_sha256: dict[Literal["config.json", "run.toml", "tokenizer.json"], str] | None
    precision: str | None
    backbone: dict[str, Any] | None
    licenses: dict[str, str | None] | None
    missing: dict[str, list[str]] | None


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, which may not exist yet."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def config_file(self) -> Path:
        """The resolved run."""
        return self.folder / RUN_FILE

    @property
    def weights_file(self) -> Path:
        """The model's weights."""
        return self.folder / "model.safetensors"

    @property
    def model_config_file(self) -> Path:
        """What rebuilds the model."""
        return self.folder / "config.json"

    @property
    def tokenizer_file(self) -> Path:
        """How the text encoder reads, where there is one."""
        return self.folder / "tokenizer.json"

    @property
    def preprocessor_file(self) -> Path:
        """How others prepare sound for the model, where it reads sound; see `preprocessor`."""
        return self.folder / "preprocessor_config.json"

    @property
    def card_file(self) -> Path:
        """The model card; see `card`."""
        return self.folder / "README.md"

    @property
    def metrics_file(self) -> Path:
        """A JSON line an epoch, and one every few steps."""
        return self.folder / "metrics.jsonl"

    @property
    def valid_predictions(self) -> Path:
        """The predictions for valid, where it was not trained on."""
        return self.folder / HELD_OUT

    @property
    def provenance_file(self) -> Path:
        """Where the run comes from."""
        return self.folder / "provenance.json"

    @property
    def log_file(self) -> Path:
        """Its messages, where nobody watched; there before the run itself is."""
        return self.folder / LOG

    @property
    def state_folder(self) -> Path:
        """What resuming needs."""
        return self.folder / "state"

    def read_config(self) -> RunConfig:
        """The resolved run; ConfigError where `run.toml` is missing or damaged."""
        return read_config(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Writes `run.toml`."""
        write_bytes(self.config_file, format_config(config).encode())

    def read_provenance(self) -> dict[str, Any]:
        """The run's record, empty where there is none yet.

        Raises:
            RunError: it is damaged.
        """
        if not self.provenance_file.is_file():
            return {}
        try:
            record: dict[str, Any] = read_json(self.provenance_file, _Record, "a run's record")
        except EmiError as error:
            raise RunError(error.problems) from None
        return record

    def write_data(self, record: dict[str, Any]) -> None:
        """Writes what the run is trained on, id by id, for as long as it is not done."""
        write_bytes(self.state_folder / _DATA_FILE, json.dumps(record).encode())

    def read_data(self) -> dict[str, Any] | None:
        """What `write_data` wrote; None where there is none, or it is damaged."""
        try:
            record: dict[str, Any] = from_json((self.state_folder / _DATA_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return record

    def write_provenance(self, record: dict[str, Any]) -> None:
        """Writes the run's record."""
        write_bytes(self.provenance_file, (json.dumps(record, indent=2) + "\n").encode())

    @property
    def finished(self) -> bool:
        """Whether the run is done and its weights can be used."""
        return bool(self.read_provenance().get("finished"))

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept; RunError where the record holds none."""
        best = self.read_provenance().get("best_epoch")
        if not best:
            raise RunError(Problem(str(self.folder), "its record holds no best epoch"))
        return int(best)

    @property
    def trained_on(self) -> frozenset[str] | None:
        """The ids that the run was trained on; None where its record does not say.

        Raises:
            RunError: the record is damaged.
        """
        ranges = self.read_provenance().get("trained_on")
        try:
            return None if ranges is None else frozenset(unpack_ids(ranges))
        except (ValueError, TypeError, AttributeError) as error:
            raise RunError(Problem(str(self.provenance_file), f"trained_on is damaged: {error}")) from error

    @property
    def trained_on_complete(self) -> bool:
        """Whether `trained_on` is all that the run has seen."""
        return self.trained_on is not None and bool(self.read_provenance().get("trained_on_complete", True))

    @property
    def failed_early(self) -> bool:
        """Whether messages are all that is there: it failed before it began, or is about to begin."""
        said = self.log_file.is_file() and self.log_file.stat().st_size > 0
        return said and holds_messages_only(self.folder)

    def drop_state(self) -> None:
        """Removes what only an unfinished run needs."""
        shutil.rmtree(self.state_folder, ignore_errors=True)

    def remove(self) -> None:
        """Removes the run folder, where it exists, with everything in it."""
        if self.folder.exists():
            # Out of sight in one step: a process killed on the way leaves no half of a run.
            aside = self.folder.with_name(f".{self.folder.name}{REMOVED}")
            shutil.rmtree(aside, ignore_errors=True)
            self.folder.rename(aside)
            shutil.rmtree(aside)


def find_runs(folder: Path) -> list[Run]:
    """The runs in a folder, by name, finished or not; what is hidden is none."""
    return [
        run
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and (run := Run(path)).config_file.is_file()
    ]


def find_run(path: Path) -> Run:
    """The finished run at `path`.

    Raises:
        RunError: `path` is missing, is no run folder, or the run is not finished.
    """
    run = Run(path)
    if not path.exists():
        step = suggest_path(path)
        raise RunError(Problem(str(path), "no such run", "a run folder, as abaw-emi train makes them", step))
    if not run.config_file.is_file():
        raise RunError(_explain_no_run(run))
    if not run.finished:
        step = f"leave it out, or finish it with: {name_training(run, run.read_config(), '--resume')}"
        raise RunError(Problem(str(path), "the run is not finished", next_step=step))
    if not run.weights_file.is_file():
        raise RunError(Problem(str(run.weights_file), "no such file", "the run's weights"))
    _ = run.trained_on  # a damaged record is reported now, not after hours of predicting
    return run


def _explain_no_run(run: Run) -> Problem:
    where = str(run.folder)
    if run.failed_early:
        step = f"see {run.log_file}, then delete the folder or leave it out"
        return Problem(where, "a run that failed before it began", next_step=step)
    step = f"did you mean {run.folder}/*?" if run.folder.is_dir() and find_runs(run.folder) else ""
    return Problem(where, "not a run folder (no run.toml)", "a folder made by abaw-emi train", step)


def holds_messages_only(folder: Path) -> bool:
    """Whether a folder holds nothing but messages, and what a killed process left of a first write."""
    return all(path.suffix == ".part" or path.name == LOG for path in folder.iterdir())


def check_absent(run: Run) -> None:
    """Passes where nothing is at the path of a run that is to be made whatever it is called.

    Raises:
        RunError: something is.
    """
    if run.folder.exists():
        raise RunError(Problem(str(run.folder), "already there", next_step="give --out another folder"))


def refuse_there(run: Run) -> Problem:
    """That a run that is to be made is there."""
    step = "continue it with --resume, or start again with --overwrite"
    return Problem(str(run.folder), "the run is already there", next_step=step)
