"""Training clips, varied: another speed, noise, loudness, a span of silence.

What comes out depends on the waveform, the config and the generator alone; no global generator is used.
The model's input has zero mean and unit variance per clip, which undoes every gain: so speed and noise
come before that, on the sound as it was recorded, gain and silence after it. A label stays as it is.
torchaudio is imported where it is used: nothing else needs it, and it does not load beside every torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.core.constants import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE

_MOST_MASKED = 0.5
"""Share of a clip that may be silenced; Park et al., arXiv 1904.08779, bound theirs by a share p, too."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Masks variations of clips.

    Attributes:
        config: what is varied, and how far.
        max_samples: a clip that is slowed down is cut to this length.
    """

    config: AugmentationConfig
    max_samples: int = round(MAX_SECONDS * SAMPLE_RATE)

    def before_normalising(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """The waveform as recorded (T,), at one of the speeds and perhaps with noise: (T',)."""
        config = self.config
        if config.speed:
            waveform = self._change_speed(waveform, config.speed[generator.integers(len(config.speed))])
        if config.noise_probability and generator.random() < config.noise_probability:
            from torchaudio.functional import add_noise

            ratio = torch.tensor(generator.uniform(*config.noise_snr_db), dtype=waveform.dtype)
            noise = torch.from_numpy(generator.standard_normal(len(waveform))).to(waveform)
            waveform = add_noise(waveform, noise, ratio)
        return waveform

    def after_normalising(self, waveform: Tensor, generator: np.random.Generator) -> Tensor:
        """The normalised waveform (T,), louder or softer, and with a span of zeros, its mean: (T,)."""
        config = self.config
        if config.gain_db:
            from torchaudio.functional import gain

            waveform = gain(waveform, generator.uniform(-config.gain_db, config.gain_db))
        longest = round(min(config.time_mask_seconds * SAMPLE_RATE, _MOST_MASKED * len(waveform)))
        if longest:
            # Not torchaudio's mask_along_axis: it draws from torch's global generator.
            span = int(generator.integers(longest + 1))
            start = int(generator.integers(len(waveform) - span + 1))
            waveform = waveform.clone()
            waveform[start : start + span] = 0
        return waveform

    def _change_speed(self, waveform: Tensor, factor: float) -> Tensor:
        """(T / factor,), at most `max_samples`; a clip that would become too short keeps its speed.

        By resampling (Ko et al., Interspeech 2015).
        """
        if factor == 1:
            return waveform
        from torchaudio.functional import speed

        faster, _ = speed(waveform, SAMPLE_RATE, factor)
        return faster[: self.max_samples] if len(faster) >= MIN_SAMPLES else waveform
