"""The parts of the model that a run trains, and which of them go together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from abaw_emi.config.parts import (
    SOUND,
    STRICT,
    Count,
    FeatureConfig,
    Fraction,
    FusionConfig,
    LogMelConfig,
    Weight,
)
from abaw_emi.config.tuning import TuningConfig

_Encoder = Annotated[
    Literal["pretrained", "logmel", "none"],
    # Of before other encoders than wav2vec 2.0 could be trained.
    BeforeValidator(lambda value: "pretrained" if value == "wav2vec2" else value),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The parts of the model; with the four switches the rows of PAPER, Table 2 are a matter of config."""

    __pydantic_config__ = STRICT

    encoder: _Encoder = "pretrained"
    """Frames from a published speech encoder (`backbone`), from the small log-mel encoder, or no sound."""

    backbone: Annotated[str, Field(min_length=1)] = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    """Hub id or folder of the encoder to start from (PAPER, section 4): a wav2vec 2.0, HuBERT, UniSpeech,
    WavLM, data2vec, wav2vec2-BERT or Whisper; `--backbone` sets it."""

    revision: Annotated[str, Field(min_length=1)] = "main"
    """Commit, tag or branch of a backbone on the hub; `--revision` sets it."""

    freeze_encoder: bool = False
    """Whether the encoder and its VAD head stay as they are (PAPER, Table 1, "frozen")."""

    freeze_extractor: bool = False
    """Whether the encoder's convolutions stay as they are, as those who made the backbone left them; a
    third of the work and most of the memory of a step less."""

    layer_weights: bool = False
    """Whether frames are a weighted sum of what goes into the first layer and what comes out of each, in
    place of what comes out of the last (SUPERB, Yang et al., arXiv 2105.01051): the weights are a learned
    softmax, all equal at first. Without vad_head, which reads the last layer."""

    vad_head: bool = True
    """Whether valence, arousal and dominance, predicted for each frame, join the frame."""

    global_vector: bool = True
    """Whether the mean of the frames is used."""

    pooling: Literal["mean", "attention", "attentive-statistics"] = "mean"
    """What the global vector is: the mean (PAPER), or the mean weighted by the softmax of a linear score of
    each frame, or the weighted standard deviation beside that (Okabe et al., 2018)."""

    lstm: bool = True
    """Whether the last state of an LSTM over the frames is used."""

    regression_head: bool = True
    """Whether dense and tanh come before the projection to the six intensities."""

    lstm_layers: Count = 2
    """Layers of the LSTM (CODE; the paper does not say)."""

    lstm_dropout: Fraction = 0.0
    """Dropout between the LSTM's layers (PAPER, Table 1: none, and 0.1 in a variant; CODE: none)."""

    pad_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Clips are zero-padded to this length, and no mask separates the padding from sound (PAPER, section 6,
    "zero padding"); 0 for masked padding, which changes nothing."""

    auxiliary_weight: Weight = 0.0
    """Weight of the loss of a head on the sound alone, as `features.N.auxiliary_weight`; 0 for none."""

    features: tuple[FeatureConfig, ...] = ()
    """Feature folders that are read, too."""

    tuning: TuningConfig = field(default_factory=TuningConfig)
    """How a pretrained encoder is trained."""

    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How sound and features come together."""

    logmel: LogMelConfig = field(default_factory=LogMelConfig)
    """Sizes of the log-mel encoder; without effect for a pretrained one."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs: "sound", and names of feature folders."""
        sound = (SOUND,) if self.encoder != "none" else ()
        return (*sound, *(feature.name for feature in self.features))

    def __post_init__(self) -> None:
        if conflicts := [message for check in _CHECKS for message in check(self)]:
            raise ValueError("; ".join(conflicts))

    @property
    def auxiliary_weights(self) -> list[float]:
        """Of each modality that is read: sound first, then the features."""
        sound = [] if self.encoder == "none" else [self.auxiliary_weight]
        return [*sound, *(feature.auxiliary_weight for feature in self.features)]


def _check_features(model: ModelConfig) -> Iterator[str]:
    names = [feature.name for feature in model.features]
    if len(names) > len(set(names)):
        yield f"features {', '.join(names)}: a folder comes twice"
    if model.encoder == "none" and not model.features:
        yield 'encoder is "none" and there are no features: nothing is left to predict from'
    if sum(bool(feature.backbone) for feature in model.features) > 1:
        yield "features: two of them have a backbone; expected one text encoder at most"


def _check_fusion(model: ModelConfig) -> Iterator[str]:
    names = [feature.name for feature in model.features]
    if model.fusion.kind == "text-anchored":
        if model.fusion.anchor not in names:
            found = ", ".join(names) or "none"
            yield f"fusion.anchor {model.fusion.anchor!r} is none of the features ({found})"
        elif model.encoder == "none" and len(names) == 1:
            yield "text-anchored fusion needs a second modality"
        if model.global_vector or model.lstm:
            yield "text-anchored fusion looks at frames: global_vector and lstm are false"
    if any(model.auxiliary_weights) and model.fusion.kind != "concatenate":
        yield 'auxiliary_weight is for fusion of kind "concatenate"'


def _check_vectors(model: ModelConfig) -> Iterator[str]:
    hears = model.encoder != "none"
    if hears and model.fusion.kind != "text-anchored" and not (model.global_vector or model.lstm):
        yield "global_vector and lstm are both off: nothing is left to predict from"
    if model.pooling != "mean" and not (hears and model.global_vector):
        yield f"pooling {model.pooling!r} is of the global vector, which is not used"
    if model.auxiliary_weight and not hears:
        yield "auxiliary_weight is that of sound, which is not used"


def _check_encoder(model: ModelConfig) -> Iterator[str]:
    hears, pretrained = model.encoder != "none", model.encoder == "pretrained"
    if model.vad_head and not pretrained:
        yield "vad_head needs a pretrained encoder that brings one"
    if model.layer_weights and (model.vad_head or not pretrained):
        yield (
            "layer_weights is for a pretrained encoder without VAD head, which reads the last layer: "
            "turn it off with vad_head = false"
        )
    if model.freeze_extractor and not pretrained:
        yield f"freeze_extractor needs a pretrained encoder, not {model.encoder}"
    if model.tuning != TuningConfig() and (model.freeze_encoder or not pretrained):
        yield "tuning is for a pretrained encoder that is trained"
    if model.tuning.keep_lower and model.layer_weights:
        yield "layer_weights reads every layer: keep_lower keeps only what goes into the first trained one"
    if model.tuning.keep_lower and model.pad_seconds:
        yield "keep_lower is for clips as they are, without pad_seconds"
    if model.pad_seconds and (model.freeze_encoder or not hears):
        yield "pad_seconds is for an encoder that is trained"


_CHECKS = (_check_features, _check_fusion, _check_vectors, _check_encoder)
