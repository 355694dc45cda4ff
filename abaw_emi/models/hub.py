"""Model folders, on disk or from the hub; the hub's local cache stands in where the hub is out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abaw_emi.core.errors import Problem, WeightsError


def find_model(name: str, revision: str, files: Sequence[str], option: str) -> tuple[Path, str | None]:
    """The folder of the model at folder or hub id `name`, and the hub's commit (None for a plain folder).

    Args:
        name: as the user wrote it.
        revision: of the model on the hub; a plain folder has none.
        files: name patterns of what is fetched; never of a subfolder.
        option: what takes a folder too, such as "--backbone".

    Raises:
        WeightsError: there is no such model.
    """
    if Path(name).is_dir():
        return Path(name), None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]
        )
    except HFValidationError as error:
        raise WeightsError(Problem(name, "neither a folder nor a hub id", "such as owner/name")) from error
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            Problem(
                name,
                f"revision {revision!r} is neither in the hub's local cache nor to be had: {reason}",
                next_step=f"fetch it where there is a network (hf download), or give {option} a folder",
            )
        ) from error
    return Path(folder), Path(folder).name
