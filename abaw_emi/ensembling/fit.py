"""How to combine members, chosen or fitted on labelled clips that none of them was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import EMOTIONS, FILENAME, EnsembleMethod, Scheme, Split
from abaw_emi.core.errors import EmiError, Problem, ScoreError, UsageError, attempt
from abaw_emi.data.align import align, check_rows
from abaw_emi.data.frames import Ids, Table, read_group_table, read_table
from abaw_emi.data.groups import number_groups
from abaw_emi.ensembling.crossfit import CrossFit, cross_fit
from abaw_emi.ensembling.members import Member, collect_members
from abaw_emi.ensembling.schemes import FITTED, SCHEMES
from abaw_emi.evaluation.bootstrap import Resampling
from abaw_emi.evaluation.diagnostics import diagnose_systems
from abaw_emi.evaluation.text_tables import render

METHODS: tuple[EnsembleMethod, ...] = (*SCHEMES, "auto")

_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How members are combined.

    Attributes:
        scheme: see `schemes.SCHEMES`.
        weights: (K, M), each row summing to 1; None for equal ones.
        report: of the cross-fitting that chose or fitted it; None where nothing was.
        labelled: ids of the clips whose labels it was chosen or fitted on, as the report's predictions lie.
        warnings: what must be known of the labelled clips and of the members' predictions of them.
    """

    scheme: Scheme = "mean"
    weights: Array | None = None
    report: CrossFit | None = None
    labelled: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """Their names, in the order of the weights; none where any members may be combined so."""
        return () if self.report is None else self.report.members

    @property
    def fitted(self) -> bool:
        """Whether its weights were fitted on labels."""
        return self.scheme in FITTED

    def __str__(self) -> str:
        if self.report is None:
            return self.scheme
        why = "as asked for"
        if self.scheme == self.report.chosen and len(self.report.schemes) > 2:
            why = "the simplest scheme that is not significantly outperformed"
        lines = [render(self.report.table(), "table"), f"{self.scheme}: {why}"]
        if self.weights is not None:
            shares = zip(self.members, self.weights.mean(axis=0), strict=True)
            lines.append("weights: " + ", ".join(f"{name} {share:.2f}" for name, share in shares))
        return "\n".join([*lines, self.report.signature])

    def to_json(self) -> dict[str, Any]:
        """The scheme, and the report of it, as JSON values."""
        return {"method": self.scheme, "report": self.report and self.report.to_json()}


def needs_labels(method: str, **given: object) -> bool:
    """Whether a scheme is fitted or chosen on labels.

    Args:
        method: one of `METHODS`.
        given: what only such a method looks at, by the names that messages call it; None or empty where it
            is not given.

    Raises:
        UsageError: no such method, or one that looks at no labels beside what is given.
    """
    if method not in METHODS:
        raise UsageError(Problem("ensemble", f"method {method!r}", f"one of {', '.join(METHODS)}"))
    fitting = method == "auto" or method in FITTED
    unused = [name for name, value in given.items() if value is not None]
    if unused and not fitting:
        found = f"{', '.join(unused)} beside method {method}, which fits nothing"
        raise UsageError(Problem("ensemble", found, f"method auto, {', '.join(FITTED)}, or none of them"))
    return fitting


def pair_fit_files(
    own: Mapping[str, Path], preds: Sequence[Path], fit: Sequence[Path], split: Split
) -> dict[str, Path]:
    """By the name of each member, its predictions of the labelled clips.

    Args:
        own: where each run's own predictions of valid lie, by its folder.
        preds: members that are files.
        fit: their predictions of valid, in the same order; where `split` is valid they may be left out.
        split: what the members predict.

    Raises:
        EmiError: a run has none, since it was trained on them; all such runs are named.
        UsageError: not one file of `fit` for each of `preds`.
    """
    if split == "valid" and not fit:
        fit = preds
    if len(fit) != len(preds):
        expected = f"{len(preds)}, one for each of --preds, in the same order: its predictions of valid"
        raise UsageError(Problem("--fit", f"{len(fit)} files", expected))
    found = "no such file: a run on train+val has no predictions of valid to fit weights on"
    step = "use --method mean, zscores or ranks"
    if problems := [Problem(str(file), found, next_step=step) for file in own.values() if not file.is_file()]:
        raise EmiError(problems)
    return {**own, **dict(zip(map(str, preds), fit, strict=True))}


