"""The pretrained models that a plan will need: whether they can be had is known before hours of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain

from abaw_emi.config.pretrained import list_encoders
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, WeightsError, collect_errors
from abaw_emi.core.installation import FACES, require
from abaw_emi.features.faces import FACE_FOLDER
from abaw_emi.models.encoders.speech import SPEECH_ENCODERS
from abaw_emi.models.encoders.text import TEXT_ENCODERS
from abaw_emi.models.hub import find_pretrained
from abaw_emi.pipeline.prepare import Preparation


def find_missing_models(configs: Iterable[RunConfig], planned: Iterable[Preparation]) -> list[Problem]:
    """Each model that is neither here nor on the hub, once; of the hub's models only settings are fetched.

    Args:
        configs: of the presets that have something to train.
        planned: what is to be made of data before that.
    """
    find = partial(find_pretrained, needs_weights=False)
    todo = [each for each in planned if each.to_do]
    problems: list[Problem] = []
    if any(each.name == FACE_FOLDER for each in todo):
        with collect_errors(problems):
            require(FACES, "faces")
    models: dict[str, Callable[[str], object]] = {
        each.model: partial(find, option=f"--model {each.name}=") for each in todo if each.name != FACE_FOLDER
    }
    for encoder in chain.from_iterable(map(list_encoders, configs)):
        models[encoder.name] = partial(
            find,
            revision=encoder.revision,
            option=f"--set {encoder.key}=",
            model_types=SPEECH_ENCODERS if encoder.reads_sound else TEXT_ENCODERS,
        )
    for name, find_model in models.items():
        with collect_errors(problems):
            find_model(name)
    return problems


def check_models(configs: Iterable[RunConfig], planned: Iterable[Preparation]) -> None:
    """Raises a `WeightsError` that names all models of `find_missing_models`."""
    if problems := find_missing_models(configs, planned):
        raise WeightsError(problems)
