"""The parts of a run's configuration: features, fusion, the small encoder, augmentation. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from abaw_emi.core.constants import MIN_SAMPLES

SOUND = "sound"
"""The name of the modality that the sound encoder reads; feature modalities have their folder's name."""

STRICT = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False, use_attribute_docstrings=True)
"""Of every part: pydantic would ignore unknown keys."""


def _check_bits(value: int) -> int:
    if value >= 2**63:
        raise ValueError("an integer of more than 64 bits, which TOML does not have")
    return value


Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True), AfterValidator(_check_bits)]
Weight = Annotated[float, Field(ge=0, strict=True)]
Size = Annotated[int, Field(ge=0, strict=True), AfterValidator(_check_bits)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """One feature folder, and the branch that makes a vector of a clip's frames."""

    __pydantic_config__ = STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The folder: `vit`, `wav2vec2`, or one that `abaw-emi extract` made."""

    max_frames: Size = 0
    """Frames that are read of a clip, the first ones; 0 for `data.max_frames`."""

    resample: Size = 0
    """Frames that each clip is brought to by linear interpolation, from its first frame to its last that is
    read; 0 for its own. Ours."""

    temporal: tuple[Literal["gru", "lstm", "tcn", "transformer"], ...] = ()
    """What runs over the frames, one after the other; nothing for the frames themselves."""

    pooling: Literal[
        "mean", "first", "last", "mean+last", "statistics", "attention", "attentive-statistics"
    ] = "mean"
    """How frames become a vector; "mean+last" stands for both, side by side, and "statistics" for mean,
    standard deviation, least and greatest. "attention" is the mean weighted by the softmax of a linear score
    of each frame, "attentive-statistics" the weighted standard deviation beside it (Okabe et al., 2018)."""

    hidden_size: Size = 0
    """Width of what runs over the frames; 0 for the features' own."""

    layers: Count = 1
    """Layers of a recurrent network, or convolutions of a TCN."""

    bidirectional: bool = False
    """Whether recurrent networks run in both directions (Schuster and Paliwal, 1997), each `hidden_size`
    wide; the last state is then that of each direction, backwards the one at the first frame."""

    projection: Size = 0
    """Width of a dense layer with layer normalisation and GELU before `temporal`; 0 for none. Ours, after
    the projections of published systems."""

    projection_norm: Literal["first", "last"] = "last"
    """Whether that normalisation comes before the dense layer, or between it and GELU."""

    transformer_layers: Count = 2
    """Layers of a transformer."""

    heads: Count = 4
    """Attention heads of a transformer."""

    kernel: Count = 3
    """Frames that a convolution of a TCN sees; odd."""

    dropout: Fraction = 0.0
    """Share of the values that each layer of `temporal` forgets while training."""

    backbone: str = ""
    """Hub id or folder of a text encoder that is part of the model and reads the transcripts in `text/`; ""
    for the features of the folder `name`."""

    revision: Annotated[str, Field(min_length=1)] = "main"
    """Commit, tag or branch of this encoder on the hub."""

    freeze: bool = False
    """Whether this encoder stays as it is."""

    max_tokens: Count = 128
    """Tokens that it reads of a transcript (the winners of 2025 and 2026: 128)."""

    rate: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    """Share of `training.learning_rate` at which the branch learns, its encoder included."""

    auxiliary_weight: Weight = 0.0
    """Weight of the loss of a head of its own (`training.auxiliary_loss`), beside that of the fused one; 0
    for no such head (deep supervision, Lee et al., arXiv 1409.5185)."""

    def __post_init__(self) -> None:
        if self.name == SOUND:
            raise ValueError(f"{SOUND!r} is what the encoder reads; expected a feature folder's name")
        if self.backbone and (self.max_frames or self.resample):
            raise ValueError("max_frames and resample are for features; a text encoder has max_tokens")
        if self.resample == 1:
            raise ValueError('resample 1 leaves one frame; expected at least 2, or pooling "mean"')
        if self.freeze and not self.backbone:
            raise ValueError("freeze is for a branch with a text encoder (backbone)")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; expected an odd number of frames")
        if self.bidirectional and not {"gru", "lstm"} & {*self.temporal}:
            raise ValueError("bidirectional is for a branch with gru or lstm in temporal")
        if "transformer" in self.temporal and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.heads} heads")


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionConfig:
    """How the vectors of a clip's modalities become six intensities."""

    __pydantic_config__ = STRICT

    kind: Literal["concatenate", "mean", "text-anchored"] = "concatenate"
    """One head on all vectors side by side, a learned vector in place of each that is missing; or the
    mean of the intensities that a head for each modality gives, over those that are there; or the vector of
    `anchor` beside what it finds, by cross-attention, in the frames of each other modality."""

    anchor: str = "text"
    """The modality that looks at the others, with "text-anchored"."""

    attention_size: Count = 512
    """Width of the cross-attention (the winner of 2026: 512)."""

    attention_heads: Count = 4
    """Heads of the cross-attention (the winner of 2026: 4)."""

    attention_dropout: Fraction = 0.1
    """Dropout of the attention's weights and of the head, with "text-anchored" (the winner of 2026: .1)."""

    head_size: Size = 0
    """Width of the regression head's dense layer; 0 for that of its input, or of the attention."""

    head_activation: Literal["tanh", "gelu"] = "tanh"
    """What follows the head's dense layer: tanh (CODE), or GELU (Hendrycks and Gimpel, arXiv 1606.08415)."""

    head_norm: bool = False
    """Whether the head begins with layer normalisation (Ba et al., arXiv 1607.06450)."""

    head_dropout: Fraction = 0.0
    """Dropout before the head's last projection (Srivastava et al., 2014)."""

    head_output: Literal["linear", "sigmoid"] = "linear"
    """Whether intensities are unbounded (CODE), or kept in (0, 1) by a sigmoid (Savchenko, arXiv 2403.11590;
    Yu et al., arXiv 2403.11757)."""

    gate: bool = False
    """Whether each intensity is multiplied by a sigmoid that says whether it is more than 0 at all, as most
    are not; the loss "gate" trains it for that (GateIntensityLoss of the winner of 2026, off there)."""

    modality_dropout: Fraction = 0.0
    """Probability that training leaves a modality of a clip out for a step; one always remains."""

    one_at_a_time: bool = False
    """Whether each step trains one modality of each clip, drawn at random: with "mean", predictors that know
    nothing of each other until they are averaged."""

    def __post_init__(self) -> None:
        if self.one_at_a_time and self.modality_dropout:
            raise ValueError("one_at_a_time leaves all modalities but one out already: modality_dropout is 0")
        plain = (self.head_activation, self.head_norm, self.head_dropout, self.head_output)
        if self.kind == "text-anchored" and plain != ("tanh", False, 0.0, "linear"):
            raise ValueError(
                "text-anchored fusion has a head of its own: head_activation and so on are unset"
            )
        if self.gate and self.kind == "mean":
            raise ValueError('gate is for fusion with one head, not for kind "mean"')
        if self.attention_size % self.attention_heads:
            raise ValueError(
                f"attention_size {self.attention_size} is no multiple of {self.attention_heads} heads"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMelConfig:
    """The small encoder on log-mel spectrograms, for CPUs and the demo; not from the paper."""

    __pydantic_config__ = STRICT

    n_mels: Count = 64
    """Mel bands from 0 to 8 kHz."""

    window: Annotated[int, Field(ge=MIN_SAMPLES, multiple_of=2, strict=True)] = 512
    """Samples per spectrum."""

    hidden_size: Count = 48
    """Width of the hidden states, H."""

    layers: Size = 2
    """Residual convolutions after the first one."""

    kernel: Count = 5
    """Frames that a convolution sees; odd."""

    dropout: Fraction = 0.3
    """Share of the values that each convolution's output forgets while training."""

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; expected an odd number of frames")


_Decibels = Annotated[float, Field(ge=-100, le=100, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How training clips are varied; by default not at all, as in the paper and its code."""

    __pydantic_config__ = STRICT

    speed: tuple[Annotated[float, Field(ge=0.5, le=2, strict=True)], ...] = ()
    """Factors of which each clip draws one, such as [0.9, 1.0, 1.1]; pitch goes with speed. Whole
    hundredths; none for the clip's own speed."""

    noise_probability: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    """Share of the clips that get white noise."""

    noise_snr_db: tuple[_Decibels, _Decibels] = (10.0, 30.0)
    """Lowest and highest signal-to-noise ratio of such a clip, in dB."""

    gain_db: Annotated[float, Field(ge=0, le=40, strict=True)] = 0.0
    """Most by which the normalised clip is made louder or softer, in dB."""

    time_mask_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Longest span of a clip that is silenced, never more than half of the clip."""

    def __post_init__(self) -> None:
        for factor in self.speed:
            # torchaudio resamples 12 s by 110 to 100 in 4 ms, and by 1003 to 1000 in 19 s.
            if not math.isclose(100 * factor, round(100 * factor)):
                raise ValueError(f"speed {factor} is not a whole hundredth, such as 0.9 or 1.05")
        low, high = self.noise_snr_db
        if low > high:
            raise ValueError(f"noise_snr_db [{low}, {high}] runs from high to low")

    @property
    def active(self) -> bool:
        """Whether any clip is varied."""
        return (
            any(factor != 1 for factor in self.speed)
            or self.noise_probability > 0
            or self.gain_db > 0
            or self.time_mask_seconds > 0
        )
