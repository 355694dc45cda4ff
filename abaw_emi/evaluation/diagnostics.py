"""Diagnostics of a prediction file: signs of mistakes that a schema cannot see.

Each is a guess with its evidence, never a verdict, and nothing is changed. Some need labels (`diagnose`), the
others only the values (`inspect_values`). Their codes: shifted, sorted otherwise, columns swapped, sign,
chance, labels, outside, rounded, clipped, saturated, duplicate, constant, scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, INTENSITY_RANGE
from abaw_emi.core.errors import Diagnostic, DiagnosticWarning, Problem, ScoreError, collect_errors
from abaw_emi.data.align import align
from abaw_emi.data.frames import Given, Table, check_named, read_table
from abaw_emi.data.scope import find_scope
from abaw_emi.evaluation.misalignment import find_columns, find_order, find_signs
from abaw_emi.evaluation.pearson import clipped_mean_pearson, mean_pearson, pearson

_FEW = 20
"""Fewer clips than this say nothing about the spread of values."""

_SAME = 0.9999
"""Two files whose every column correlates so much are all but identical."""

_MOVES = 0.0005
"""A change of mean r that shows in the third decimal."""

_CLIPPING_MOVES = 0.002
"""A change of mean r by clipping that is worth a word: a fifth of what leading systems lie apart."""

_SPREADS = 5.0
"""Members of which one spreads so many times as wide as another: a mean is all but the wide one alone."""

_PILE = 0.02
"""Share of exactly equal values at an end that looks like clipping."""


def diagnose(
    truth: Table, prediction: Table, *, name: str = "predictions", others: Mapping[str, Table] | None = None
) -> list[Diagnostic]:
    """Every sign of a mistake in predictions whose labels are known; of constant columns `score` speaks.

    Tables are CSV files or frames of polars or pandas (`data.frames`). What is doubtful of a file itself is
    a `DiagnosticWarning`.

    Args:
        truth: the labels.
        prediction: predictions of exactly these clips.
        name: what messages call the predictions.
        others: further predictions, by name, that these should differ from.

    Raises:
        ScoreError: a table cannot be used; ids are missing, extra or duplicate; all problems together.
    """
    check_named(others or {}, "others")
    problems: list[Problem] = []
    notes: list[Problem] = []
    given: list[Given] = []
    labels = read_table(truth, "labels", "labels").table
    for called, source in [(name, prediction), *(others or {}).items()]:
        with collect_errors(problems):
            given.append(read_table(source, called, "predictions"))
            if len(given) == 1:
                labels, _, notes = find_scope(labels, {name: given[0]})
                align(labels, given[0].table, ("labels", name))
    if problems:
        raise ScoreError(problems)
    for doubt in [*notes, *(doubt for each in given for doubt in each.doubts)]:
        warnings.warn(str(doubt), DiagnosticWarning, stacklevel=2)
    first, *further = (each.table for each in given)
    return _diagnose(labels, first, name, dict(zip(others or {}, further, strict=True)))


def _diagnose(
    truth: pl.DataFrame, prediction: pl.DataFrame, name: str, others: Mapping[str, pl.DataFrame]
) -> list[Diagnostic]:
    """What `diagnose` finds in tables that are read and have the same clips."""
    by_id = truth.select(FILENAME).join(prediction, on=FILENAME, how="left", maintain_order="left")
    order = np.argsort(np.array(truth[FILENAME].to_list()))
    y = truth.select(EMOTIONS).to_numpy()[order]
    p = by_id.select(EMOTIONS).to_numpy()[order]
    if len(y) < 2:
        return []
    if labels := _labels(y, p, name) or _label_like(p, name):
        return labels
    found = find_order(y, p, truth, prediction, name) + find_columns(y, p, name)
    found = found or find_signs(y, p, name) or _chance(y, p, name)
    found += _outside(y, p, name)
    return [*found, *_values(p, name, y), *find_duplicates(prediction, name, others)]


def inspect_values(
    prediction: pl.DataFrame, *, name: str = "predictions", others: Mapping[str, pl.DataFrame] | None = None
) -> list[Diagnostic]:
    """Every sign of a mistake in predictions whose labels are not known."""
    p = prediction.select(EMOTIONS).to_numpy()
    if len(p) < 2 or not np.isfinite(p).all():
        return []
    if labels := _label_like(p, name):
        return labels
    return [*_values(p, name, None), *find_duplicates(prediction, name, others or {})]


def diagnose_systems(
    systems: Mapping[str, pl.DataFrame], truth: pl.DataFrame | None = None
) -> list[Diagnostic]:
    """Every sign of a mistake in several prediction tables; of two that are duplicates, the first is named.

    Args:
        systems: the tables, by the names that messages call them.
        truth: the labels, where they are known: clips without a label, or without a prediction, are left out.
    """
    found: list[Diagnostic] = []
    names = list(systems)
    for place, (name, table) in enumerate(systems.items()):
        others = {other: systems[other] for other in names[place + 1 :]}
        if truth is None:
            found += [*find_constant(table, name).values(), *inspect_values(table, name=name, others=others)]
        else:
            labelled = truth.join(table, on=FILENAME, how="semi", maintain_order="left")
            predicted = table.join(truth, on=FILENAME, how="semi", maintain_order="left")
            found += _diagnose(labelled, predicted, name, others)
    return found


def find_constant(prediction: pl.DataFrame, name: str) -> dict[str, Diagnostic]:
    """For each emotion that is the same for all clips, a diagnostic."""
    found, expected = "every clip has the same value", "values that differ: r is undefined"
    return {
        emotion: Diagnostic(f"{name}, {emotion}", found, expected, code="constant")
        for emotion in EMOTIONS
        if len(prediction) > 1 and prediction[emotion].drop_nulls().n_unique() == 1
    }


def find_outweighed(members: Mapping[str, pl.DataFrame]) -> list[Diagnostic]:
    """The members that a plain mean hardly counts, as their values vary so little beside another's.

    By the median of the six emotions' standard deviations; a member that is constant is named elsewhere.
    """
    spreads = {
        name: float(np.median(np.nanstd(table.select(EMOTIONS).to_numpy(), axis=0)))
        for name, table in members.items()
        if len(table)
    }
    widest = max(spreads, key=spreads.__getitem__, default="")
    return [
        Diagnostic(
            name,
            f"its values spread {spreads[widest] / spread:,.0f} times less than those of {widest}: "
            "the mean hardly counts it",
            "members of one scale",
            "use method zscores",
            code="scale",
        )
        for name, spread in spreads.items()
        if 0 < spread * _SPREADS <= spreads[widest]
    ]


def find_duplicates(
    prediction: pl.DataFrame, name: str, others: Mapping[str, pl.DataFrame]
) -> list[Diagnostic]:
    """The other files that are this one over again, or all but."""
    found = []
    for other, table in others.items():
        both = prediction.join(table, on=FILENAME, how="inner", suffix=" of the other")
        if len(both) < 2 or len(both) < 0.9 * len(prediction):
            continue
        a = both.select(EMOTIONS).to_numpy()
        b = both.select(f"{emotion} of the other" for emotion in EMOTIONS).to_numpy()
        same = (a.astype(np.float32) == b.astype(np.float32)).all()  # what files hold
        if same or _are_alike(a, b):
            what = "the same values as" if same else f"all but identical to (every r > {_SAME:g})"
            found.append(Diagnostic(name, f"{what} {other}", "another system", code="duplicate"))
    return found


def _are_alike(a: Array, b: Array) -> bool:
    """Whether every column correlates all but perfectly, or is constant in both; one at least is not."""
    r = pearson(a, b)
    constant = (np.ptp(a, axis=0) == 0) & (np.ptp(b, axis=0) == 0)
    return bool((constant | (r > _SAME)).all() and not constant.all())


def _labels(y: Array, p: Array, name: str) -> list[Diagnostic]:
    r = mean_pearson(y, p)
    if r < 0.999:
        return []
    return [Diagnostic(name, f"these are the labels (mean r {r:.4f})", "predictions", code="labels")]


def _chance(y: Array, p: Array, name: str) -> list[Diagnostic]:
    error, r = 1 / np.sqrt(y.size), mean_pearson(y, p)
    if len(y) < 5 * _FEW or abs(r) > 3 * error:
        return []
    found = f"mean r is {r:.4f}, what chance gives (within {3 * error:.4f})"
    step = "perhaps rows and ids do not belong together"
    return [Diagnostic(name, found, next_step=step, code="chance")]


def _outside(y: Array, p: Array, name: str) -> list[Diagnostic]:
    low, high = INTENSITY_RANGE
    outside = int(((p < low) | (p > high)).sum())
    raw, clipped = mean_pearson(y, p), clipped_mean_pearson(y, p)
    if abs(clipped - raw) < _CLIPPING_MOVES:
        return []
    found = f"{outside:,} values lie outside [{low:g}, {high:g}] and were scored raw"
    step = f"submit clips them, which moves the mean r from {raw:.4f} to {clipped:.4f}"
    return [Diagnostic(name, found, next_step=step, code="outside")]


def _values(p: Array, name: str, y: Array | None) -> list[Diagnostic]:
    """Rounded, clipped, saturated."""
    decimals = _count_decimals(p)
    diagnostics = _rounded(p, decimals, name, y)
    if len(p) < _FEW:
        return diagnostics
    for emotion, column in zip(EMOTIONS, p.T, strict=True):
        where = f"{name}, {emotion}"
        values, counts = np.unique(column, return_counts=True)
        near_ends = float(((np.abs(column) < 1e-3) | (np.abs(column - 1) < 1e-3)).mean())
        if len(values) == 1:
            continue  # see `find_constant`
        if counts.max() > len(column) / 2:
            found = f"{counts.max() / len(column):.0%} of the values are {values[counts.argmax()]:g}"
            diagnostics.append(Diagnostic(where, found, "values that differ", code="saturated"))
        elif near_ends > 0.5:
            found = f"saturated: {near_ends:.0%} of the values lie within .001 of 0 or 1"
            diagnostics.append(Diagnostic(where, found, code="saturated"))
        elif decimals is None:
            piles = {float(values[end]): int(counts[end]) for end in (0, -1)}
            clipped = [
                f"{count / len(column):.1%} are exactly {end:g}"
                for end, count in piles.items()
                if count >= max(_PILE * len(column), 3) and not _are_one_row(p[column == end])
            ]
            if clipped:
                found = f"{' and '.join(clipped)}: the values look clipped, which moves r"
                step = "score the raw output too"
                diagnostics.append(Diagnostic(where, found, next_step=step, code="clipped"))
    return diagnostics


def _rounded(p: Array, decimals: int | None, name: str, y: Array | None) -> list[Diagnostic]:
    """Rounded values, and by how much that moves r: measured by rounding noise added once more."""
    if decimals is None:
        return []
    step = 10.0**-decimals
    if y is None:
        spread = p.std(axis=0)
        noise = step / np.sqrt(12) / np.where(spread > 0, spread, np.inf)  # beside the column's own spread
        moves = float(np.sqrt((noise**2).mean() / p.size))
    else:
        rng = np.random.default_rng(1)
        again = [mean_pearson(y, p + rng.uniform(-step / 2, step / 2, p.shape)) for _ in range(20)]
        moves = float(np.sqrt(np.mean((np.array(again) - mean_pearson(y, p)) ** 2)))
    if decimals > 2 and moves < _MOVES:
        return []
    places = f"{decimals} decimal{'' if decimals == 1 else 's'}"
    found = f"values are rounded to {places}, which moves the mean r by about {moves:.5f}"
    return [Diagnostic(name, found, "6 decimals or more", code="rounded")]


def _count_decimals(p: Array) -> int | None:
    """The decimals that all values keep to, None for more than four."""
    for decimals in range(5):
        if np.allclose(p, p.round(decimals), rtol=0, atol=1e-7):  # float32 digits, too
            return decimals
    return None


def _label_like(p: Array, name: str) -> list[Diagnostic]:
    low, high = INTENSITY_RANGE
    fractions = any(np.allclose(p * n, (p * n).round(), atol=1e-3) for n in (60, 420, 2520))
    sums_to_one = (p.sum(axis=1) <= 1 + 1e-6).all()
    alike = len(p) >= _FEW and p.min() >= low and p.max() <= high and (p == 0).mean() > 0.3
    if not (alike and fractions and sums_to_one):
        return []
    found = "values look like labels: simple fractions, many zeros, rows that sum to at most 1"
    return [Diagnostic(name, found, "predictions", code="labels")]


def _are_one_row(rows: Array) -> bool:
    """Whether clips have the same six values: by one input, such as an empty transcript, not by clipping."""
    return bool((rows == rows[0]).all())
