"""Splits like those of the challenge, drawn anew as often as wanted, with systems' predictions.

Labels are shares of 2 to 5 raters who each name one of the six emotions or none, so that they look like the
official ones: k/N, rows that sum to at most 1, means per emotion of the official valid split, many zeros
(the published means; the shares of zeros are printed by the benchmark). What a clip
evokes is drawn per clip around what its speaker evokes; 148 speakers have 31 clips each.

A prediction is what the clip evokes, plus an error that is shared within a speaker to a degree, shared
between the two systems to a degree, and else the clip's own. No parameter is fitted to a real system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEANS = np.array([0.159, 0.130, 0.067, 0.013, 0.129, 0.099])
"""Mean labels of the official valid split, in the order of the emotions."""

SPREAD = np.array([0.271, 0.261, 0.217, 0.110, 0.260, 0.244])
"""Standard deviation of the root of what a clip evokes: a signal of 1 is as large as the error."""

CLIPS_PER_SPEAKER = 31
SPEAKERS = 148
"""4,588 clips, as in the official valid split."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What splits are drawn from.

    Attributes:
        speaker: size of the speakers' effects on labels and errors; 0 for independent clips.
        signal: how much of what a clip evokes each system sees.
        shared: share of the systems' error variance that they have in common.
        squashed: whether the second system saturates, is scaled and has an offset: another marginal.
    """

    speaker: float = 0.0
    signal: tuple[float, ...] = (0.55, 0.55)
    shared: float = 0.6
    squashed: bool = False

    def draw(
        self, rng: np.random.Generator, speakers: int = SPEAKERS
    ) -> tuple[Array, Array, Array, npt.NDArray[np.intp]]:
        """Labels (N, 6), the predictions of two systems (N, 6) each, and each clip's speaker (N,)."""
        labels, systems, speaker = self.draw_all(rng, speakers)
        return labels, systems[0], systems[1], speaker

    def draw_all(
        self, rng: np.random.Generator, speakers: int = SPEAKERS
    ) -> tuple[Array, list[Array], npt.NDArray[np.intp]]:
        """The same with as many systems as `signal` is long."""
        speaker = np.repeat(np.arange(speakers), CLIPS_PER_SPEAKER)
        n = len(speaker)
        taste = np.exp(self.speaker * rng.standard_normal((speakers, 7)))
        base = np.append(MEANS, 1 - MEANS.sum()) * taste
        base = 1.6 * base / base.sum(axis=1, keepdims=True)
        evoked = rng.standard_gamma(base[speaker])  # normalised: a Dirichlet draw for each clip
        evoked /= evoked.sum(axis=1, keepdims=True)
        raters = rng.integers(2, 6, n)
        labels = rng.multinomial(raters, evoked)[:, :6] / raters[:, None]
        seen = np.sqrt(evoked[:, :6]) / SPREAD
        common = self._error(rng, speaker, n)
        systems = []
        for signal in self.signal:
            own = self._error(rng, speaker, n)
            error = np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own
            systems.append(signal * seen + error)
        if self.squashed:
            systems[1] = 5 + 0.3 / (1 + np.exp(1.0 - systems[1]))
        return labels, systems, speaker

    def _error(self, rng: np.random.Generator, speaker: npt.NDArray[np.intp], n: int) -> Array:
        share = self.speaker**2 / (1 + self.speaker**2)
        by_speaker = rng.standard_normal((speaker.max() + 1, 6))[speaker]
        return np.sqrt(share) * by_speaker + np.sqrt(1 - share) * rng.standard_normal((n, 6))
