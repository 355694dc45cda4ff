"""Low-rank adapters in a speech encoder while it is trained; what is saved is the encoder with them merged.

W x becomes W x + (alpha / r) B A x, where A (r, D) is drawn, B (H, r) is 0 at first, and only these two are
trained (Hu et al., arXiv 2106.09685). peft puts them in.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.errors import Problem, WeightsError
from abaw_emi.core.installation import require
from abaw_emi.models.encoders.base import SoundEncoder

_ADAPTER, _BASE = ".lora_", ".base_layer."


def add_adapters(encoder: SoundEncoder, tuning: TuningConfig) -> None:
    """Puts adapters into the layers of `encoder`, the weights of which are no longer trained.

    Raises:
        InstallationError: peft is not installed.
        WeightsError: the encoder has no layers that adapters can be put into there.
    """
    require(["peft"], "lora")
    from peft import LoraConfig, inject_adapter_in_model

    names = encoder.adapter_targets[tuning.lora_targets]
    if not names:
        found = f"{tuning.lora_targets!r}: this encoder's attention reads its weights past adapters"
        raise WeightsError(Problem("model.tuning.lora_targets", found, "'feed-forward'"))
    config = LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha or tuning.lora_rank,
        lora_dropout=tuning.lora_dropout,
        target_modules=list(names),
    )
    inject_adapter_in_model(config, encoder)
    for name, weight in encoder.named_parameters():
        weight.requires_grad_(_ADAPTER in name)


def merge_adapters(weights: Mapping[str, Tensor], tuning: TuningConfig) -> dict[str, Tensor]:
    """The weights of the same model without adapters; as they are, where there are none.

    Args:
        weights: the state dict of a model.
        tuning: of this model.
    """
    if not tuning.lora_rank:
        return dict(weights)
    scale = (tuning.lora_alpha or tuning.lora_rank) / tuning.lora_rank
    merged = {}
    for name, value in weights.items():
        prefix, base, suffix = name.rpartition(_BASE)
        if base and suffix == "weight":
            down, up = (weights[f"{prefix}.lora_{part}.default.weight"] for part in "AB")
            value = value + scale * (up @ down)
        if _ADAPTER not in name:
            merged[name.replace(_BASE, ".")] = value
    return merged
