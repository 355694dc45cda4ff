"""Predictions of the same clips combined into one, by a recipe given or found on labelled clips.

Members are matched by Filename, never by row. Weights of different runs are never averaged, only what
they predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, EnsembleMethod, OnMissing, Scheme
from abaw_emi.core.errors import Problem, ScoreError, UsageError
from abaw_emi.data.align import align, compare_ids
from abaw_emi.data.groups import number_groups
from abaw_emi.ensembling.crossfit import CrossFit, cross_fit
from abaw_emi.ensembling.schemes import FITTED, SCHEMES, combine, equal
from abaw_emi.evaluation.bootstrap import Resampling

METHODS: tuple[EnsembleMethod, ...] = (*SCHEMES, "auto")

MISSING: tuple[OnMissing, ...] = get_args(OnMissing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How members are combined.

    Attributes:
        scheme: see `schemes.SCHEMES`.
        weights: (K, M), each row summing to 1; None for equal ones.
        report: of the cross-fitting that chose or fitted it; None where nothing was.
        labelled: ids of the clips whose labels it was chosen or fitted on.
    """

    scheme: Scheme = "mean"
    weights: Array | None = None
    report: CrossFit | None = None
    labelled: frozenset[str] = frozenset()


PLAIN_MEAN = Recipe()


def find_recipe(
    truth: pl.DataFrame,
    members: Mapping[str, pl.DataFrame],
    method: EnsembleMethod = "auto",
    *,
    groups: pl.DataFrame | None = None,
    how: Resampling | None = None,
    name: str = "labels",
) -> Recipe:
    """The way to combine members that does best on labelled clips, out of fold.

    Args:
        truth: the labels.
        members: each member's predictions of these clips; what it has besides is left out, and clips that
            any member lacks are not used.
        method: one of `schemes.SCHEMES`, or "auto": the simplest that no other one is shown to beat.
        groups: the clips' groups, never parted by a fold.
        how: resampling of the report; its units are taken from `groups`.
        name: what messages call the labels.

    Raises:
        ScoreError: fewer than two members, or too few clips that all members have.
    """
    if len(members) < 2:
        raise ScoreError(Problem("ensemble", f"{len(members)} member", "two at least, to weigh them"))
    shared = set(truth[FILENAME]).intersection(*(table[FILENAME] for table in members.values()))
    common = truth.filter(pl.col(FILENAME).is_in(list(shared)))
    if len(common) < 2:
        found = f"{len(common)} clips of {name} that all members have"
        raise ScoreError(Problem("ensemble", found, "their predictions of the labelled clips"))
    stacked = []
    for member, table in members.items():
        y, p = align(common, table.filter(pl.col(FILENAME).is_in(list(shared))), (name, member))
        stacked.append(p)
    units = None if groups is None else number_groups(groups, common[FILENAME].to_list(), (name, "groups"))
    tried = SCHEMES if method == "auto" else (method,)
    resampling = replace(how or Resampling(), units=units)
    report = cross_fit(y, np.stack(stacked), list(members), resampling, schemes=tried)
    scheme = report.chosen if method == "auto" else method
    return Recipe(
        scheme=scheme,
        weights=report.schemes[scheme].weights,
        report=report,
        labelled=frozenset(common[FILENAME]),
    )


