"""The names of the losses, and how a weighted sum of them is written. No torch."""

from __future__ import annotations

import math

LOSSES = ("mse", "smooth-l1", "ccc", "pearson", "gate")
"""Names of the losses; `training.optimisation.losses` has the formulas."""


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
