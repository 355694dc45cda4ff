"""Whether waveforms are normalised as a model expects them: nothing else would show that they are not."""

from __future__ import annotations

import torch
from torch import Tensor

_FARTHEST_MEAN = 0.2
_SPREADS = (0.5, 2.0)
"""Of a normalised clip the mean is 0 and the standard deviation 1, less for a clip that is nearly silent
(0.5 at 75 dB below full scale); speech as it is recorded has 0.003 to 0.3."""

_SILENT = 1e-5
"""Below the step of 16-bit sound."""


def describe_unnormalised(waveforms: Tensor, lengths: Tensor) -> str | None:
    """How the first clip that is not normalised differs, in words; None where all are, or are silent.

    Args:
        waveforms: (B, T), of any dtype.
        lengths: (B,) samples of each clip; what lies beyond them is not looked at.
    """
    values = waveforms.detach().float()
    lengths = lengths.to(values.device)
    real = torch.arange(values.shape[1], device=values.device) < lengths[:, None]  # (B, T)
    means = values.where(real, 0).sum(1) / lengths
    spreads = ((values - means[:, None]).square().where(real, 0).sum(1) / lengths).sqrt()
    low, high = _SPREADS
    strange = (means.abs() > _FARTHEST_MEAN) | ((spreads < low) & (spreads > _SILENT)) | (spreads > high)
    if not strange.any():
        return None
    row = int(strange.nonzero()[0, 0])
    return f"clip {row} of the batch has mean {float(means[row]):.3g}, deviation {float(spreads[row]):.3g}"
