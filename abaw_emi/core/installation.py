"""What is installed: checks that the packages of an extra can be loaded, and the commit of this package."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from abaw_emi.core.errors import InstallationError, Problem, shorten_error

REPORT = ("matplotlib", "jinja2")
"""What the page needs, of the extra `report`."""

SOUND = ("av", "soxr", "platformdirs")
"""What decoding needs, of the extra `train`; without torch."""

_TRAIN = ("torch", "torchaudio", "transformers", "safetensors", "soundfile", "av", "soxr")


def check_installation() -> None:
    """Loads torch and torchaudio, which often do not fit each other.

    Raises:
        InstallationError: a package of the extra `train` is missing, or the two do not load together.
    """
    require(_TRAIN, "train")
    try:
        import torch  # noqa: F401
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise InstallationError(
            Problem(
                "installation",
                f"torch {version('torch')} and torchaudio {version('torchaudio')} do not load together "
                f"({shorten_error(error)})",
                "torch 2.11 to 2.14 with torchaudio 2.11, built for the same CUDA version",
                "pip install --force-reinstall 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'",
            )
        ) from error


def find_git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        output = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.stdout.strip()


def require(names: Iterable[str], extra: str) -> None:
    """Looks for packages that `extra` brings; InstallationError, with all that are missing."""
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        found, step = f"not installed: {', '.join(missing)}", f"pip install 'abaw-emi[{extra}]'"
        raise InstallationError(Problem("installation", found, next_step=step))


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
