"""Every option of a run: what is trained, on what, and how.

A `RunConfig` says WHAT a run is; where things lie is said by command-line options. It is read from TOML
(`config.read`) or taken from `presets`, changed by `--set KEY=VALUE`, checked once, and travels with the run
as `run.toml`. Sizes of the model follow from the backbone's own config.

Sources of the defaults: PAPER and CODE (see `core.constants`). Where the paper is silent the released
code's value stands, and the comment says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from abaw_emi.config.losses import parse_loss
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import (
    STRICT,
    AugmentationConfig,
    Count,
    Fraction,
    Size,
)
from abaw_emi.core.constants import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE, Precision
from abaw_emi.data.folds import parse_fold


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How much of a clip is read."""

    __pydantic_config__ = STRICT

    max_seconds: Annotated[float, Field(ge=MIN_SAMPLES / SAMPLE_RATE, strict=True)] = MAX_SECONDS
    """A clip is cut to its first seconds."""

    max_frames: Count = 600
    """Its features are cut to their first frames, where `model.features.N.max_frames` says nothing else: 12 s
    of the supplied wav2vec2 features, 100 s of faces."""

    fold: str = ""
    """ "k/K" holds the k-th of K parts of the training clips out, and validates on it; `--fold` sets it."""

    def __post_init__(self) -> None:
        if self.fold:
            parse_fold(self.fold)


ClipWeights = Literal["equal", "sqrt-raters"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the weights are found."""

    __pydantic_config__ = STRICT

    epochs: Count = 30
    """Passes over the training clips (PAPER, section 4)."""

    schedule: Literal["cosine", "plateau"] = "cosine"
    """How the learning rate falls after the warm-up: as a cosine (PAPER, section 4), or by a factor each time
    that validation stops getting better (Yu et al., arXiv 2403.11757: torch's ReduceLROnPlateau)."""

    plateau_epochs: Size = 10
    """Epochs in a row without a better validation mean Pearson that "plateau" lets pass (Yu et al.: 10)."""

    plateau_factor: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.5
    """What "plateau" multiplies the learning rate by (Yu et al.: .5)."""

    plateau_rate: Annotated[float, Field(ge=0, strict=True)] = 1e-5
    """Learning rate below which "plateau" does not go (Yu et al.: 1e-5)."""

    schedule_epochs: Size = 0
    """Epochs that the cosine is laid out for, if training is to stop before its end; 0 for `epochs`."""

    batch_size: Count = 32
    """Clips per step (PAPER, section 4)."""

    batch_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Seconds per step, padding included, instead of `batch_size` clips: batches of clips of similar
    length, as many as fit. 0 for the paper's random batches."""

    group_size: Size = 0
    """Clips run side by side: a batch, sorted by length, is split into groups whose gradients add up to
    the batch's own, whatever the loss. Less padding and memory; the batches stay random. 0 for 16 on a GPU,
    which waits for its next work with fewer, and 8 elsewhere."""

    loss: str = "mse"
    """What is made small: mse (PAPER, section 4), smooth-l1, ccc, pearson, or a sum: "mse+0.5*pearson"; for
    a model with fusion.gate also gate, such as "0.3*gate+0.2*mse+0.5*pearson" (the winner of 2026)."""

    loss_beta: Annotated[float, Field(gt=0, strict=True)] = 1.0
    """Error at which smooth-l1 goes over from squared to absolute (Girshick, arXiv 1504.08083: 1)."""

    clip_weights: ClipWeights = "equal"
    """Weights of clips in mse, smooth-l1 and gate: equal, or by the square root of the number of raters,
    which the labels' denominators tell (an option of the winner of 2026, off there)."""

    auxiliary_loss: Literal["smooth-l1", "mse"] = "smooth-l1"
    """What heads of single modalities make small, times their auxiliary_weight (smooth-l1: Huang et al.,
    arXiv 2603.13760)."""

    ramp_epochs: Size = 0
    """Epochs N over which terms after the loss's first come in, times min(1, epoch / N); 0 for at once."""

    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW (CODE), or Adam, whose weight decay is added to the gradient (Yu et al., arXiv 2403.11757)."""

    learning_rate: Annotated[float, Field(gt=0, strict=True)] = 1e-4
    """Peak learning rate (PAPER, section 4; the optimiser from CODE)."""

    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.01
    """Weight decay, on all parameters (CODE: the default of AdamW)."""

    warmup_epochs: Annotated[float, Field(ge=0, strict=True)] = 1.0
    """Epochs of linear warm-up before the cosine, counted in steps (CODE; the paper says only cosine)."""

    patience: Size = 5
    """Epochs without a better validation mean Pearson before training stops; 0 for never. The paper stops
    early and gives no number: 5 is ours. CODE never stops early."""

    clip_grad_value: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Each gradient element is clipped to this size; 0 for never (CODE: 100, practically inert)."""

    clip_grad_norm: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """The gradient of a step is scaled down to this length; 0 for never."""

    ema_decay: Fraction = 0.0
    """Validate and keep an exponential average of the weights with this decay a step; 0 for the weights."""

    layer_decay: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Each layer of the encoder learns at this times the rate of the layer above it."""

    precision: Precision = "auto"
    """Arithmetic of the model (CODE: fp16 with a loss scaler); "auto" is bf16 on a GPU that has it, else
    fp32."""

    seed: Size = 1
    """Seed of the new weights, the batches and the dropouts (CODE: 1)."""

    encoder_rate: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Share of `learning_rate` at which the speech encoder and its VAD head learn."""

    init_from: str = ""
    """A finished run whose weights to start from; `--init-from` sets it."""

    init_branches: tuple[str, ...] = ()
    """Finished runs whose branches to start from: sound, and features by their names, without the heads; so
    each modality is trained alone first."""

    deterministic: bool = False
    """Whether a GPU uses exactly repeatable operations only, which are slower; `--deterministic` sets it."""

    compile: bool = False
    """Whether torch.compile fuses the encoder's operations."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How training clips are varied; not at all in the paper."""

    def __post_init__(self) -> None:
        parse_loss(self.loss)
        if self.ramp_epochs and len(parse_loss(self.loss)) == 1:
            raise ValueError(f"ramp_epochs is for a loss of several terms, not {self.loss!r}")
        if 0 < self.schedule_epochs < self.epochs:
            raise ValueError(f"schedule_epochs {self.schedule_epochs} is less than epochs {self.epochs}")
        if self.schedule_epochs and self.schedule == "plateau":
            raise ValueError(
                f'schedule_epochs {self.schedule_epochs} lays out a cosine, and schedule is "plateau"'
            )

    @property
    def cosine_epochs(self) -> int:
        """Epochs after which the learning rate is 0."""
        return self.schedule_epochs or self.epochs


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A run, whole: the tables `[data]`, `[model]` and `[training]` of `run.toml`."""

    __pydantic_config__ = STRICT

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.model.tuning.keep_lower and self.training.augmentation.active:
            raise ValueError(
                "model.tuning.keep_lower keeps what the encoder makes of each clip: training.augmentation, "
                "which varies clips, is for runs without it"
            )
        names = [name for _, name in parse_loss(self.training.loss)]
        if "gate" in names and not self.model.fusion.gate:
            raise ValueError(f"loss {self.training.loss!r} needs a gate: set model.fusion.gate = true")
        if names == ["gate"]:
            raise ValueError("loss 'gate' trains no intensities; expected a sum, such as 'mse+0.3*gate'")
