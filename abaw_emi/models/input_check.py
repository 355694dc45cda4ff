"""What a model is called with by hand: its form, and whether it is normalised, which nothing else shows."""

from __future__ import annotations

import torch
from torch import Tensor

from abaw_emi.core.constants import MIN_SAMPLES
from abaw_emi.core.errors import Problem, UsageError

_FARTHEST_MEAN = 0.2
_SPREADS = (0.5, 2.0)
"""Of a normalised clip the mean is 0 and the standard deviation 1, less for a clip that is nearly silent
(0.5 at 75 dB below full scale); speech as it is recorded has 0.003 to 0.3."""

_INTEGERS = (torch.int64, torch.int32, torch.int16)

_SILENT = 1e-5
"""Below the step of 16-bit sound."""


def read_input(
    waveforms: Tensor | None,
    lengths: Tensor | None,
    input_values: Tensor | None,
    attention_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Waveforms (B, T) and their lengths (B,), under their own names or under those of transformers.

    Args:
        waveforms: (B, T).
        lengths: (B,) samples of each clip.
        input_values: in the place of `waveforms`.
        attention_mask: (B, T), 1 at a clip's samples and 0 beyond its end, in the place of `lengths`.

    Raises:
        UsageError: one is missing or given twice, or of another form; all such problems.
    """
    for name, values, other in (
        ("waveforms", waveforms, input_values),
        ("lengths", lengths, attention_mask),
    ):
        if (values is None) == (other is None):
            found = "not given" if values is None else "given twice"
            expected = "model(waveforms, lengths), or model(**inputs) of a feature extractor"
            raise UsageError(Problem(name, found, expected))
    sound = input_values if waveforms is None else waveforms
    if not isinstance(sound, Tensor) or sound.ndim != 2 or not sound.is_floating_point():
        raise UsageError(Problem("waveforms", _describe(sound), "a tensor of floats (B, T)"))
    if attention_mask is not None:
        if not isinstance(attention_mask, Tensor) or attention_mask.shape != sound.shape:
            shape = f"a tensor {tuple(sound.shape)}"
            raise UsageError(Problem("attention_mask", _describe(attention_mask), shape))
        lengths = attention_mask.long().sum(1)
    if problem := _check_lengths(lengths, *sound.shape):
        raise UsageError(problem)
    assert lengths is not None, "checked above"
    return sound, lengths


def _check_lengths(lengths: Tensor | None, clips: int, samples: int) -> Problem | None:
    """What is wrong with lengths for waveforms of `clips` rows of `samples`; None if nothing is."""
    expected = f"a tensor of integers ({clips},): the samples of each clip, {MIN_SAMPLES} to {samples}"
    if not isinstance(lengths, Tensor) or lengths.shape != (clips,) or lengths.dtype not in _INTEGERS:
        is_mask = isinstance(lengths, Tensor) and lengths.shape == (clips, samples)
        step = "give a mask as attention_mask" if is_mask else ""
        return Problem("lengths", _describe(lengths), expected, step)
    if torch.compiler.is_compiling() or lengths.is_meta:  # there are no values to look at
        return None
    wrong = (lengths < MIN_SAMPLES) | (lengths > samples)
    if not wrong.any():
        return None
    row = int(wrong.nonzero()[0, 0])
    return Problem(f"lengths, clip {row} of the batch", f"{int(lengths[row])}", expected)


def _describe(values: object) -> str:
    """The form of what stands where a tensor should."""
    if not isinstance(values, Tensor):
        return f"a {type(values).__name__}"
    return f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"


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
