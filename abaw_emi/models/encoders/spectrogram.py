"""The spectrograms that published encoders read, computed where the model is, for a whole padded batch.

Each equals that of the pre-processor that transformers delivers with the encoder, clip by clip
(`tests/models/encoders/test_speech.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank, window_function

from abaw_emi.core.constants import SAMPLE_RATE

WINDOW, HOP = 400, 160
"""Samples of a window and between two, in both kinds."""


class WhisperSpectrogram(nn.Module):
    """Log-mel spectrograms of 30 s, as WhisperFeatureExtractor makes them.

    Args:
        mels: bands of the model.
        frames: of a spectrogram; clips are zero-padded to so many, and may not be longer.
    """

    def __init__(self, mels: int, frames: int) -> None:
        super().__init__()
        self.samples = HOP * frames
        filters = mel_filter_bank(
            num_frequency_bins=1 + WINDOW // 2,
            num_mel_filters=mels,
            min_frequency=0.0,
            max_frequency=8_000.0,
            sampling_rate=SAMPLE_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        self.filters = np.asarray(filters, np.float32)  # (K, M)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms (B, T), zero past each clip's end, to (B, M, frames) float32."""
        with torch.autocast(waveforms.device.type, enabled=False):
            padded = F.pad(waveforms.float(), (0, self.samples - waveforms.shape[1]))
            window = torch.hann_window(WINDOW, device=padded.device)
            spectra = torch.stft(padded, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
            filters = torch.from_numpy(self.filters).to(padded.device)
            mels = filters.T @ spectra.abs().square()
            logs = mels.clamp(min=1e-10).log10()
            floor = logs.amax(dim=(1, 2), keepdim=True) - 8.0
            limited: Tensor = torch.maximum(logs, floor)
            return (limited + 4.0) / 4.0


class FilterBank(nn.Module):
    """Kaldi's log-mel filter bank, standardised over each clip, as SeamlessM4TFeatureExtractor makes it.

    Args:
        width: of a frame: 80 bands of each of `width // 80` windows side by side.
    """

    MELS = 80

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stride = width // self.MELS
        filters = mel_filter_bank(
            num_frequency_bins=257,
            num_mel_filters=self.MELS,
            min_frequency=20,
            max_frequency=SAMPLE_RATE // 2,
            sampling_rate=SAMPLE_RATE,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        self.filters = np.asarray(filters, np.float32)  # (K, M)
        self.window = np.asarray(window_function(WINDOW, "povey", periodic=False), np.float32)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Waveforms (B, T) of at least two windows, and their lengths, to (B, F, width) float32."""
        with torch.autocast(waveforms.device.type, enabled=False):
            windows = (waveforms.float() * 2**15).unfold(1, WINDOW, HOP)  # (B, F', 400); Kaldi has integers
            windows = windows - windows.mean(dim=2, keepdim=True)
            # Each sample less .97 of the one before; the first one has only itself before it.
            windows = torch.cat([windows[..., :1] * 0.03, windows[..., 1:] - 0.97 * windows[..., :-1]], dim=2)
            spectra = torch.fft.rfft(windows * torch.from_numpy(self.window).to(windows.device), 512)
            power = spectra.abs().square() @ torch.from_numpy(self.filters).to(windows.device)
            logs = power.clamp(min=torch.finfo(torch.float32).eps).log()  # (B, F', 80)
            counts = ((lengths - WINDOW) // HOP + 1)[:, None, None]
            real = torch.arange(logs.shape[1], device=logs.device)[:, None] < counts  # (B, F', 1)
            mean = logs.masked_fill(~real, 0).sum(dim=1, keepdim=True) / counts
            logs = (logs - mean).masked_fill(~real, 0)
            logs = logs / (logs.square().sum(dim=1, keepdim=True) / (counts - 1) + 1e-7).sqrt()
            whole = logs.shape[1] // self.stride
            stacked: Tensor = logs[:, : whole * self.stride].unflatten(1, (whole, self.stride)).flatten(2)
            return stacked
