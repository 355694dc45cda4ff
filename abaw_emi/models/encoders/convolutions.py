"""The convolutions of wav2vec 2.0 (Baevski et al. 2020), from samples to features, 50 a second.

    waveforms (B, T) -- feature_extractor --> (B, F, C)

Frames stay (B, F, C) throughout: a convolution of stride s is a matrix product of windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Wav2Vec2Config
from transformers.activations import ACT2FN

from abaw_emi.models.encoders.linear import linear

_EPSILON = 1e-5
"""torch's GroupNorm's own, which the published checkpoints were trained with."""


class TimeNorm(nn.Module):
    """Each channel to zero mean and unit variance over time: a group norm of one channel a group.

    The moments are those of a clip's own frames, so padding changes nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, counts: Tensor | None) -> Tensor:
        """(B, F, C) to (B, F, C) of the same dtype; clips of `counts` (B,) frames, None for F each."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if counts is None:
            variance, mean = torch.var_mean(wide, dim=1, keepdim=True, correction=0)
        else:
            real = (torch.arange(x.shape[1], device=x.device) < counts[:, None])[..., None]  # (B, F, 1)
            mean = (wide * real).sum(dim=1, keepdim=True) / counts[:, None, None]
            variance = ((wide - mean) * real).square().sum(dim=1, keepdim=True) / counts[:, None, None]
        wide = (wide - mean) * torch.rsqrt(variance + _EPSILON) * self.weight + self.bias
        return wide.to(x.dtype)


class ConvLayer(nn.Module):
    """A convolution over time, a norm (over each frame, over time, or none) and an activation."""

    def __init__(self, config: Wav2Vec2Config, number: int) -> None:
        super().__init__()
        outputs = config.conv_dim[number]
        self.conv = nn.Conv1d(
            config.conv_dim[number - 1] if number else 1,
            outputs,
            config.conv_kernel[number],
            stride=config.conv_stride[number],
            bias=config.conv_bias,
        )
        self.layer_norm: nn.LayerNorm | TimeNorm | None = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = nn.LayerNorm(outputs)
        elif number == 0:
            self.layer_norm = TimeNorm(outputs)
        self.activation = ACT2FN[config.feat_extract_activation]

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T, C) to (B, F, C'); clips of `lengths` (B,), None for T each."""
        # The matrix product of windows gives each frame's channels side by side, where the norm wants
        # them: no transposed copies, and on CPUs 1.7 times the speed of conv1d (5 times in bf16).
        x = linear(self._cut(x), self.conv.weight.transpose(1, 2).flatten(1), self.conv.bias)  # (B, F, C')
        if isinstance(self.layer_norm, TimeNorm):
            kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
            x = self.layer_norm(x, None if lengths is None else (lengths - kernel) // stride + 1)
        elif self.layer_norm is not None:
            x = self._normalise(x, self.layer_norm)
        activated: Tensor = self.activation(x)
        return activated

    def _normalise(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """`norm` of x (B, F, C), of its dtype: autocast would make float32 of it.

        The moments are float32's either way; but the widest tensors of all stay in half precision, for one
        more rounding: a training step needs 2 to 3 GiB less (`benchmarks/README.md`).
        """
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
            return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)

    def _cut(self, x: Tensor) -> Tensor:
        """The windows (B, F, K * C) of x (B, T, C)."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if kernel == stride and torch.compiler.is_compiling():
            # Below, windows side by side are a copy or a view as T has it: a graph for each case.
            end = x.shape[1] // kernel * kernel
            return torch.cat([x[:, place:end:kernel] for place in range(kernel)], dim=2)
        windows = x.unfold(1, kernel, stride)  # (B, F, C, K), a view
        return windows.transpose(2, 3).flatten(2).contiguous()


class FeatureExtractor(nn.Module):
    """The convolutions from samples to features, 50 a second."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(config, number) for number in range(len(config.conv_dim)))

    def forward(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) to (B, F, C); clips of `lengths` (B,) samples, None for T each."""
        x = waveforms[..., None]
        for layer in self.conv_layers:
            x = layer(x, lengths)
            lengths = None  # the first one alone may have a norm over time
        return x
