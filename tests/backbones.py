"""Small stand-ins for published wav2vec 2.0 checkpoints, in the files and names that those have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

AUDEERING = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"


def small_config(norm: str = "layer", **changes: Any) -> dict[str, Any]:
    """The audeering config (`facts`) with small widths; "group" is the kind of wav2vec2-base."""
    return {
        "model_type": "wav2vec2",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": [16] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": norm == "layer",
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_labels": 3,
        "final_dropout": 0.1,
        "layerdrop": 0.1,
        "mask_time_prob": 0.05,
        "apply_spec_augment": True,
        **changes,
    }


def backbone_weights(config: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict as the audeering file holds it: `wav2vec2.*` and `classifier.*`, old weight-norm names."""
    torch.manual_seed(seed)
    model = Wav2Vec2Model(Wav2Vec2Config(**config))
    width, outputs = config["hidden_size"], config["num_labels"]
    classifier = nn.ModuleDict({"dense": nn.Linear(width, width), "out_proj": nn.Linear(width, outputs)})
    with torch.no_grad():
        for weight in (*model.parameters(), *classifier.parameters()):
            weight.add_(0.05 * torch.randn_like(weight))  # so that no bias is zero and no scale is one
    weights = {f"wav2vec2.{name}": value for name, value in model.state_dict().items()}
    weights |= {f"classifier.{name}": value for name, value in classifier.state_dict().items()}
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new_name, old_name in old.items():
        key = f"wav2vec2.encoder.pos_conv_embed.conv.{new_name}"
        weights[key.replace(new_name, old_name)] = weights.pop(key)
    return weights


def write_backbone(folder: Path, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A model folder as the hub delivers it: config.json and pytorch_model.bin."""
    config = small_config() if config is None else config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(backbone_weights(config, seed), folder / "pytorch_model.bin")
    return folder


def write_hub_cache(hub: Path, name: str = AUDEERING, revision: str = "main") -> str:
    """Lays a stand-in into a hub cache folder (`$HF_HUB_CACHE`) and returns its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = hub / f"models--{name.replace('/', '--')}"
    write_backbone(root / "snapshots" / commit)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / revision).write_text(commit)
    return commit
