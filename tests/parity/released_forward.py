"""The released code's forward pass, written from the formulae of wav2vec 2.0 and of the LSTM.

One clip at a time, no padding and no mask; on a state dict under the names that the released code gives.
In double precision. It shares nothing with `abaw_emi` or transformers, and takes only conv1d from torch.nn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def prepare(samples: npt.NDArray[Any]) -> Tensor:
    """The pre-processor: the first 12 s, then zero mean and unit variance."""
    head = samples[:192_000].astype(np.float64)
    return torch.from_numpy((head - head.mean()) / np.sqrt(np.mean((head - head.mean()) ** 2) + 1e-7))


def released_forward(weights: Weights, config: dict[str, Any], samples: npt.NDArray[Any]) -> Tensor:
    """The six intensities of one clip."""
    weights = {name: value.double() for name, value in weights.items()}
    hidden = wav2vec2(under(weights, "audio_model.wav2vec2."), config, prepare(samples))  # (F, H)
    head = under(weights, "audio_model.classifier.")
    vad = linear(head, "out_proj", torch.tanh(linear(head, "dense", hidden)))  # (F, 3)
    frames = torch.cat([hidden, vad], dim=1)  # (F, H + 3)
    recurrent = under(weights, "lstm_audio.")
    pooled = torch.cat([frames.mean(0), lstm_layer(recurrent, 1, lstm_layer(recurrent, 0, frames))[-1]])
    fusion = under(weights, "fusion_model.")
    return linear(fusion, "2", torch.tanh(linear(fusion, "0", pooled)))


def wav2vec2(weights: Weights, config: dict[str, Any], waveform: Tensor) -> Tensor:
    """The last hidden states (F, H) of one waveform (T,), in evaluation mode; "stable" layer norm."""
    x = waveform[None]  # (C, T)
    for number, stride in enumerate(config["conv_stride"]):
        layer = under(weights, f"feature_extractor.conv_layers.{number}.")
        x = F.conv1d(x, layer["conv.weight"], layer["conv.bias"], stride=stride)
        x = gelu(layer_norm(layer, "layer_norm", x.T).T)
    x = layer_norm(weights, "feature_projection.layer_norm", x.T)  # (F, C)
    x = linear(weights, "feature_projection.projection", x)
    x = x + gelu(positions(under(weights, "encoder.pos_conv_embed.conv."), config, x))
    for number in range(config["num_hidden_layers"]):
        layer = under(weights, f"encoder.layers.{number}.")
        inner = layer_norm(layer, "layer_norm", x)
        x = x + attention(under(layer, "attention."), config["num_attention_heads"], inner)
        inner = layer_norm(layer, "final_layer_norm", x)
        inner = gelu(linear(layer, "feed_forward.intermediate_dense", inner))
        x = x + linear(layer, "feed_forward.output_dense", inner)
    return layer_norm(weights, "encoder.layer_norm", x)


def positions(conv: Weights, config: dict[str, Any], x: Tensor) -> Tensor:
    """The positional convolution of x (F, H); its weight is g * v / |v| for each tap."""
    length = torch.sqrt((conv["weight_v"] ** 2).sum(dim=(0, 1), keepdim=True))
    kernel = conv["weight_g"] * conv["weight_v"] / length
    taps = config["num_conv_pos_embeddings"]
    groups = config["num_conv_pos_embedding_groups"]
    out = F.conv1d(x.T[None], kernel, conv["bias"], padding=taps // 2, groups=groups)[0].T
    return out[: len(x)]  # an even kernel gives one frame too many


def attention(weights: Weights, heads: int, x: Tensor) -> Tensor:
    """Self-attention of x (F, H)."""
    query, key, value = (
        linear(weights, f"{name}_proj", x).unflatten(1, (heads, -1)).transpose(0, 1) for name in "qkv"
    )  # (heads, F, H / heads)
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    likely = torch.exp(scores - scores.amax(-1, keepdim=True))
    likely = likely / likely.sum(-1, keepdim=True)
    return linear(weights, "out_proj", (likely @ value).transpose(0, 1).flatten(1))


def lstm_layer(weights: Weights, number: int, x: Tensor) -> Tensor:
    """The states (F, D) of one LSTM layer, from zeros; gates in torch's order input, forget, cell, output."""
    width = weights[f"weight_hh_l{number}"].shape[1]
    state, cell = x.new_zeros(width), x.new_zeros(width)
    driven = x @ weights[f"weight_ih_l{number}"].T + weights[f"bias_ih_l{number}"]
    states = []
    for step in driven:
        gates = step + weights[f"weight_hh_l{number}"] @ state + weights[f"bias_hh_l{number}"]
        let_in, keep, new, let_out = gates.split(width)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(let_in) * torch.tanh(new)
        state = torch.sigmoid(let_out) * torch.tanh(cell)
        states.append(state)
    return torch.stack(states)


def layer_norm(weights: Weights, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Over the last dimension."""
    centred = x - x.mean(-1, keepdim=True)
    spread = torch.sqrt((centred**2).mean(-1, keepdim=True) + epsilon)
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """A dense layer on the last dimension."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    """The exact one."""
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def under(weights: Weights, prefix: str) -> Weights:
    """The weights whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
