"""AdamW over a model's weights, slower the further down in the encoder a weight lies."""

from __future__ import annotations

import re

import torch
from torch import nn

from abaw_emi.config.run import TrainingConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoder import Wav2Vec2Encoder

_LAYER = re.compile(r"encoder\.(?:wav2vec2\.encoder\.layers|norms|convolutions)\.(\d+)\.")
_EXTRACTOR = "encoder.wav2vec2.feature_extractor."
_NORM = "encoder.wav2vec2.encoder.layer_norm."


def build_optimizer(model: EmiModel, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the weights that are trained, one group for each level of the model, the head first.

    A level learns at `config.layer_decay` times the rate of the level above it (Howard and Ruder, arXiv
    1801.06146, section 3.2; per transformer layer as Clark et al., arXiv 2003.10555, do it). From the
    top: the new layers (branches, LSTM, head) at the whole rate; the VAD head; the encoder's layers,
    last to first; what leads to them; the convolutions that read the waveform. Levels without trained
    weights do not count. Without decay there is one group, in the model's order.

    Each group has its peak rate as "lr", and as "initial_lr" for schedules, which multiply it. Weight
    decay is on all weights (CODE).

    Args:
        model: already on its device.
        config: the rates.
    """
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    levels: dict[int, list[nn.Parameter]] = {}
    for name, weight in weights.items():
        levels.setdefault(0 if config.layer_decay == 1 else _height(name, model), []).append(weight)
    groups = []
    for distance, height in enumerate(sorted(levels, reverse=True)):
        rate = config.learning_rate * config.layer_decay**distance
        groups.append({"params": levels[height], "lr": rate, "initial_lr": rate})
    on_gpu = all(weight.is_cuda for weight in weights.values())
    # None lets torch choose, which on a CPU is the loop over weights.
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=on_gpu or None
    )


def _height(name: str, model: EmiModel) -> int:
    """How far the weight called `name` is above the waveform: 0 for the first convolutions."""
    encoder = model.encoder
    if isinstance(encoder, Wav2Vec2Encoder):
        layers = int(encoder.wav2vec2.config.num_hidden_layers)
        # With this switch (the audeering model) it comes after the last layer, without it before the first.
        norm_is_last = encoder.wav2vec2.config.do_stable_layer_norm
    else:
        layers, norm_is_last = (0 if encoder is None else encoder.config.layers), False
    if not name.startswith("encoder."):
        return layers + 2 if name.startswith("vad_head.") else layers + 3
    if layer := _LAYER.match(name):
        return int(layer[1]) + 2
    if name.startswith(_EXTRACTOR):
        return 0
    # Projection, positions and mask vector, or the log-mel encoder's entry: what the first layer sees.
    return layers + 1 if name.startswith(_NORM) and norm_is_last else 1
