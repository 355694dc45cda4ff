"""Where pretrained models lie: in a folder, on the hub, or in its local cache where it is out of reach.

Nothing here loads torch, so that a mistyped name is answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, WeightsError, collect_errors, shorten_error, show_first
from abaw_emi.core.suggest import suggest_path

BACKBONE, TEXT_BACKBONE = "--backbone", "model.features.N.backbone"
"""What names the encoders of a run, for messages."""

_CONFIG = "config.json"

_SHOWN = 5
"""Models beside a missing one that a message names."""


def is_here(name: str, revision: str = "main") -> bool:
    """Whether `name` is a folder, or the hub's local cache has the config of a model of this id."""
    if Path(name).is_dir():
        return True
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return False
    try:
        return isinstance(try_to_load_from_cache(name, _CONFIG, revision=revision), str)
    except HFValidationError:
        return False


def check_pretrained(name: str, revision: str, option: str) -> None:
    """Passes if there is such a model: here, or on the hub, from where its config alone is fetched.

    Args:
        name: a folder, or a hub id.
        revision: of the model on the hub.
        option: what takes a folder too, for messages.

    Raises:
        WeightsError: there is none, or a folder is not one.
    """
    if Path(name).is_dir():
        _check_folder(Path(name))
    elif not is_here(name, revision):
        find_folder(name, revision, [_CONFIG], option)


class Encoder(NamedTuple):
    """A pretrained encoder that runs start from: its name, its revision, and the key that has its name."""

    name: str
    revision: str
    key: str

    @property
    def reads_sound(self) -> bool:
        """Whether it is a speech encoder, and not one of text."""
        return self.key == "model.backbone"


def list_encoders(config: RunConfig) -> list[Encoder]:
    """The pretrained encoders that runs of `config` start from; a run that they continue holds its own."""
    if config.training.init_from:
        return []
    model = config.model
    speech = [Encoder(model.backbone, model.revision, "model.backbone")]
    return [
        *(speech if model.encoder == "pretrained" else ()),
        *(
            Encoder(feature.backbone, feature.revision, f"model.features.{feature.name}.backbone")
            for feature in model.features
            if feature.backbone
        ),
    ]


def check_encoders(config: RunConfig) -> None:
    """Passes if the pretrained encoders that runs of `config` start from can be had.

    Raises:
        WeightsError: they cannot; all of them together.
    """
    problems: list[Problem] = []
    for encoder in list_encoders(config):
        with collect_errors(problems):
            option = BACKBONE if encoder.reads_sound else TEXT_BACKBONE
            check_pretrained(encoder.name, encoder.revision, option)
    if problems:
        raise WeightsError(problems)


def find_folder(name: str, revision: str, files: Sequence[str], option: str) -> tuple[Path, str | None]:
    """The folder of a model, and the hub's commit (None for a plain folder).

    Of the hub, the files of these name patterns are fetched, and none of a subfolder.

    Raises:
        WeightsError: there is no such model, or the folder has no config.
    """
    if Path(name).is_dir():
        _check_folder(Path(name))
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
        found = "neither a folder nor a hub id"
        raise WeightsError(Problem(name, found, "such as owner/name", _suggest_folder(name))) from error
    except (OSError, ValueError) as error:
        reason = silence or shorten_error(error)
        found = f"revision {revision!r} is neither in the hub's local cache nor to be fetched: {reason}"
        step = f"where there is a network: {_fetch(name, revision)}; or give {option} a folder"
        if Path(name).parts[1:] and Path(Path(name).parts[0]).is_dir():
            found, step = f"no such folder, and {found}", _suggest_folder(name) or step
        raise WeightsError(Problem(name, found, next_step=step)) from error
    return Path(folder), Path(folder).name


def _check_folder(folder: Path) -> None:
    """Passes if the folder has the config of a model; a WeightsError names folders in it that have one."""
    if not (folder / _CONFIG).is_file():
        step = _suggest_inside(folder)
        raise WeightsError(Problem(str(folder), f"a folder without {_CONFIG}", "that of a model", step))


def _suggest_folder(name: str) -> str:
    """The folder that a name without one may mean: nearly of this name, or a model beside; "" for none."""
    above = Path(name).parent
    return suggest_path(Path(name)) or (_suggest_inside(above) if above != Path() else "")


def _suggest_inside(folder: Path) -> str:
    """A question that names the models in a folder; "" where there is none."""
    found = [str(path.parent) for path in sorted(folder.glob(f"*/{_CONFIG}"))]
    return f"did you mean {show_first(found, _SHOWN)}?" if found else ""


def _fetch(name: str, revision: str) -> str:
    """The command that fetches a model."""
    return f"hf download {name}" + ("" if revision == "main" else f" --revision {revision}")


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
