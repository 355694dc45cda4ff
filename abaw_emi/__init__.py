"""From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission.

Importing this package loads the light wing's names on first use, and never torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abaw_emi.version import VERSION

if TYPE_CHECKING:
    from abaw_emi.challenge.checking import check_path
    from abaw_emi.challenge.ensembling import ensemble
    from abaw_emi.challenge.facts import EMOTIONS
    from abaw_emi.challenge.scoring import mean_pearson, pearson, score
    from abaw_emi.challenge.submission import write_submission
    from abaw_emi.challenge.tables import read_labels, read_predictions, write_predictions


__version__ = VERSION

__all__ = [
    "EMOTIONS",
    "check_path",
    "ensemble",
    "mean_pearson",
    "pearson",
    "read_labels",
    "read_predictions",
    "score",
    "write_predictions",
    "write_submission",
]

_ROOMS = {
    "EMOTIONS": "facts",
    "check_path": "checking",
    "ensemble": "ensembling",
    "mean_pearson": "scoring",
    "pearson": "scoring",
    "read_labels": "tables",
    "read_predictions": "tables",
    "score": "scoring",
    "write_predictions": "tables",
    "write_submission": "submission",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for, so that the command line starts at once."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'abaw_emi' has no attribute {name!r}")
    return getattr(import_module(f"abaw_emi.challenge.{_ROOMS[name]}"), name)
