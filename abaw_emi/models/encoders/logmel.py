"""A small encoder for CPUs and for the demo: log-mel frames through a few convolutions.

It needs no download and trains from scratch in seconds. It keeps the two promises of the large
encoder: hidden states every 320 samples, and a clip's states do not depend on its neighbours in
the padded batch. Hence no normalisation over time or batch inside the network, and zeros beyond
a clip's end before whatever looks sideways, which is what the clip alone would find there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from abaw_emi.config.parts import LogMelConfig
from abaw_emi.core import constants
from abaw_emi.models.device import in_float64
from abaw_emi.models.encoders.base import Lengths, SoundEncoder
from abaw_emi.models.encoders.spec_augment import Masks


def mel_filters(bins: int, mels: int) -> Tensor:
    """Triangular filters (bins, mels) from 0 Hz to half the sample rate, equally wide on HTK's mel scale.

    Equal, bit by bit, to torchaudio's `melscale_fbanks`, without which a run of this encoder can be used.
    """
    highest = constants.SAMPLE_RATE / 2
    frequencies = torch.linspace(0, highest, bins)
    top = 2595 * math.log10(1 + highest / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, mels + 2) / 2595) - 1)  # (mels + 2,)
    distance = edges - frequencies[:, None]  # (bins, mels + 2)
    width = edges.diff()
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return torch.minimum(rising, falling).clamp(min=0)


class LogMelEncoder(SoundEncoder):
    """Waveforms to hidden states at 50 Hz: log-mels at 100 Hz, a convolution of stride 2, residual ones."""

    window: Tensor
    filters: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    is_large = False
    layer_prefixes = ("norms", "convolutions")

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = config.layers
        self.hidden_size = config.hidden_size
        # from_pretrained builds models without memory ("meta"), then loads what the state dict holds.
        with torch.device("cpu"):
            filters = mel_filters(config.window // 2 + 1, config.n_mels)
        self.register_buffer("window", torch.hann_window(config.window))
        self.register_buffer("filters", filters)  # (K, M)
        self.register_buffer("feature_mean", torch.zeros(3 * config.n_mels))
        self.register_buffer("feature_scale", torch.ones(3 * config.n_mels))
        size, pad = config.hidden_size, config.kernel // 2
        self.entry = nn.Conv1d(3 * config.n_mels, size, config.kernel, stride=2, padding=pad)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, size, config.kernel, padding=pad) for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)

    def frame_lengths(self, lengths: Lengths) -> Lengths:
        """Frames of clips of `lengths` samples: those of wav2vec 2.0, 1 from 400 samples on."""
        return (lengths - constants.MIN_SAMPLES) // constants.HOP_SAMPLES + 1

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes the mean and spread of every feature from training clips; once, before training.

        Without it training from scratch is several times slower: the features' common offsets hide
        what differs between clips. The two vectors are part of the state dict.

        Args:
            batches: Of `forward`'s arguments, on this module's device.
        """
        total = in_float64(self.feature_mean.new_zeros(3, len(self.feature_mean)))
        for waveforms, lengths in batches:
            features, mask = self._features(waveforms, lengths)
            features = in_float64(features * mask)
            mask = mask.to(features.device)
            moments = (mask.expand_as(features), features, features.square())
            total += torch.stack([moment.sum((0, 1)) for moment in moments])
        count, first, second = total
        mean = first / count
        self.feature_mean.copy_(mean)
        # A feature that never changes keeps the scale 1e-3 rather than divide by nothing.
        self.feature_scale.copy_((second / count - mean.square()).clamp(min=1e-6).sqrt())

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Masks | None = None,
        layer_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states (B, F, H), zero beyond a clip's last frame, and each clip's frames (B,).

        Args:
            waveforms: Clips (B, T) at 16 kHz, each of zero mean and unit variance; what lies
                beyond a clip's length is not read.
            lengths: Samples of each clip (B,), at least 400.
            masks: None; this encoder leaves out nothing but by dropout.
            layer_weights: None.
        """
        features, mask = self._features(waveforms, lengths)  # (B, F', 3M), F' is 2F or 2F - 1
        features = (features - self.feature_mean) / self.feature_scale * mask
        frame_lengths = self.frame_lengths(lengths)
        hidden = self.entry(features.transpose(1, 2)).transpose(1, 2)
        mask = _mask(frame_lengths.to(hidden.device, non_blocking=True), hidden.shape[1])
        # The path past the convolutions is linear: the mean over frames keeps the mean log-mels.
        hidden = self.dropout(hidden) * mask
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            inner = F.gelu(norm(hidden)) * mask
            inner = convolution(inner.transpose(1, 2)).transpose(1, 2)
            hidden = (hidden + self.dropout(inner)) * mask
        return hidden, frame_lengths

    def _features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Every 160 samples (B, F', 3M), and which of them are within the clip (B, F', 1).

        Log-mels, how far each is from its mean over the clip, and how far from the frame before: in
        both, a clip's mean over frames says how much a band varies, which no mean of log-mels does.
        In single precision or better, whatever autocast says.
        """
        hop = constants.HOP_SAMPLES // 2
        lengths = lengths.to(waveforms.device, non_blocking=True)
        with torch.autocast(waveforms.device.type, enabled=False):
            waveforms = waveforms.to(self.window.dtype)
            waveforms = torch.where(_mask(lengths, waveforms.shape[1]).squeeze(2), waveforms, 0.0)
            # A frame stands for 400 samples; its window may see more of the clip, or zeros past it.
            edge = (self.config.window - constants.MIN_SAMPLES) // 2
            spectra = torch.stft(
                F.pad(waveforms, (edge, edge)),
                self.config.window,
                hop,
                window=self.window,
                center=False,
                return_complex=True,
            )  # (B, K, F')
            power = spectra.real.square() + spectra.imag.square()  # abs() would take a root first
            log_mels = torch.log(power.transpose(1, 2) @ self.filters + 1e-3)  # (B, F', M)
            lengths = (lengths - constants.MIN_SAMPLES) // hop + 1
            mask = _mask(lengths, log_mels.shape[1])
            mean = (log_mels * mask).sum(1, keepdim=True) / lengths[:, None, None]
            change = F.pad(log_mels.diff(dim=1), (0, 0, 1, 0))
            return torch.cat((log_mels, (log_mels - mean).abs(), change.abs()), dim=2), mask


def _mask(lengths: Tensor, places: int) -> Tensor:
    """(B, places, 1), true within a clip."""
    return (torch.arange(places, device=lengths.device) < lengths[:, None]).unsqueeze(2)
