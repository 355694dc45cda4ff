"""From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission.

Importing this package loads the light wing's names on first use, and never torch.

Tables are polars frames (`read_labels`, `read_predictions`), or made like this:

>>> import numpy, polars
>>> from abaw_emi import EMOTIONS, compare, ensemble, score
>>> rng = numpy.random.default_rng(1)
>>> def table(values):
...     columns = dict(zip(EMOTIONS, values.T, strict=True))
...     return polars.DataFrame({"Filename": [f"{i:05}" for i in range(len(values))], **columns})
>>> truth = rng.random((200, 6))
>>> labels = table(truth)
>>> new, old = (table(truth + error * rng.standard_normal((200, 6))) for error in (0.3, 0.6))

Is the new one better than the old one, and what would both together be?

>>> found = score(labels, new, against={"old": old})
>>> round(found.mean_pearson, 3), found.against["old"].verdict
(0.696, 'better')
>>> compare(labels, {"old": old, "new": new}).beats("new")
('old',)
>>> both = ensemble({"new": new, "old": old}, "auto", labels=labels)
>>> score(labels, both, against={"new": new}).against["new"].verdict
'better'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abaw_emi.version import VERSION

if TYPE_CHECKING:
    from abaw_emi.challenge.checking import check_path, check_submission
    from abaw_emi.challenge.combining import ensemble, find_recipe
    from abaw_emi.challenge.comparing import compare
    from abaw_emi.challenge.correlation import mean_pearson, pearson
    from abaw_emi.challenge.doctor import diagnose
    from abaw_emi.challenge.facts import EMOTIONS
    from abaw_emi.challenge.grouping import read_groups
    from abaw_emi.challenge.ledger import read_ledger
    from abaw_emi.challenge.profiles import read_profile
    from abaw_emi.challenge.scoring import score
    from abaw_emi.challenge.submission import write_submission
    from abaw_emi.challenge.tables import read_labels, read_predictions, write_predictions


__version__ = VERSION

__all__ = [
    "EMOTIONS",
    "check_path",
    "check_submission",
    "compare",
    "diagnose",
    "ensemble",
    "find_recipe",
    "mean_pearson",
    "pearson",
    "read_groups",
    "read_labels",
    "read_ledger",
    "read_predictions",
    "read_profile",
    "score",
    "write_predictions",
    "write_submission",
]

_ROOMS = {
    "EMOTIONS": "facts",
    "check_path": "checking",
    "check_submission": "checking",
    "compare": "comparing",
    "diagnose": "doctor",
    "ensemble": "combining",
    "find_recipe": "combining",
    "mean_pearson": "correlation",
    "pearson": "correlation",
    "read_groups": "grouping",
    "read_labels": "tables",
    "read_ledger": "ledger",
    "read_predictions": "tables",
    "read_profile": "profiles",
    "score": "scoring",
    "write_predictions": "tables",
    "write_submission": "submission",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for, so that the command line starts at once."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'abaw_emi' has no attribute {name!r}")
    return getattr(import_module(f"abaw_emi.challenge.{_ROOMS[name]}"), name)
