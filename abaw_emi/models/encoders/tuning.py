"""What `config.tuning` makes of a backbone: other dropouts, and no more layers than it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.models.encoders.base import SoundEncoder


def set_dropouts(config: dict[str, Any], dropouts: Mapping[str, float]) -> dict[str, Any]:
    """A backbone's config with other dropouts, by the names that wav2vec 2.0 gives them.

    Raises:
        WeightsError: the backbone has no such dropout.
    """
    if config.get("model_type") == "whisper":
        if "feat_proj_dropout" in dropouts:
            raise WeightsError(Problem("model.tuning.feat_proj_dropout", "Whisper has none", "-1"))
        dropouts = {name.replace("hidden_", ""): value for name, value in dropouts.items()}
    return {**config, **dropouts}


def check_layers(encoder: SoundEncoder, tuning: TuningConfig) -> None:
    """Raises a WeightsError where `tuning` names more layers than there are."""
    for name, count in (("reset_layers", tuning.reset_layers), ("train_layers", tuning.train_layers)):
        if count > encoder.layers:
            raise WeightsError(
                Problem(f"model.tuning.{name}", str(count), f"at most {encoder.layers}, its layers")
            )