def ensemble(
    members: Mapping[str, pl.DataFrame],
    method: EnsembleMethod = "mean",
    *,
    labels: pl.DataFrame | None = None,
    fit: Mapping[str, pl.DataFrame] | None = None,
    groups: pl.DataFrame | None = None,
    missing: OnMissing = "error",
    recipe: Recipe | None = None,
) -> pl.DataFrame:
    """The members' predictions combined for each clip and emotion, sorted by id, in float64.

    Args:
        members: prediction tables (`tables.read_predictions`) by a name for messages; at least one.
        method: "mean", "zscores" or "ranks", which need no labels; "greedy", "weights" or
            "emotion-weights", fitted; or "auto".
        labels: of the clips that a scheme is fitted or chosen on.
        fit: the members' predictions of those clips, under the same names. None means that `members` are
            these: what a fitted scheme returns for them then is out of fold, so that no clip's own label
            shaped it.
        groups: of the labelled clips, never parted by a fold.
        missing: what becomes of a clip that a member lacks: "error" refuses; "drop" leaves it out; "others"
            combines the members that have it.
        recipe: how to combine (`find_recipe`), in place of `method`.

    Raises:
        ScoreError: no member, a member lacks clips that another one has, or a clip is there twice; all named.
        UsageError: a fitted method without labels, or an unknown method.

    >>> table = pl.DataFrame({FILENAME: ["00001", "00002"], **dict.fromkeys(EMOTIONS, [0.25, 0.5])})
    >>> ensemble({"a": table, "b": table.with_columns(Joy=pl.lit(1.0))})["Joy"].to_list()
    [0.625, 0.75]
    """
    if method not in METHODS:
        raise UsageError(Problem("ensemble", f"method {method!r}", f"one of {', '.join(METHODS)}"))
    if recipe is None and (method == "auto" or method in FITTED):
        if labels is None:
            raise UsageError(Problem("ensemble", f"method {method} without labels", "labels to fit it on"))
        recipe = find_recipe(labels, members if fit is None else fit, method, groups=groups)
        if fit is None and recipe.scheme in FITTED:
            return out_of_fold(recipe, labels, members, missing)
    if recipe is None:
        recipe = Recipe(scheme=method)  # type: ignore[arg-type]  # it is no fitted method
    clips, stacked, present = _stack(members, missing)
    weights = equal(len(members), len(EMOTIONS)) if recipe.weights is None else recipe.weights
    combined = combine(stacked, recipe.scheme, weights, present)
    return pl.DataFrame({FILENAME: clips, **dict(zip(EMOTIONS, combined.T, strict=True))})


def out_of_fold(
    recipe: Recipe, labels: pl.DataFrame, members: Mapping[str, pl.DataFrame], missing: OnMissing = "error"
) -> pl.DataFrame:
    """The members combined such that no clip's own label shaped what is predicted for it, sorted by id.

    The labelled clips that all members have are out of fold; any other clip, of which no label was looked
    at, is combined with the weights of all.

    Args:
        recipe: what `find_recipe` found on `labels` and these members.
        labels: the label table.
        members: see `ensemble`.
        missing: see `ensemble`.

    Raises:
        ScoreError: see `ensemble`.
    """
    assert recipe.report is not None
    combined = ensemble(members, recipe=recipe, missing=missing)
    clips = labels.filter(pl.col(FILENAME).is_in(list(recipe.labelled)))[FILENAME]
    values = recipe.report.predictions[recipe.scheme]
    own = pl.DataFrame({FILENAME: clips, **dict(zip(EMOTIONS, values.T, strict=True))})
    return combined.update(own, on=FILENAME)


def find_gaps(members: Mapping[str, pl.DataFrame]) -> dict[str, list[str]]:
    """The clips that each member lacks and another one has, sorted; only members that lack some."""
    clips = {clip for table in members.values() for clip in table[FILENAME]}
    gaps = {name: sorted(clips.difference(table[FILENAME])) for name, table in members.items()}
    return {name: lacking for name, lacking in gaps.items() if lacking}


def _stack(
    members: Mapping[str, pl.DataFrame], missing: OnMissing
) -> tuple[list[str], Array, npt.NDArray[np.bool_]]:
    """Clips, sorted; (M, N, 6) predictions; (M, N) whether a member has the clip."""
    if not members:
        raise ScoreError(Problem("ensemble", "no member", "at least one prediction table"))
    if missing not in MISSING:
        raise UsageError(Problem("ensemble", f"missing {missing!r}", f"one of {', '.join(MISSING)}"))
    first = next(iter(members))
    clips = sorted(members[first][FILENAME])
    problems = []
    for name, table in members.items():
        against = clips if missing == "error" else table[FILENAME].unique().to_list()
        problems += compare_ids(against, table[FILENAME].to_list(), name, first)
    if problems:
        raise ScoreError(problems)
    sets = [set(table[FILENAME]) for table in members.values()]
    together = set.intersection(*sets) if missing == "drop" else set.union(*sets)
    if not together:
        raise ScoreError(
            Problem("ensemble", "no clip that all members have", "predictions of the same clips")
        )
    clips = sorted(together)
    rows = pl.DataFrame({FILENAME: clips})
    stacked = np.stack(
        [
            rows.join(table, on=FILENAME, how="left", maintain_order="left").select(EMOTIONS).to_numpy()
            for table in members.values()
        ]
    ).astype(np.float64)
    present = np.array([[clip in own for clip in clips] for own in sets])
    return clips, np.where(present[:, :, None], stacked, 0.0), present
