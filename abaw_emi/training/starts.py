"""What a run starts from: a backbone's weights, another run's, or (neither) new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.progress import Reporter
from abaw_emi.inference.predict import load_model
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.weights import Backbone, find_backbone, load_backbone
from abaw_emi.runs.run import Run, find_run

_SHOWN = 400
"""Characters of torch's list of weights that do not fit: the first ones tell."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run's first weights come from; at most one of the two.

    Attributes:
        backbone: a wav2vec 2.0.
        run: a finished run.
    """

    backbone: Backbone | None
    run: Run | None

    def make_model(self, config: RunConfig, widths: Mapping[str, int], reporter: Reporter) -> EmiModel:
        """The model that a run of `config` starts with; what is new in it is drawn from the run's seed.

        Args:
            config: the run.
            widths: D of each of its feature folders.
            reporter: told what the backbone lacks.

        Raises:
            EmiError: the weights cannot be read, or do not fit.
        """
        torch.manual_seed(config.training.seed)
        if self.run is not None:
            return _go_on_from(self.run, config, widths)
        encoder_config = self.backbone.config if self.backbone else None
        model = EmiModel(EmiConfig.from_parts(config.model, encoder_config, widths))
        if self.backbone is not None:
            reporter.warn(load_backbone(model, self.backbone))
        return model


def find_start(config: RunConfig) -> Start:
    """What runs of `config` start from; EmiError where it is not to be had."""
    if config.training.init_from:
        return Start(backbone=None, run=find_run(Path(config.training.init_from)))
    if config.model.encoder != "wav2vec2":
        return Start(backbone=None, run=None)
    return Start(backbone=find_backbone(config.model.backbone, config.model.revision), run=None)


def _go_on_from(run: Run, config: RunConfig, widths: Mapping[str, int]) -> EmiModel:
    before = load_model(run, torch.device("cpu"))
    if before.config.encoder != config.model.encoder:
        found = f"its encoder is {before.config.encoder}"
        raise RunError(Problem(str(run.folder), found, f"{config.model.encoder}, as the run asks for"))
    model = EmiModel(EmiConfig.from_parts(config.model, before.config.encoder_config, widths))
    try:
        model.load_state_dict(before.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        expected = "the [model] settings of its run.toml"
        raise RunError(Problem(str(run.folder), f"its weights do not fit: {reason}", expected)) from error
    return model
