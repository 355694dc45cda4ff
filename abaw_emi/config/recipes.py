"""What a training recipe may ask for beyond the paper's: how its text is read, and its dials. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field

LOSSES = ("mse", "ccc", "pearson")
"""Names of the losses; `learning.losses` has the formulas."""


def parse_loss(text: str) -> tuple[tuple[float, str], ...]:
    """The weight and the name of each term of a loss that is written as a sum.

    Raises:
        ValueError: a term is not a known name with a positive weight, or a name comes twice.

    >>> parse_loss("0.5*mse + ccc")
    ((0.5, 'mse'), (1.0, 'ccc'))
    """
    terms: list[tuple[float, str]] = []
    for term in text.split("+"):
        factor, times, name = term.rpartition("*")
        try:
            weight = float(factor) if times else 1.0
        except ValueError:
            weight = math.nan
        name = name.strip()
        if name not in LOSSES or not 0 < weight < math.inf:
            raise ValueError(
                f"loss {text!r}: term {term.strip()!r} is none; expected {', '.join(LOSSES)}, each alone or "
                'with a positive weight, such as "mse", "mse+pearson" or "0.5*mse+ccc"'
            )
        if any(name == known for _, known in terms):
            raise ValueError(f"loss {text!r}: {name} comes twice; expected each loss once")
        terms.append((weight, name))
    return tuple(terms)


_Decibels = Annotated[float, Field(ge=-100, le=100, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """How training clips are varied; by default not at all, as in the paper and its code."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)

    speed: tuple[Annotated[float, Field(ge=0.5, le=2, strict=True)], ...] = ()
    """Factors of which each clip draws one, such as [0.9, 1.0, 1.1]; pitch goes with speed. Whole
    hundredths; none for the clip's own speed."""

    noise_probability: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.0
    """Share of the clips that get white noise."""

    noise_snr_db: tuple[_Decibels, _Decibels] = (10.0, 30.0)
    """Lowest and highest signal-to-noise ratio of such a clip, in dB."""

    gain_db: Annotated[float, Field(ge=0, le=40, strict=True)] = 0.0
    """Most by which the normalised clip is made louder or softer, in dB."""

    time_mask_seconds: Annotated[float, Field(ge=0, strict=True)] = 0.0
    """Longest span of a clip that is silenced, never more than half of the clip."""

    def __post_init__(self) -> None:
        for factor in self.speed:
            # torchaudio resamples 12 s by 110 to 100 in 4 ms, and by 1003 to 1000 in 19 s.
            if not math.isclose(100 * factor, round(100 * factor)):
                raise ValueError(f"speed {factor} is not a whole hundredth, such as 0.9 or 1.05")
        low, high = self.noise_snr_db
        if low > high:
            raise ValueError(f"noise_snr_db [{low}, {high}] runs from high to low")

    @property
    def active(self) -> bool:
        """Whether any clip is varied."""
        return (
            any(factor != 1 for factor in self.speed)
            or self.noise_probability > 0
            or self.gain_db > 0
            or self.time_mask_seconds > 0
        )
