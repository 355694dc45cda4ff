"""The baseline that the demo prints beside the ensemble: ridge regression on a clip's features.

Its features have no time in them but the spread of the frame-to-frame differences; what a network
gains over it, it gains from order in time and from the shape of its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import hann

from abaw_emi.core import constants
from abaw_emi.evaluation.score import mean_pearson
from abaw_emi.models.encoders.logmel import mel_filters

FOLDS = 5
LAMBDAS = tuple(float(value) for value in np.geomspace(1.0, 1e5, 21))


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

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Intensities (N, 6), not clipped, for the features (N, D) of N clips."""
        return (features - self.mean) / self.scale @ self.weights + self.offset


def fit_ridge(features: NDArray[np.float64], intensities: NDArray[np.float64]) -> Ridge:
    """The ridge whose lambda has the best mean Pearson over `FOLDS` folds of the given clips.

    Args:
        features: Of the training clips (N, D).
        intensities: Their labels (N, 6).
    """
    held_out = np.arange(len(features)) % FOLDS
    guesses = np.empty((len(LAMBDAS), *intensities.shape))
    for fold in range(FOLDS):
        inside = held_out != fold
        for guess, ridge in zip(guesses, _ridges(features[inside], intensities[inside]), strict=True):
            guess[~inside] = ridge.predict(features[~inside])
    best = int(np.argmax([mean_pearson(intensities, guess) for guess in guesses]))
    return _ridges(features, intensities)[best]


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


MELS = 64  # as many as the demo's encoder has
WIDTH = 768  # of the official sound features

_HOP = 160  # samples: 10 ms
_FFT = 512


def log_mel_statistics(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and standard deviation of each log-mel band, and of its differences the latter: (3 * MELS,)."""
    log_mels = _log_mels(waveform)
    # A clip of one frame has no differences; a row of zeros says just that.
    differences = np.diff(log_mels, axis=0) if len(log_mels) > 1 else np.zeros((1, MELS))
    return np.concatenate((log_mels.mean(0), log_mels.std(0), differences.std(0)))


def describe_sound(waveform: NDArray[np.float32]) -> NDArray[np.float16]:
    """Sound features (F, 768), a frame for each of wav2vec 2.0's: a fixed random layer on log-mels.

    Its input includes how a band differs from the frame before, and it is not linear: so the mean of its
    features says more about a clip than the mean of the log-mels. float16 halves the folder's size.
    """
    log_mels = (_log_mels(waveform) + 2.0) / 3.0  # roughly standardised
    steps = np.diff(log_mels, axis=0, prepend=log_mels[:1])
    every = constants.HOP_SAMPLES // _HOP
    seen = np.concatenate((log_mels, steps), axis=1)[::every]  # (F, 2 * MELS)
    weights, bias = _layer()
    return np.tanh(seen @ weights + bias).astype(np.float16)


def _log_mels(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-mels (F, MELS) every 10 ms of a waveform (T,) at 16 kHz, of at least 400 samples."""
    standardised = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    frames = np.lib.stride_tricks.sliding_window_view(standardised, constants.MIN_SAMPLES)[::_HOP]
    power = np.abs(np.fft.rfft(frames * hann(constants.MIN_SAMPLES, sym=False), _FFT)) ** 2  # (F, K)
    return np.asarray(np.log(power @ _mel_filters() + 1e-3), np.float64)


@cache
def _mel_filters() -> NDArray[np.float64]:
    """Triangular filters (K, MELS) from 0 Hz to half the sample rate, as in the encoder."""
    return np.asarray(mel_filters(_FFT // 2 + 1, MELS), dtype=np.float64)


@cache
def _layer() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The "trained" weights (2 * MELS, 768) and bias (768,): the same for every corpus."""
    rng = np.random.default_rng(WIDTH)
    return rng.standard_normal((2 * MELS, WIDTH)) / np.sqrt(MELS), rng.standard_normal(WIDTH)
