"""Small models of each encoder, and clips of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import Wav2Vec2FeatureExtractor

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Example
from abaw_emi.config.model import ModelConfig
from abaw_emi.core.progress import Reporter
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from tests.backbones import small_config

ENCODERS = ("layer", "group", "logmel")
"""wav2vec 2.0 with layer norm, with group norm, and the log-mel encoder."""

CPU = Runtime(device=torch.device("cpu"), precision="fp32", reporter=Reporter(quiet=True))

SHORTEST, LONGEST = 400, 192_000


def small_model(
    encoder: str, *, seed: int = 0, backbone: dict[str, Any] | None = None, **parts: Any
) -> EmiModel:
    """An `EmiModel` in evaluation mode whose weights are all random, biases and scales included."""
    if encoder == "logmel":
        config = EmiConfig.from_parts(ModelConfig(encoder="logmel", vad_head=False, **parts))
    else:
        config = EmiConfig.from_parts(ModelConfig(**parts), small_config(encoder, **(backbone or {})))
    torch.manual_seed(seed)
    model = EmiModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def make_clip(number: int, samples: int, *, decibels: float = -10.0) -> Clip:
    """A clip of noise that differs from number to number, at this level below full scale."""
    rng = np.random.default_rng([number, samples])
    time = np.arange(samples) / 16_000
    sound = rng.standard_normal(samples) + 2 * np.sin(2 * np.pi * rng.uniform(80, 4_000) * time)
    sound = sound / np.sqrt(np.mean(sound**2)) * 10 ** (decibels / 20)
    return Clip.from_waveform(f"{number:05}", sound.astype(np.float32), Path(f"{number:05}.wav"))


def make_example(number: int, samples: int, *, decibels: float = -10.0) -> Example:
    """The example of `make_clip`'s clip, without features."""
    return from_waveform(number, make_clip(number, samples, decibels=decibels).waveform)


def from_waveform(number: int, waveform: npt.NDArray[np.float32]) -> Example:
    """An example of this sound alone."""
    filename = f"{number:05}"
    return Example.join(filename, Clip.from_waveform(filename, waveform))


def normalise(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A waveform (T,) as the pre-processor of wav2vec 2.0 normalises it."""
    values: npt.NDArray[np.float32] = Wav2Vec2FeatureExtractor()(waveform, sampling_rate=16_000)[
        "input_values"
    ][0]
    return values
