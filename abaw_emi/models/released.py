"""Checkpoints `.pth` of public code into an `EmiModel`: of the paper, and of the winners of 2025 and 2026.

Sources of names: CODE, abaw/model.py (see `core.constants`); github.com/Skyy93/CVPR2025_abaw, branch EMI,
abaw/model.py; github.com/ZZZRamsey/CVPR_2026_ABAW_10th_EMI, abaw/model_ablation.py with its default flags.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModel

from abaw_emi.config.model import ModelConfig
from abaw_emi.core.files import write_bytes
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.hub import Pretrained
from abaw_emi.models.load import load_model
from abaw_emi.models.weight_files import load_torch
from abaw_emi.models.weights import fill, make_model, name_as

ReleasedPreset = Literal["released", "winner-2025", "winner-2026"]
"""The presets whose public code saves checkpoints that can be imported."""

_AUDIO = {"audio_model.wav2vec2.": "encoder.wav2vec2.", "audio_model.classifier.": "vad_head."}
_HEAD = {"fusion_model.0.": "head.dense.", "fusion_model.2.": "head.projection."}
_TEXT = "text_model."
_NORMS = {"ln_q.": "q_norm.", "ln_kv.": "k_norm."}
_ATTENTION = {f"{name}_proj.": f"{name}_proj." for name in ("q", "k", "v", "out")} | _NORMS
_LOOKS = {"ca_audio.": "anchored.attentions.0.", "ca_vision.": "anchored.attentions.1."}

# What stands for a modality that is missing; theirs have leading dimensions of 1.
_MISSING = {
    "miss_text": "anchored.missing_query",
    "miss_audio": "anchored.missing.0",
    "miss_vision": "anchored.missing.1",
}

_NAMES: dict[ReleasedPreset, dict[str, str]] = {
    "released": {**_AUDIO, **_HEAD, "lstm_audio.": "lstm."},
    "winner-2025": {
        **_AUDIO,
        **_HEAD,
        _TEXT: "text.model.",
        "lstm_audio.": "lstm.",
        "lstm_vis.": "branches.0.temporal.0.network.",
    },
    "winner-2026": {
        **_AUDIO,
        _TEXT: "text.model.",
        **_MISSING,
        **{look + part: _LOOKS[look] + _ATTENTION[part] for look in _LOOKS for part in _ATTENTION},
        "pred_head.0.": "anchored.dense.",
        "pred_head.3.": "anchored.projection.",
    },
}
"""What names begin with, there and here."""

_FACES = {"winner-2025": "lstm_vis.weight_ih_l0", "winner-2026": "ca_vision.k_proj.weight"}
"""Weights (..., D) that tell the width of the faces' features."""


def import_released(
    path: Path, preset: ReleasedPreset, parts: ModelConfig, backbone: Pretrained, text: Pretrained | None
) -> EmiModel:
    """The model that a checkpoint holds. Features are not standardised, as there.

    What `winner-2025` puts in the place of a missing modality is 0: its code has nothing for it.

    Args:
        path: a state dict that the public code saved.
        preset: whose code.
        parts: of the preset.
        backbone: the one it was trained from; only its config is used.
        text: likewise, for the winners.

    Raises:
        WeightsError: the file cannot be read, or a weight is missing, unknown or of another shape.
    """
    weights = load_torch(path)
    if all(key.startswith("module.") for key in weights):  # saved from torch's DataParallel
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    widths = {}
    if text is not None:
        weights = _rename_text(weights, replace(text, name=str(path)))
        weights |= {key: weights[key].flatten() for key in _MISSING if key in weights}
        width = weights[_FACES[preset]].shape[-1] if _FACES[preset] in weights else 1
        widths = {feature.name: width for feature in parts.features}
    model = make_model(parts, backbone, widths, text)
    fill(model, weights, name_as(_NAMES[preset], model), str(path))
    return model


def _rename_text(weights: Mapping[str, Tensor], text: Pretrained) -> dict[str, Tensor]:
    """The weights, those of the text encoder named as transformers names them once they are loaded.

    A checkpoint has the names that are stored on the hub, which are others for gte: transformers converts
    them, from a folder like that of the hub. The pooling layer, which they load and do not use, is left out.
    """
    stored = {key: value for key, value in weights.items() if key.startswith(_TEXT)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = {key.removeprefix(_TEXT): value.contiguous() for key, value in stored.items()}
        used = {key: value for key, value in plain.items() if not key.startswith("pooler.")}
        save_file(used, folder / "model.safetensors", {"format": "pt"})
        write_bytes(folder / "config.json", json.dumps(text.config).encode())
        model = load_model(AutoModel, replace(text, folder=folder), ("pooler.",), strict=True)
        loaded = {key: value.clone() for key, value in model.state_dict().items()}
    others = {key: value for key, value in weights.items() if key not in stored}
    return others | {_TEXT + key: value for key, value in loaded.items() if not key.startswith("pooler.")}
