"""Predictions of the same clips combined into one, by a scheme that is given or found on labelled clips.

Members are matched by Filename, never by row. Weights of different runs are never averaged, only what
they predict.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, EnsembleMethod, OnMissing
from abaw_emi.core.errors import DiagnosticWarning, Problem, ScoreError, UsageError
from abaw_emi.core.ids import pack_ids
from abaw_emi.data.align import compare_ids, list_ids
from abaw_emi.data.frames import Ids, Table
from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.ensembling.fit import METHODS, Recipe, find_recipe, needs_labels
from abaw_emi.ensembling.members import Members, collect_members
from abaw_emi.ensembling.schemes import combine, equal
from abaw_emi.evaluation.diagnostics import diagnose_systems, find_outweighed

__all__ = ["METHODS", "combine_members", "ensemble", "find_gaps", "find_recipe", "write_ensemble"]

MISSING: tuple[OnMissing, ...] = get_args(OnMissing)

PLAIN_MEAN = Recipe()


def ensemble(
    members: Mapping[str, Table],
    method: EnsembleMethod = "mean",
    *,
    labels: Table | None = None,
    fit: Mapping[str, Table] | None = None,
    groups: Table | None = None,
    missing: OnMissing = "error",
    recipe: Recipe | None = None,
    trained_on: Mapping[str, Ids] | None = None,
) -> pl.DataFrame:
    """The members' predictions combined for each clip and emotion, sorted by id, in float64.

    What the command `ensemble` refuses is refused, and what it warns of is a `DiagnosticWarning`. A file's
    provenance record is read with it; a table does not say what its predictor was trained on.

    Args:
        members: predictions, frames of polars or pandas or CSV files, by a name for messages.
        method: "mean", "zscores" or "ranks", which need no labels; "greedy", "weights" or
            "emotion-weights", fitted; or "auto".
        labels: of the clips that a scheme is fitted or chosen on, a table or a file.
        fit: the members' predictions of those clips, under the same names. None means that `members` are
            these: what a fitted scheme returns for them then is out of fold, so that no clip's own label
            shaped it.
        groups: of the labelled clips, never parted by a fold.
        missing: what is done with a clip that a member is missing: "error" refuses; "drop" leaves it out;
            "others" combines the members that have it.
        recipe: how to combine (`find_recipe`), in place of `method`; of members of the same names.
        trained_on: ids that a member was trained on, or a table of them, by its name; what a file's record
            names is known besides.

    Raises:
        ScoreError: no member; a file that cannot be used; a value that is not finite; a clip that is there
            twice, or that another member has; see `find_recipe`, too. All problems of a kind together.
        UsageError: a fitted method without labels, what a method does not look at, an unknown method, or a
            recipe for other members.

    >>> table = pl.DataFrame({FILENAME: ["00001", "00002"], **dict.fromkeys(EMOTIONS, [0.25, 0.5])})
    >>> ensemble({"a": table, "b": table.with_columns(Joy=pl.Series([1.0, 0.75]))})["Joy"].to_list()
    [0.625, 0.625]
    """
    if not isinstance(recipe, Recipe | None):
        found = f"a {type(recipe).__name__}"
        raise UsageError(Problem("recipe", found, "what find_recipe returns"))
    fitting = needs_labels("mean" if recipe else method, labels=labels, fit=fit, groups=groups)
    if fit is not None and fit.keys() != members.keys():
        raise UsageError(_refuse_names("fit", fit, members))
    problems: list[Problem] = []
    doubts: list[Problem] = []
    given = collect_members(members, problems, doubts, doubts, trained_on)
    if problems:
        raise ScoreError(problems)
    if recipe and recipe.members:
        if set(recipe.members) != given.keys():
            raise UsageError(_refuse_names("recipe", recipe.members, given))
        given = {name: given[name] for name in recipe.members}  # the order of its weights
    if fitting:
        if labels is None:
            raise UsageError(Problem("ensemble", f"method {method} without labels", "labels to fit it on"))
        # In the members' order: weights belong to members by their place.
        sources = {name: (fit or members)[name] for name in members}
        combined = given if fit else None
        recipe = find_recipe(labels, sources, method, groups=groups, trained_on=trained_on, combined=combined)
    elif recipe is None:
        recipe = Recipe(scheme=method)  # type: ignore[arg-type]  # "auto" needs labels
    tables = {name: member.table for name, member in given.items()}
    narrow = find_outweighed(tables) if recipe.scheme == "mean" else []
    for warning in dict.fromkeys([*doubts, *recipe.warnings, *diagnose_systems(tables), *narrow]):
        warnings.warn(str(warning), DiagnosticWarning, stacklevel=2)
    return combine_members(tables, recipe, missing, out_of_fold=fitting and fit is None)


def _refuse_names(what: str, found: Iterable[str], members: Iterable[str]) -> Problem:
    """That what belongs to members by their names has other ones than they."""
    names, expected = (", ".join(map(str, each)) for each in (found, members))
    return Problem("ensemble", f"{what} has {names or 'no member'}", f"the members' names: {expected}")


def combine_members(
    tables: Mapping[str, pl.DataFrame],
    recipe: Recipe = PLAIN_MEAN,
    missing: OnMissing = "error",
    *,
    out_of_fold: bool = False,
) -> pl.DataFrame:
    """The tables combined for each clip and emotion, sorted by id, in float64; the tables are not examined.

    Args:
        tables: predictions, by name.
        recipe: how to combine them.
        missing: see `ensemble`.
        out_of_fold: whether the recipe was found on these very tables: no clip's own label shapes then what
            is predicted for it by weights that were fitted on labels. Any other clip, of which no label was
            looked at, is combined with the weights of all.

    Raises:
        ScoreError: no member; a member is missing clips that another one has, or has one twice; all named.
    """
    clips, stacked, present = _stack(tables, missing)
    weights = equal(len(tables), len(EMOTIONS)) if recipe.weights is None else recipe.weights
    combined = _to_table(clips, combine(stacked, recipe.scheme, weights, present))
    if recipe.report is None or not (out_of_fold and recipe.fitted):
        return combined
    return combined.update(_to_table(recipe.labelled, recipe.report.predictions[recipe.scheme]), on=FILENAME)


def write_ensemble(
    members: Members,
    path: Path,
    *,
    split: str,
    command: str,
    recipe: Recipe = PLAIN_MEAN,
    missing: OnMissing = "error",
    out_of_fold: bool = False,
) -> pl.DataFrame:
    """Combines the members, writes the result with its provenance record, and returns it.

    Args:
        members: what is combined.
        path: the CSV to write.
        split: the split predicted.
        command: what made the file.
        recipe: how to combine. What fitted weights have seen counts as trained on.
        missing: see `ensemble`.
        out_of_fold: see `combine_members`.

    Raises:
        ScoreError: see `combine_members`.
    """
    tables = members.tables
    scheme: dict[str, Any] = {}
    if recipe.scheme != "mean" or recipe.report:
        scheme = {"scheme": recipe.scheme, "out_of_fold": recipe.report and recipe.report.to_json()}
    if gaps := find_gaps(tables):
        scheme |= {"missing": missing, "lacking": {name: pack_ids(ids) for name, ids in gaps.items()}}
    # Out of fold, a clip's own label shaped nothing of what is predicted for it.
    seen = frozenset(recipe.labelled if recipe.fitted and not out_of_fold else ())
    combined = combine_members(tables, recipe, missing, out_of_fold=out_of_fold)
    record = Provenance(
        command=command,
        split=split,
        members=[dict(member.record) for member in members.members],
        trained_on=seen.union(*(member.trained_on for member in members.members)),
        trained_on_complete=all(member.trained_on_complete for member in members.members),
        skipped=members.skipped,
        read_from_video=members.read_from_video,
        scheme=scheme,
    )
    write_with_provenance(combined, path, record)
    return combined


def find_gaps(members: Mapping[str, pl.DataFrame]) -> dict[str, list[str]]:
    """The clips that each member is missing and another one has, sorted; only members that miss some."""
    clips = {clip for table in members.values() for clip in table[FILENAME]}
    gaps = {name: sorted(clips.difference(table[FILENAME])) for name, table in members.items()}
    return {name: missing for name, missing in gaps.items() if missing}


def describe_gaps(gaps: Mapping[str, Sequence[str]], missing: OnMissing) -> list[Problem]:
    """A warning for each member that is missing clips, which says what was done with them."""
    done = "left out" if missing == "drop" else "combined from the members that have them"
    return [Problem(name, list_ids(ids, f"missing; {done}")) for name, ids in gaps.items()]


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


def _to_table(clips: Sequence[str], values: Array) -> pl.DataFrame:
    return pl.DataFrame({FILENAME: clips, **dict(zip(EMOTIONS, values.T, strict=True))})
