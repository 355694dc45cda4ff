from __future__ import annotations

import torch

from abaw_emi.config.model import ModelConfig
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from tests.backbones import small_config

# The audeering checkpoint's published widths; the rest of its config is the stand-in's.
PUBLISHED = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_dim": [512] * 7,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


def millions(module: torch.nn.Module) -> float:
    return sum(weight.numel() for weight in module.parameters()) / 1e6


def test_the_papers_model_has_as_many_weights_as_the_released_one() -> None:
    with torch.device("meta"):  # shapes alone: nothing is allocated
        model = EmiModel(EmiConfig.from_parts(ModelConfig(), small_config(**PUBLISHED)))
    # 1024 + 3 = 1027 a frame, 2054 a clip (the paper, section 4); counts of the released code's modules.
    assert round(millions(model.encoder), 2) == 164.28
    assert round(millions(model.vad_head), 2) == 1.05
    assert round(millions(model.lstm), 2) == 16.89
    assert round(millions(model.head.dense) + millions(model.head.projection), 2) == 4.23
    assert round(millions(model), 2) == 186.46
