"""The weights that a run starts from: a backbone's, another run's, or (neither) random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import SAMPLE_RATE
from abaw_emi.core.errors import Problem, RunError, UsageError, WeightsError, collect_errors
from abaw_emi.core.progress import Reporter
from abaw_emi.inference.predict import load_run
from abaw_emi.models.branches import Branch
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.logmel import LogMelEncoder
from abaw_emi.models.encoders.lora import add_adapters
from abaw_emi.models.hub import Pretrained, find_backbone, find_text_encoder
from abaw_emi.models.load import check_tokens, load_part, load_tokenizer
from abaw_emi.models.weights import load_backbone, load_text, make_model
from abaw_emi.runs.run import Run, find_run
from abaw_emi.training.branch_weights import copy_branches

_SHOWN = 400
"""Characters that are printed of torch's list of weights that do not fit."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Where a run's first weights come from: published encoders, or a finished run.

    Attributes:
        backbone: a published speech encoder.
        text: a published text encoder.
        run: a finished run.
        branches: finished runs whose branches replace those of the above.
        tokenizer: of the text encoder, if the system has one.
    """

    backbone: Pretrained | None = None
    text: Pretrained | None = None
    run: Run | None = None
    branches: Sequence[Run] = ()
    tokenizer: Any = None

    @property
    def runs(self) -> list[Run]:
        """All runs that weights come from."""
        return [*([] if self.run is None else [self.run]), *self.branches]

    def prepare(self, model: EmiModel, examples: Sequence[Example], runtime: Runtime) -> None:
        """What is left to do before the first step: scales from the training examples, branches of runs.

        Args:
            model: as `make_model` made it, on the runtime's device.
            examples: to train on.
            runtime: what the run trains with.

        Raises:
            RunError: a run shares no branch with the model, or has other weights.
        """
        if self.run is None:
            fit_scales(model, examples, runtime.device)
        for run in self.branches:
            shared = copy_branches(model, run)
            runtime.reporter.say(f"{', '.join(shared)} from {run.folder}")

    def make_model(self, config: RunConfig, widths: Mapping[str, int], reporter: Reporter) -> EmiModel:
        """The model that a run of `config` starts with; new weights are drawn from the run's seed.

        Args:
            config: the run.
            widths: D of each of its feature folders.
            reporter: receives warnings about what the backbone is missing.

        Raises:
            EmiError: the weights cannot be read, or do not fit.
        """
        torch.manual_seed(config.training.seed)
        model = self._load(config, widths, reporter)
        tuning = config.model.tuning
        if tuning.lora_rank and model.encoder is not None:
            add_adapters(model.encoder, tuning)
            model.train(model.training)  # of the adapters, too, those below `train_layers` are frozen
        return model

    def _load(self, config: RunConfig, widths: Mapping[str, int], reporter: Reporter) -> EmiModel:
        if self.run is not None:
            return _continue_from(self.run, config, widths)
        model = make_model(config.model, self.backbone, widths, self.text)
        longest = None if model.encoder is None else model.encoder.max_samples
        if longest is not None and config.data.max_seconds * SAMPLE_RATE > longest:
            expected = f"at most {longest / SAMPLE_RATE:g}, which is what the encoder reads"
            raise UsageError(Problem("data.max_seconds", f"{config.data.max_seconds:g}", expected))
        if self.backbone is not None:
            reporter.warn(load_backbone(model, self.backbone))
        if self.text is not None:
            load_text(model, self.text)
        return model


def find_initial_weights(config: RunConfig) -> InitialWeights:
    """What runs of `config` start from.

    Raises:
        EmiError: there is no such backbone or finished run.
    """
    text = next((feature for feature in config.model.features if feature.backbone), None)
    branches = [find_run(Path(folder)) for folder in config.training.init_branches]
    if config.training.init_from:
        run = find_run(Path(config.training.init_from))
        tokenizer = None if text is None else load_tokenizer(run.folder)
        return InitialWeights(run=run, branches=branches, tokenizer=tokenizer)
    backbone = pretrained = tokenizer = None
    problems: list[Problem] = []
    with collect_errors(problems):
        if config.model.encoder == "pretrained":
            backbone = find_backbone(config.model.backbone, config.model.revision)
    with collect_errors(problems):
        if text is not None:
            pretrained = find_text_encoder(text.backbone, text.revision)
            tokenizer = load_part(AutoTokenizer, pretrained)
            check_tokens(tokenizer, pretrained, text.max_tokens)
    if problems:
        raise WeightsError(problems)
    return InitialWeights(backbone=backbone, text=pretrained, branches=branches, tokenizer=tokenizer)


def fit_scales(model: EmiModel, examples: Sequence[Example], device: torch.device) -> None:
    """Fits what standardises spectra and features to the training examples, before the first step.

    A published encoder is left as it is: its weights include their own normalisation.

    Args:
        model: on `device`.
        examples: to train on.
        device: where the model is.
    """
    if isinstance(model.encoder, LogMelEncoder):
        alone = (make_batch([example]).to(device) for example in examples)
        model.encoder.fit_scale(
            (batch.waveforms, batch.lengths) for batch in alone if batch.waveforms is not None
        )
    text = model.text_feature
    for name, branch in zip(model.widths, model.branches, strict=True):
        assert isinstance(branch, Branch)
        if text is not None and name == text.name:  # what is read are tokens
            continue
        branch.fit_scale(example.features[name].read() for example in examples if name in example.features)


def _continue_from(run: Run, config: RunConfig, widths: Mapping[str, int]) -> EmiModel:
    before = load_run(run, torch.device("cpu"))
    if before.parts.encoder != config.model.encoder:
        found = f"its encoder is {before.parts.encoder}"
        raise RunError(Problem(str(run.folder), found, f"{config.model.encoder}, as the run asks for"))
    settings = before.config
    model = EmiModel(
        EmiConfig.from_parts(config.model, settings.encoder_config, widths, settings.text_config)
    )
    try:
        model.load_state_dict(before.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        expected = "the [model] settings of its run.toml"
        raise RunError(Problem(str(run.folder), f"its weights do not fit: {reason}", expected)) from error
    return model