def find_recipe(
    truth: Table,
    members: Mapping[str, Table],
    method: EnsembleMethod = "auto",
    *,
    groups: Table | None = None,
    how: Resampling | None = None,
    name: str = "labels",
    trained_on: Mapping[str, Ids] | None = None,
    combined: Mapping[str, Member] | None = None,
) -> Recipe:
    """The way to combine members that does best on labelled clips, out of fold.

    Args:
        truth: the labels, a table or a file.
        members: each member's predictions of these clips, tables or files; what it has besides is left out,
            and clips that any member is missing are not used.
        method: one of `schemes.SCHEMES`, or "auto": the simplest that is not significantly outperformed.
        groups: the clips' groups, a table or a file, never parted by a fold.
        how: resampling of the report; its clusters are taken from `groups`.
        name: what messages call the labels where they are a table.
        trained_on: ids that a member was trained on, or a table of them, by its name; what a file's record
            names is known besides.
        combined: the members that are to be combined so, by name, where those are other files or tables.

    Raises:
        ScoreError: fewer than two members; a file that cannot be used; a member that was trained on labelled
            clips or holds their labels; values that are not finite; too few clips that all members have.
    """
    if len(members) < _FEWEST:
        raise ScoreError(Problem("ensemble", f"{len(members)} member", "two at least, to weigh them"))
    labels, known, clusters, warnings = _read_labelled(truth, members, groups, name, trained_on)
    report = cross_fit(
        labels.select(EMOTIONS).to_numpy(),
        np.stack([align(labels, member.table)[1] for member in known.values()]),
        list(members),
        replace(how or Resampling(), clusters=clusters),
        schemes=SCHEMES if method == "auto" else (method,),
    )
    scheme = report.chosen if method == "auto" else method
    return Recipe(
        scheme=scheme,
        weights=report.schemes[scheme].weights,
        report=report,
        labelled=tuple(labels[FILENAME]),
        warnings=(*_compare_runs(known, combined or {}), *warnings, *report.problems),
    )


def _read_labelled(
    truth: Table,
    sources: Mapping[str, Table],
    groups: Table | None,
    name: str,
    trained_on: Mapping[str, Ids] | None,
) -> tuple[pl.DataFrame, dict[str, Member], npt.NDArray[np.intp] | None, Sequence[Problem]]:
    """What `find_recipe` fits on: labels and members, of the clips that all have; their groups; warnings."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    labels = attempt(problems, _read_labels, truth, name)
    members = collect_members(sources, problems, problems, warnings, trained_on)
    grouped = None if groups is None else attempt(problems, read_group_table, groups)
    if labels is None:
        raise ScoreError(problems)
    name, groups_name = _name(truth, name), _name(groups, "groups")
    problems += _find_seen(members, labels, name)
    diagnostics = diagnose_systems({member.name: member.table for member in members.values()}, labels)
    problems += [found for found in diagnostics if found.code == "labels"]
    shared = set(labels[FILENAME]).intersection(*(member.table[FILENAME] for member in members.values()))
    is_shared = pl.col(FILENAME).is_in(list(shared))
    common = labels.filter(is_shared)
    clusters = None
    if grouped is not None:
        clips = (common if len(common) else labels)[FILENAME].to_list()
        clusters = attempt(problems, number_groups, grouped, clips, (name, groups_name))
    if not problems and len(common) < _FEWEST:
        found = f"{len(common)} clips of {name} that all members have"
        problems.append(Problem("ensemble", found, "their predictions of the labelled clips"))
    if problems:
        raise ScoreError(problems)
    if len(common) < len(labels):
        found = f"{len(common):,} of {len(labels):,} clips are used, which all members have"
        warnings.append(Problem(name, found))
    kept = {key: replace(member, table=member.table.filter(is_shared)) for key, member in members.items()}
    return common, kept, clusters, [*warnings, *diagnostics]


def _name(source: Table | None, name: str) -> str:
    """What messages call the labels, or the groups: the file, or `name` where it is a table."""
    return str(source) if isinstance(source, Path | str) else name


def _read_labels(source: Table, name: str) -> pl.DataFrame:
    labels = read_table(source, name, "labels").table
    if problems := check_rows(labels, name):
        raise ScoreError(problems)
    return labels


def _find_seen(fitted: Mapping[str, Member], labels: pl.DataFrame, name: str) -> list[Problem]:
    """A problem for each member that was trained on clips of the labels, called `name`."""
    expected = "predictions of clips that it has not seen"
    return [
        Problem(member.name, f"it was trained on {len(seen):,} of the clips of {name}", expected)
        for member in fitted.values()
        if (seen := member.trained_on.intersection(labels[FILENAME]))
    ]


def _compare_runs(fitted: Mapping[str, Member], combined: Mapping[str, Member]) -> list[Problem]:
    """A warning where the records of a member and of what it is fitted on name other runs."""
    warnings = []
    for name, member in combined.items():
        other = fitted[name]
        if not member.runs or not other.runs or member.runs == other.runs:
            continue
        found = (
            f"it comes from {', '.join(sorted(member.runs))}, but is fitted on {other.name}, "
            f"which comes from {', '.join(sorted(other.runs))}"
        )
        warnings.append(
            Problem(member.name, found, "one run for both: fit (--fit) in the order of the members (--preds)")
        )
    return warnings
