"""The baseline that the demo prints beside the ensemble: ridge regression on a clip's features.

Its features have no time in them but the spread of the frame-to-frame differences; what a network
gains over it, it gains from order in time and from the shape of its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw_emi.evaluation.score import mean_pearson

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
