"""Findings on the labels of train and valid, and on the ids of all splits. Reads no media."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import polars as pl

from abaw_emi.audit.finding import make_finding
from abaw_emi.audit.label_statistics import (
    MOST_RATERS,
    PUBLISHED_MEANS,
    LabelShift,
    LabelStatistics,
    compare_labels,
    describe_labels,
    find_all_zero,
)
from abaw_emi.core.constants import EMOTIONS, FILENAME, OFFICIAL_COUNTS, Split
from abaw_emi.core.errors import Diagnostic, Problem, collect_errors
from abaw_emi.core.files import read_bytes
from abaw_emi.core.ids import parse_id
from abaw_emi.data.tables import inspect_table, read_ids
from abaw_emi.evaluation.significance import ALPHA

LABELLED: tuple[Split, ...] = ("train", "valid")

_PUBLISHED_DIGITS = 0.0006
"""How far a mean may lie from one published to three decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTables:
    """The label files of a data folder, as far as they can be read.

    Attributes:
        labels: of train and valid, whole and valid.
        ids: of every split whose file names clips, those of unusable label tables included.
        findings: what is wrong with the files.
    """

    labels: dict[Split, pl.DataFrame] = field(default_factory=dict)
    ids: dict[Split, list[str]] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAudit:
    """Statistics of the labels by split, the shift from train to valid by emotion, and the findings."""

    statistics: dict[Split, LabelStatistics]
    shift: dict[str, LabelShift]
    findings: list[Diagnostic]


def read_tables(files: Mapping[Split, Path]) -> SplitTables:
    """The label files at these paths, with a finding for each that cannot be used.

    A file of test ids that is not there is no finding: none is delivered.
    """
    tables = SplitTables()
    for split in LABELLED:
        problems: list[Problem] = []
        with collect_errors(problems):
            frame, problems = inspect_table(read_bytes(files[split]), str(files[split]), "labels")
            if frame is not None:
                tables.ids[split] = [clip for clip in frame[FILENAME] if parse_id(clip) == clip]
            if frame is not None and not problems:
                tables.labels[split] = frame
        if problems:
            tables.findings.append(_unusable(split, files[split], problems))
    if files["test"].exists():
        with collect_errors(problems := []):
            tables.ids["test"] = read_ids(files["test"])
        if problems:
            tables.findings.append(_unusable("test", files["test"], problems))
    return tables


def _unusable(split: Split, path: Path, problems: Collection[Problem]) -> Diagnostic:
    count = len(problems)
    found = (
        f"cannot be used, {{n}} problem{'s' if count > 1 else ''} in it" if path.exists() else "is missing"
    )
    what = "test ids" if split == "test" else "labels"
    return make_finding(
        "label file",
        "error",
        f"{path.name} {found}",
        f"no command runs that needs the {what} of this split",
        "put the file as delivered in its place",
        splits=[split],
        count=count,
        examples=map(str, problems),
    )


def check_ids(ids: Mapping[Split, Collection[str]]) -> Iterator[Diagnostic]:
    """Findings on which clips the splits name, and how many."""
    for first, second in combinations(ids, 2):
        if both := set(ids[first]) & set(ids[second]):
            yield make_finding(
                "splits overlap",
                "error",
                f"{{n}} ids stand both in {first} and in {second}",
                "a score on clips that were trained on is no validation score; such splits are refused",
                "put the files as delivered in their place",
                splits=[first, second],
                ids=both,
            )
    if other := [split for split in ids if len(ids[split]) != OFFICIAL_COUNTS[split]]:
        counts = ", ".join(f"{split} {len(ids[split]):,} (not {OFFICIAL_COUNTS[split]:,})" for split in other)
        yield make_finding(
            "counts",
            "warning",
            f"clips in other numbers than the official ones: {counts}",
            "scores do not compare with published ones; a submission needs every official test clip",
            "complete the data, unless a part of it, or a demo, is meant",
            splits=other,
            count=len(other),
        )


