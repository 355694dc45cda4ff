"""A smell: one sign of a mistake in a prediction file. A guess with its evidence, never a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from abaw_emi.core.errors import Problem

Kind = Literal[
    "shifted", "sorted otherwise", "columns swapped", "sign", "chance", "labels", "outside", "rounded",
    "clipped", "saturated", "duplicate",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Smell:
    """One sign of a mistake: what kind, and where and what was found."""

    kind: Kind
    problem: Problem
