"""What rebuilds a model: its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from transformers import PreTrainedConfig

from abaw_emi.config.parts import FusionConfig
from abaw_emi.config.run import LogMelConfig, ModelConfig
from abaw_emi.core.constants import SAMPLE_RATE


class EmiConfig(PreTrainedConfig):
    """What rebuilds an `EmiModel`: the encoder's own config and the parts of `config.ModelConfig`.

    Args:
        encoder: "wav2vec2", "logmel" or "none".
        encoder_config: the backbone's `config.json`, or the fields of `LogMelConfig`.
        vad_head: see `config.ModelConfig`, as for the rest.
        pad_samples: its `pad_seconds`, in samples.
        features: the fields of each `FeatureConfig`.
        widths: D of each of the features.
        fusion: the fields of `FusionConfig`.
    """

    model_type = "abaw_emi"

    def __init__(
        self,
        *,
        encoder: str = "logmel",
        encoder_config: dict[str, Any] | None = None,
        freeze_encoder: bool = False,
        freeze_extractor: bool = False,
        vad_head: bool = False,
        global_vector: bool = True,
        lstm: bool = True,
        regression_head: bool = True,
        lstm_layers: int = 2,
        lstm_dropout: float = 0.0,
        pad_samples: int = 0,
        features: Sequence[dict[str, Any]] = (),
        widths: Sequence[int] = (),
        fusion: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder
        self.encoder_config = asdict(LogMelConfig()) if encoder_config is None else encoder_config
        self.freeze_encoder = freeze_encoder
        self.freeze_extractor = freeze_extractor
        self.vad_head = vad_head
        self.global_vector = global_vector
        self.lstm = lstm
        self.regression_head = regression_head
        self.lstm_layers = lstm_layers
        self.lstm_dropout = lstm_dropout
        self.pad_samples = pad_samples
        self.features = list(features)
        self.widths = list(widths)
        self.fusion = asdict(FusionConfig()) if fusion is None else fusion
        super().__init__(**kwargs)

    @classmethod
    def from_parts(
        cls,
        model: ModelConfig,
        encoder_config: dict[str, Any] | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> Self:
        """The config of the model that `model` describes.

        Args:
            model: its parts.
            encoder_config: the backbone's.
            widths: D of each feature folder.
        """
        parts = asdict(model)
        del parts["backbone"], parts["revision"]
        logmel = parts.pop("logmel")
        return cls(
            encoder_config=logmel if encoder_config is None else encoder_config,
            pad_samples=round(parts.pop("pad_seconds") * SAMPLE_RATE),
            widths=[(widths or {})[feature.name] for feature in model.features],
            **parts,
        )
