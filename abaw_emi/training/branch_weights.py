"""Branches of a new model from finished runs: each modality is trained alone first, then all together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from abaw_emi.config.parts import SOUND
from abaw_emi.core.errors import Problem, RunError
from abaw_emi.inference.predict import load_run
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run

_SOUND_PARTS = ("encoder.", "vad_head.", "lstm.", "pooling.", "layer_weights")


def copy_branches(model: EmiModel, run: Run) -> list[str]:
    """Gives `model` the weights of every branch that it shares with `run`, but not of the head.

    Sound is shared if both have an encoder; a feature, if both have one of its name.

    Returns:
        The modalities whose weights were copied.

    Raises:
        RunError: they share none, or a branch has other weights there.
    """
    before = load_run(run, torch.device("cpu"))
    given = _list_branches(before)
    wanted = _list_branches(model)
    shared = [name for name in wanted if name in given]
    if not shared:
        expected = f"one of {', '.join(wanted)}"
        raise RunError(Problem(str(run.folder), f"its branches are {', '.join(given)}", expected))
    problems = []
    for name in shared:
        ours, theirs = wanted[name], given[name]
        odd = sorted(
            key
            for key in ours.keys() | theirs.keys()
            if key not in ours or key not in theirs or ours[key].shape != theirs[key].shape
        )
        if odd:
            found = f"its branch {name} has other weights: {', '.join(odd[:5])}"
            expected = "the settings of this branch in its run.toml"
            problems.append(Problem(str(run.folder), found, expected))
    if problems:
        raise RunError(problems)
    for name in shared:
        for key, value in wanted[name].items():
            value.copy_(given[name][key])  # the state dict shares the model's memory
    return shared


def _list_branches(model: EmiModel) -> dict[str, Mapping[str, Tensor]]:
    """The weights of each modality, by names that do not depend on its place among the others."""
    state = model.state_dict()
    found: dict[str, Mapping[str, Tensor]] = {}
    if model.encoder is not None:
        found[SOUND] = {
            key.replace(".base_layer.", "."): value  # new adapters add nothing to these yet
            for key, value in state.items()
            if key.startswith(_SOUND_PARTS) and ".lora_" not in key
        }
    text = model.text_feature
    for number, name in enumerate(model.widths):
        prefix = f"branches.{number}."
        weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if text is not None and name == text.name:
            weights |= {key: value for key, value in state.items() if key.startswith("text.")}
        found[name] = weights
    return found
