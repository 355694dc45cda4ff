"""From the official data of the ABAW Emotional Mimicry Intensity challenge to a checked submission.

Importing this package loads public names on first use; only `load`, `EmiConfig` and `EmiModel` need torch.
From then on, transformers' AutoConfig and AutoModel read run folders, imported before or after it.

Tables are CSV files, or frames of polars or pandas, such as these:

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

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

from abaw_emi.core.constants import VERSION
from abaw_emi.core.installation import stand_in

if TYPE_CHECKING:
    from abaw_emi.core.constants import EMOTIONS
    from abaw_emi.data.folder import read_test_ids
    from abaw_emi.data.frames import write_predictions
    from abaw_emi.data.groups import read_groups
    from abaw_emi.data.tables import read_labels, read_predictions
    from abaw_emi.ensembling.combine import ensemble, find_recipe
    from abaw_emi.evaluation.compare import compare
    from abaw_emi.evaluation.diagnostics import diagnose
    from abaw_emi.evaluation.pearson import mean_pearson, pearson
    from abaw_emi.evaluation.score import score
    from abaw_emi.inference.predictor import load
    from abaw_emi.models.config import EmiConfig
    from abaw_emi.models.emi import EmiModel
    from abaw_emi.submission.check import check_path, check_submission
    from abaw_emi.submission.format import read_profile
    from abaw_emi.submission.ledger import read_ledger
    from abaw_emi.submission.write import write_submission


__version__ = VERSION

__all__ = [
    "EMOTIONS",
    "EmiConfig",
    "EmiModel",
    "check_path",
    "check_submission",
    "compare",
    "diagnose",
    "ensemble",
    "find_recipe",
    "load",
    "mean_pearson",
    "pearson",
    "read_groups",
    "read_labels",
    "read_ledger",
    "read_predictions",
    "read_profile",
    "read_test_ids",
    "score",
    "write_predictions",
    "write_submission",
]

_MODULES = {
    "EMOTIONS": "core.constants",
    "EmiConfig": "models.config",
    "EmiModel": "models.emi",
    "check_path": "submission.check",
    "check_submission": "submission.check",
    "compare": "evaluation.compare",
    "diagnose": "evaluation.diagnostics",
    "ensemble": "ensembling.combine",
    "find_recipe": "ensembling.combine",
    "load": "inference.predictor",
    "mean_pearson": "evaluation.pearson",
    "pearson": "evaluation.pearson",
    "read_groups": "data.groups",
    "read_labels": "data.tables",
    "read_ledger": "submission.ledger",
    "read_predictions": "data.tables",
    "read_profile": "submission.format",
    "read_test_ids": "data.folder",
    "score": "evaluation.score",
    "write_predictions": "data.frames",
    "write_submission": "submission.write",
}


@when_imported("transformers.models.auto.configuration_auto")
def _register_config(_: Any) -> None:
    """Lets AutoConfig read run folders."""
    with suppress(ImportError):  # without torch, of which `load` speaks
        import_module("abaw_emi.models.config")


@when_imported("transformers.models.auto.modeling_auto")
def _register_model(_: Any) -> None:
    """Lets AutoModel read run folders."""
    with suppress(ImportError):
        import_module("abaw_emi.models.emi")


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first asked for, so that the command line starts at once."""
    if name not in _MODULES:
        raise AttributeError(f"module 'abaw_emi' has no attribute {name!r}")
    try:
        return getattr(import_module(f"abaw_emi.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        return stand_in(name, error)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted([*__all__, "__version__"])