def audit_labels(labels: Mapping[Split, pl.DataFrame]) -> LabelAudit:
    """What the label tables of train and valid show, one or both."""
    statistics = {split: describe_labels(table) for split, table in labels.items()}
    shift = compare_labels(labels["train"], labels["valid"]) if len(labels) == len(LABELLED) else {}
    findings: list[Diagnostic] = []
    for split, found in statistics.items():
        findings += [*_check_values(split, found, find_all_zero(labels[split])), *_check_means(split, found)]
    return LabelAudit(statistics=statistics, shift=shift, findings=[*findings, *_check_shift(shift)])


def _check_values(split: Split, labels: LabelStatistics, all_zero: list[str]) -> Iterator[Diagnostic]:
    if constant := [name for name, of in labels.emotions.items() if of.smallest == of.largest]:
        yield make_finding(
            "constant labels",
            "warning",
            f"all {labels.rows:,} labels of {', '.join(constant)} are the same",
            "Pearson's r is not defined for it, and counts as 0; nothing can be learned from it",
            "look into the label file",
            splits=[split],
            count=len(constant),
        )
    # Whether nearly all rows are votes over raters: by chance 2 % of six-digit numbers are k/N.
    if count := round((1 - labels.fractions) * labels.rows):
        most = labels.fractions < 0.5
        yield make_finding(
            "no fractions",
            "warning" if most else "note",
            f"{{n}} of {labels.rows:,} clips have labels that are not all k/N with N up to {MOST_RATERS}",
            "delivered labels are such fractions: these were smoothed, rounded or predicted"
            if most
            else "weighting clips by their number of raters does not work for these",
            "compare the file with the delivered one",
            splits=[split],
            count=count,
        )
    if labels.largest_sum > 1 + 1e-6:
        yield make_finding(
            "sums above 1",
            "note",
            f"the six labels of a clip sum to {labels.largest_sum:.3f} at most",
            "they are no shares of votes for one emotion each, as the delivered ones seem to be",
            splits=[split],
            count=1,
        )
    if all_zero:
        yield make_finding(
            "all zero",
            "note",
            f"{{n}} of {labels.rows:,} clips have no intensity above 0",
            "they are trained on and scored like any other; some published validation scores leave them out",
            splits=[split],
            ids=all_zero,
        )


def _check_means(split: Split, labels: LabelStatistics) -> Iterator[Diagnostic]:
    """Only of as many clips as are delivered: what is published is of those."""
    if labels.rows != OFFICIAL_COUNTS[split]:
        return
    expected = np.array([PUBLISHED_MEANS[split][emotion] for emotion in EMOTIONS])
    found = np.array([labels.emotions[emotion].mean for emotion in EMOTIONS])
    off = np.flatnonzero(np.abs(found - expected) > _PUBLISHED_DIGITS)
    if not off.size:
        return
    step = "compare the file with the delivered one"
    for order in permutations(range(len(EMOTIONS))):
        if (np.abs(found[list(order)] - expected) <= _PUBLISHED_DIGITS).all():
            turned = [f"{EMOTIONS[to]} as {EMOTIONS[i]}" for i, to in enumerate(order) if i != to]
            step = f"columns look swapped: read {', '.join(turned)}"
            break
    yield make_finding(
        "label means",
        "warning",
        f"the mean labels of {', '.join(EMOTIONS[i] for i in off)} are not those published",
        "these are not the delivered labels, so what is trained and scored is another task",
        step,
        splits=[split],
        count=off.size,
        examples=[f"{EMOTIONS[i]}: {found[i]:.3f}, published {expected[i]:.3f}" for i in off],
    )


def _check_shift(shift: Mapping[str, LabelShift]) -> Iterator[Diagnostic]:
    if found := [emotion for emotion in EMOTIONS if emotion in shift and shift[emotion].p < ALPHA]:
        yield make_finding(
            "label shift",
            "note",
            f"labels of valid differ in mean from those of train: {', '.join(found)}",
            "Pearson's r does not see a shift, the loss on valid does: select epochs by r",
            splits=LABELLED,
            count=len(found),
            examples=[
                f"{emotion}: {shift[emotion].difference:+.3f} ({shift[emotion].effect:+.2f} standard "
                f"deviations, p = {shift[emotion].p:.2g})"
                for emotion in found
            ],
        )
