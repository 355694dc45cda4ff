"""The baseline that the demo prints beside the ensemble: ridge regression on log-mel statistics.

No time is left in its features but the spread of the frame-to-frame differences; what a network
gains over it, it gains from order in time and from the shape of its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import hann
from torchaudio.functional import melscale_fbanks

from abaw_emi.challenge import facts
from abaw_emi.challenge.scoring import mean_pearson

MELS = 64  # as many as the demo's encoder has
FOLDS = 5
LAMBDAS = tuple(float(value) for value in np.geomspace(1.0, 1e5, 21))

_HOP = 160  # samples: 10 ms
_FFT = 512


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted baseline.

    Attributes:
        mean: Of the training features (D,).
        scale: Standard deviation of the training features (D,).
        weights: Of the standardised features (D, 6).
        offset: Mean training intensities (6,).
        penalty: The lambda that cross-validation within the training clips chose.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    penalty: float

    def predict(self, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Intensities (N, 6), not clipped, for N waveforms (T,) at 16 kHz."""
        features = np.stack([log_mel_statistics(waveform) for waveform in waveforms])
        return (features - self.mean) / self.scale @ self.weights + self.offset


def fit_ridge(waveforms: Sequence[NDArray[np.float32]], intensities: NDArray[np.float64]) -> Ridge:
    """The ridge whose lambda has the best mean Pearson over `FOLDS` folds of the given clips.

    Args:
        waveforms: Training clips, each (T,) at 16 kHz, of at least one frame (400 samples).
        intensities: Their labels (N, 6).
    """
    features = np.stack([log_mel_statistics(waveform) for waveform in waveforms])
    held_out = np.arange(len(features)) % FOLDS
    guesses = np.empty((len(LAMBDAS), *intensities.shape))
    for fold in range(FOLDS):
        inside = held_out != fold
        for guess, ridge in zip(guesses, _ridges(features[inside], intensities[inside]), strict=True):
            standardised = (features[~inside] - ridge.mean) / ridge.scale
            guess[~inside] = standardised @ ridge.weights + ridge.offset
    best = int(np.argmax([mean_pearson(intensities, guess) for guess in guesses]))
    return _ridges(features, intensities)[best]


def log_mel_statistics(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean, standard deviation and standard deviation of the differences of each log-mel band: (3 * MELS,).

    The waveform is standardised first, as for every encoder, so that loudness does not matter.
    """
    standardised = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    frames = np.lib.stride_tricks.sliding_window_view(standardised, facts.MIN_SAMPLES)[::_HOP]
    power = np.abs(np.fft.rfft(frames * hann(facts.MIN_SAMPLES, sym=False), _FFT)) ** 2  # (F, K)
    log_mels = np.log(power @ _mel_filters() + 1e-3)  # (F, MELS)
    # A clip of one frame has no differences; a row of zeros says just that.
    differences = np.diff(log_mels, axis=0) if len(log_mels) > 1 else np.zeros((1, MELS))
    return np.concatenate((log_mels.mean(0), log_mels.std(0), differences.std(0)))


def _ridges(features: NDArray[np.float64], intensities: NDArray[np.float64]) -> list[Ridge]:
    """One ridge per lambda, all from a single decomposition."""
    mean = features.mean(0)
    scale = np.maximum(features.std(0), 1e-8)
    offset = intensities.mean(0)
    left, values, right = np.linalg.svd((features - mean) / scale, full_matrices=False)
    targets = left.T @ (intensities - offset)  # (R, 6)
    return [
        Ridge(mean, scale, right.T @ (targets * (values / (values**2 + penalty))[:, None]), offset, penalty)
        for penalty in LAMBDAS
    ]


def _mel_filters() -> NDArray[np.float64]:
    """Triangular filters (K, MELS) from 0 Hz to half the sample rate: torchaudio's, as in the encoder."""
    filters = melscale_fbanks(_FFT // 2 + 1, 0.0, facts.SAMPLE_RATE / 2, MELS, facts.SAMPLE_RATE)
    return np.asarray(filters, dtype=np.float64)
