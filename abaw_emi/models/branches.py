"""A modality's frames (B, F, D) to one vector a clip (B, W), whatever else is in the batch.

    frames -- standardise --> (B, F, D) -- each of `temporal` --> (B, F, H) -- pooling --> (B, W)

The parts are those of the published systems: nothing (linear models on means or statistics), a recurrent
network, temporal convolutions, a transformer. Frames beyond a clip's length are kept out of each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.backends.cudnn import rnn as cudnn_rnn
from torch.nn import functional
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence

from abaw_emi.config.parts import FeatureConfig
from abaw_emi.models.pooling import find_real, make_pooling

_LEAST_SCALE = 1e-6
"""Features that vary less than this, all in all, are left as they are, not divided by almost nothing."""


class Branch(nn.Module):
    """Makes a vector of the frames of one feature folder.

    Args:
        config: its parts.
        width: D, of the features.

    Attributes:
        frame_width: H, of the frames that are pooled.
        output_width: W.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: FeatureConfig, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        layers: list[nn.Module] = []
        if config.projection:
            layers.append(Projection(width, config))
            width = config.projection
        for kind in config.temporal:
            hidden = config.hidden_size or width
            if kind == "tcn":
                layers.append(TemporalConvolutions(width, hidden, config))
            elif kind == "transformer":
                layers.append(TransformerBranch(width, hidden, config))
            else:
                layers.append(Recurrent(kind, width, hidden, config))
                hidden *= 1 + config.bidirectional
            width = hidden
        self.temporal = nn.ModuleList(layers)
        recurrent_last = config.temporal[-1:] in (("gru",), ("lstm",))
        self.pooling = make_pooling(config.pooling, width, both_ways=config.bidirectional and recurrent_last)
        self.frame_width = width
        self.output_width = self.pooling.output_width

    def fit_scale(self, clips: Iterable[npt.NDArray[np.float32]]) -> None:
        """Takes mean and standard deviation of each feature from the training clips' frames, (F, D) each."""
        count, total, squares = 0, 0.0, 0.0
        for frames in clips:
            wide = frames.astype(np.float64)
            count, total, squares = count + len(wide), total + wide.sum(0), squares + np.square(wide).sum(0)
        if count:
            mean = torch.from_numpy(np.asarray(total / count))
            scale = (torch.from_numpy(np.asarray(squares / count)) - mean.square()).clamp(min=0).sqrt()
            self.mean.copy_(mean)
            self.scale.copy_(torch.where(scale < _LEAST_SCALE, 1.0, scale))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """The vectors (B, W) of clips of `lengths` (B,) frames; of no meaning for a clip without any."""
        lengths = lengths.clamp(min=1)
        vectors: Tensor = self.pooling(self.run(frames, lengths), lengths)
        return vectors

    def run(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """The frames (B, F, H) that are pooled; of no meaning beyond a clip's end."""
        real = find_real(frames, lengths.clamp(min=1))
        frames = ((frames - self.mean) / self.scale).masked_fill(~real[..., None], 0)
        for layer in self.temporal:
            frames = layer(frames, real)
        return frames


class Projection(nn.Module):
    """Each frame to another width: dense, layer normalisation, GELU; or normalisation first."""

    def __init__(self, width: int, config: FeatureConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.projection)
        self._norm_first = config.projection_norm == "first"
        self.norm = nn.LayerNorm(width if self._norm_first else config.projection)

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        """(B, F, D) to (B, F, H)."""
        frames = self.dense(self.norm(frames)) if self._norm_first else self.norm(self.dense(frames))
        return functional.gelu(frames)


class Recurrent(nn.Module):
    """A GRU or an LSTM, forwards in time, so that padding comes after all that counts; or both ways.

    Backwards it starts at each clip's own last frame (Schuster and Paliwal, IEEE Transactions on Signal
    Processing 45, 1997); frames are H forwards and H backwards then.
    """

    def __init__(self, kind: str, width: int, hidden: int, config: FeatureConfig) -> None:
        super().__init__()
        self.network = make_recurrent(
            kind, width, hidden, config.layers, config.dropout, both_ways=config.bidirectional
        )

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        """(B, F, D) to (B, F, H), or (B, F, 2H) both ways."""
        states: Tensor
        if not self.network.bidirectional:
            states = self.network(frames)[0]
            return states
        lengths = real.sum(dim=1).cpu()
        packed = rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        states, _ = rnn.pad_packed_sequence(
            self.network(packed)[0], batch_first=True, total_length=frames.shape[1]
        )
        return states


class _LayerByLayer(nn.RNNBase):
    """A recurrent network with dropout between its layers, which run one by one; without it torch's own.

    cuDNN's dropout has a state of its own, which each seeding of torch's generator makes it initialise again,
    once a group of clips. Here the masks are torch's: on a CPU the bits that the whole network draws there.
    """

    def forward(self, frames: Any, hx: None = None) -> tuple[Any, Any]:
        """Frames (B, F, D), or packed ones, to (B, F, H), packed alike; no last states are returned."""
        if not isinstance(frames, PackedSequence):
            # Time first, as torch draws the masks of a whole network.
            return self._run(frames.transpose(0, 1), frames.shape[0]).transpose(0, 1), None
        sizes = frames.batch_sizes
        data = self._run(frames.data, int(sizes[0]), sizes)
        return PackedSequence(data, sizes, frames.sorted_indices, frames.unsorted_indices), None

    def _run(self, x: Tensor, clips: int, *sizes: Tensor) -> Tensor:
        run: Any = torch.lstm if self.mode == "LSTM" else torch.gru
        start = x.new_zeros(1 + self.bidirectional, clips, self.hidden_size)
        first = (start, start) if self.mode == "LSTM" else start
        shape = [True, 1, 0.0, self.training, self.bidirectional]  # biases, one layer, no dropout within
        shape += [] if sizes else [False]  # time first
        for number, weights in enumerate(self._weights_by_layer()):
            if number:
                x = functional.dropout(x, self.dropout, self.training)
            x = run(x, *sizes, first, weights, *shape)[0]
        return x

    def flatten_parameters(self) -> None:
        """Puts each layer's weights side by side in a GPU's memory, where cuDNN reads them uncopied."""
        layers = self._weights_by_layer()
        # torch calls it while the weights are being made, too.
        if not all(
            isinstance(each, Tensor) and torch.backends.cudnn.is_acceptable(each) for each in layers[0]
        ):
            return
        mode = cudnn_rnn.get_cudnn_mode(self.mode)
        with torch.no_grad(), torch.cuda.device_of(layers[0][0]):
            for layer in layers:
                each, width = len(layer) // (1 + self.bidirectional), layer[0].shape[1]
                torch._cudnn_rnn_flatten_weight(
                    layer, each, width, mode, self.hidden_size, 0, 1, True, self.bidirectional
                )

    def _weights_by_layer(self) -> list[list[Any]]:
        weights = self._flat_weights
        each = len(weights) // self.num_layers
        return [weights[start : start + each] for start in range(0, len(weights), each)]


class _LSTM(_LayerByLayer, nn.LSTM):  # type: ignore[misc]  # packed frames and others in one
    pass


class _GRU(_LayerByLayer, nn.GRU):  # type: ignore[misc]
    pass


def make_recurrent(
    kind: str, width: int, hidden: int, layers: int, dropout: float, *, both_ways: bool = False
) -> nn.RNNBase:
    """A GRU or an LSTM that takes (B, F, `width`), under the names of weights that torch gives them.

    Args:
        kind: "gru" or "lstm".
        width: D.
        hidden: H.
        layers: one upon the other.
        dropout: between them, while training.
        both_ways: whether it runs backwards in time, too.
    """
    between = dropout if layers > 1 else 0.0
    plain, by_layer = (nn.GRU, _GRU) if kind == "gru" else (nn.LSTM, _LSTM)
    network = by_layer if between else plain
    return network(width, hidden, layers, dropout=between, batch_first=True, bidirectional=both_ways)


class TemporalConvolutions(nn.Module):
    """Residual convolutions over time, each seeing twice as far as the one before.

    After Bai et al., arXiv 1803.01271, but not causal, since a clip is known whole, and with layer
    normalisation in place of weight normalisation.
    """

    def __init__(self, width: int, hidden: int, config: FeatureConfig) -> None:
        super().__init__()
        self.entry = nn.Conv1d(width, hidden, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden, hidden, config.kernel, dilation=2**layer, padding=config.kernel // 2 * 2**layer)
            for layer in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        """(B, F, D) to (B, F, H)."""
        frames = self.entry(frames.mT).mT
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            inner = convolution(norm(frames).masked_fill(~real[..., None], 0).mT).mT
            frames = frames + self.dropout(torch.relu(inner))
        return frames


class TransformerBranch(nn.Module):
    """Self-attention over a clip's frames (Vaswani et al., arXiv 1706.03762), with sines for their places."""

    def __init__(self, width: int, hidden: int, config: FeatureConfig) -> None:
        super().__init__()
        self.entry = nn.Linear(width, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden, config.heads, 4 * hidden, config.dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.transformer_layers, norm=nn.LayerNorm(hidden), enable_nested_tensor=False
        )

    def forward(self, frames: Tensor, real: Tensor) -> Tensor:
        """(B, F, D) to (B, F, H)."""
        frames = self.entry(frames)
        frames = frames + encode_places(frames.shape[1], frames.shape[2], frames.device).to(frames.dtype)
        attended: Tensor = self.encoder(frames, src_key_padding_mask=~real)
        return attended


def encode_places(count: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines (F, H) of places, as Vaswani et al. have them; H may be odd."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]
