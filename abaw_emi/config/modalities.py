"""What a system may read beside the sound or in its place, and how all that is fused. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

SOUND = "sound"
"""The name of the modality that the encoder hears; feature modalities have their folder's name."""

_STRICT = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
_Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]
_Count = Annotated[int, Field(ge=1, strict=True)]
_Size = Annotated[int, Field(ge=0, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """One feature folder, and the branch that makes a vector of a clip's frames."""

    __pydantic_config__ = _STRICT

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The folder: `vit`, `wav2vec2`, or one that `abaw-emi extract` made."""

    temporal: tuple[Literal["gru", "lstm", "tcn", "transformer"], ...] = ()
    """What runs over the frames, one after the other; nothing for the frames themselves."""

    pooling: Literal["mean", "first", "last", "mean+last", "statistics"] = "mean"
    """How frames become a vector; "mean+last" stands for both, side by side, and "statistics" for mean,
    standard deviation, least and greatest."""

    hidden_size: _Size = 0
    """Width of what runs over the frames; 0 for the features' own."""

    layers: _Count = 1
    """Layers of a recurrent network, or convolutions of a TCN."""

    transformer_layers: _Count = 2
    """Layers of a transformer."""

    heads: _Count = 4
    """Attention heads of a transformer."""

    kernel: _Count = 3
    """Frames that a convolution of a TCN sees; odd."""

    dropout: _Fraction = 0.0
    """Share of the values that each layer of `temporal` forgets while training."""

    def __post_init__(self) -> None:
        if self.name == SOUND:
            raise ValueError(f"{SOUND!r} is what the encoder hears; expected a feature folder's name")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; expected an odd number of frames")
        if "transformer" in self.temporal and self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.heads} heads")


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionConfig:
    """How the vectors of a clip's modalities become six intensities."""

    __pydantic_config__ = _STRICT

    kind: Literal["concatenate", "mean"] = "concatenate"
    """One head on all vectors side by side, a learned vector standing for each that a clip lacks; or the
    mean of the intensities that a head for each modality gives, over those that the clip has."""

    head_size: _Size = 0
    """Width of the regression head's dense layer; 0 for that of its input."""

    modality_dropout: _Fraction = 0.0
    """Probability that training leaves a modality of a clip out for a step; one always remains."""

    one_at_a_time: bool = False
    """Whether each step trains one modality of each clip, drawn at random: with "mean", predictors that know
    nothing of each other until they are averaged."""

    def __post_init__(self) -> None:
        if self.one_at_a_time and self.modality_dropout:
            raise ValueError("one_at_a_time leaves all modalities but one out already: modality_dropout is 0")
