"""What rebuilds a model: its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from pydantic import TypeAdapter
from transformers import AutoConfig, PreTrainedConfig

from abaw_emi.config.model import ModelConfig
from abaw_emi.core.constants import EMOTIONS, SAMPLE_RATE
from abaw_emi.models.encoders.text import find_width

_REPLACED = frozenset({"backbone", "revision", "logmel", "pad_seconds"})
"""Fields of `ModelConfig` that `encoder_config` and `pad_samples` stand for."""


class EmiConfig(PreTrainedConfig):
    """What rebuilds an `EmiModel`: a `ModelConfig`, the encoder's own config, and the features' widths.

    `config.json` holds the fields of the `ModelConfig` side by side with the others, and what transformers
    and the hub look for: `id2label` and `label2id`, the six emotions in the order of the output, and
    `problem_type`, "regression". Files of before lack these and give the same config.

    Args:
        encoder_config: the backbone's `config.json`, or the fields of `LogMelConfig`.
        pad_samples: `ModelConfig.pad_seconds`, in samples.
        widths: D of each of the features.
        text_config: the `config.json` of the text encoder, if one of the features has one.
        **values: the other fields of `ModelConfig`, and whatever transformers keeps in the file.
    """

    model_type = "abaw_emi"

    def __init__(
        self,
        *,
        encoder_config: dict[str, Any] | None = None,
        pad_samples: int = 0,
        widths: Sequence[int] = (),
        text_config: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        defaults = asdict(ModelConfig(encoder="logmel", vad_head=False))
        self.encoder_config = defaults["logmel"] if encoder_config is None else encoder_config
        self.pad_samples = pad_samples
        self.widths = list(widths)
        self.text_config = text_config
        for name in defaults.keys() - _REPLACED:
            value = values.pop(name, defaults[name])
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        says: dict[str, Any] = {
            "id2label": dict(enumerate(EMOTIONS)),
            "label2id": {emotion: place for place, emotion in enumerate(EMOTIONS)},
            "problem_type": "regression",
        }
        super().__init__(**says | values)

    @classmethod
    def from_parts(
        cls,
        parts: ModelConfig,
        encoder_config: dict[str, Any] | None = None,
        widths: Mapping[str, int] | None = None,
        text_config: dict[str, Any] | None = None,
    ) -> Self:
        """The config of the model that `parts` describes.

        Args:
            parts: as in `run.toml`.
            encoder_config: the backbone's.
            widths: D of each feature folder.
            text_config: the text encoder's.
        """
        widths = {
            feature.name: find_width(text_config)
            if feature.backbone and text_config is not None
            else (widths or {})[feature.name]
            for feature in parts.features
        }
        return cls(
            encoder_config=asdict(parts.logmel) if encoder_config is None else encoder_config,
            pad_samples=round(parts.pad_seconds * SAMPLE_RATE),
            widths=list(widths.values()),
            text_config=text_config,
            **{name: value for name, value in asdict(parts).items() if name not in _REPLACED},
        )

    def to_parts(self) -> ModelConfig:
        """The `ModelConfig`; its backbone's name is not stored, so it has the default one."""
        values = {name: getattr(self, name) for name in asdict(ModelConfig()).keys() - _REPLACED}
        if values["encoder"] == "logmel":
            values["logmel"] = self.encoder_config
        return TypeAdapter(ModelConfig).validate_python(
            {**values, "pad_seconds": self.pad_samples / SAMPLE_RATE}
        )


# From here on, AutoConfig reads run folders.
AutoConfig.register(EmiConfig.model_type, EmiConfig, exist_ok=True)
