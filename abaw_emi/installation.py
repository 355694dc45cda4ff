"""Whether the heavy wing can be loaded here, said before a traceback says it worse."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from abaw_emi.errors import InstallationError, Problem

_REQUIRED = ("torch", "torchaudio", "transformers", "safetensors", "soundfile", "av", "soxr")


def check_installation() -> None:
    """Loads torch and torchaudio, the pair that breaks.

    Raises:
        InstallationError: a package of the extra `train` is missing, or the two do not fit each other.
    """
    missing = []
    for name in _REQUIRED:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise InstallationError(
            Problem(
                "installation",
                f"not installed: {', '.join(missing)}",
                next_step="pip install 'abaw-emi[train]'",
            )
        )
    try:
        import torch  # noqa: F401
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InstallationError(
            Problem(
                "installation",
                f"torch {version('torch')} and torchaudio {version('torchaudio')} do not load together "
                f"({reason})",
                "torch 2.11 to 2.14 with torchaudio 2.11, built for the same CUDA version",
                "pip install --force-reinstall 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'",
            )
        ) from error
