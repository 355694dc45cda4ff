"""What a new model takes from its training clips before the first step: the scale of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.models.branches import Branch
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.logmel import LogMelEncoder


def fit_scales(model: EmiModel, clips: Sequence[Clip] | Sequence[EncodedClip], device: torch.device) -> None:
    """Fits what standardises spectra and features of the model on `device`; backbones have theirs."""
    if isinstance(model.encoder, LogMelEncoder):
        heard = (clip for clip in clips if isinstance(clip, Clip) and clip.has_sound)
        alone = (make_batch([clip]).to(device) for clip in heard)
        model.encoder.fit_scale((batch.waveforms, batch.lengths) for batch in alone)
    for name, branch in zip(model.widths, model.branches, strict=True):
        assert isinstance(branch, Branch)
        seen = (clip.features for clip in clips if clip.features is not None)
        branch.fit_scale(features.arrays[name].read() for features in seen if features.has(name))
