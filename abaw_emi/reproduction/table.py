"""A table of published numbers beside measured ones: in the forms of `rendering`, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any, Literal

from abaw_emi.core.constants import OFFICIAL_COUNTS
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.evaluation.text_tables import FORMATS, TextTable, format_interval, format_r, render
from abaw_emi.reproduction.published import TITLES, PublishedRow, TableName

State = Literal["finished", "unfinished", "not run", "lacks inputs", "failed", "refused", "no preset"]
"""What became of a row's runs. "refused": they are there, and are of another recipe or cannot be scored."""

_RULES = ("toprule", "midrule", "bottomrule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a row's runs reached on clips that they have not seen.

    Attributes:
        mean_pearson: the mean over seeds.
        pearson: the same, per emotion; an undefined r counts 0.
        interval: of `mean_pearson`, over clips; the runs stay the same.
        by_seed: each run's mean Pearson; empty where it is of K-fold runs.
        ensemble: mean Pearson of the mean of the seeds' predictions; None for one seed.
        ensemble_interval: of it.
        n: clips.
        on: what they are: "valid", or in words.
        signature: the settings that made these numbers.
    """

    mean_pearson: float
    pearson: Mapping[str, float]
    interval: tuple[float, float] | None
    by_seed: Mapping[int, float]
    ensemble: float | None = None
    ensemble_interval: tuple[float, float] | None = None
    n: int
    on: str
    signature: str = ""

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for one."""
        return stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The organisers' score of a submission that was made of exactly a row's runs."""

    mean_pearson: float
    submission: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A row and what became of it.

    Attributes:
        row: what was published.
        runs: names of its run folders.
        state: in a word.
        measured: on clips that the runs have not seen; None where there is nothing.
        tested: on test; None where no submission has a score.
        problems: why there is nothing, or what to know of it.
    """

    row: PublishedRow
    runs: Sequence[str]
    state: State
    measured: Measured | None = None
    tested: Tested | None = None
    problems: Sequence[Problem] = field(default=())

    @property
    def difference(self) -> float | None:
        """Measured minus published, on valid; None where one of them is not there."""
        return _subtract(self.measured, self.row.beside_valid)

    @property
    def test_difference(self) -> float | None:
        """The same on test; None where it is not certain that the published number is of test."""
        return None if "disputed" in self.row.marks else _subtract(self.tested, self.row.test)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know of the row's numbers."""
        measured = self.measured
        if measured is None or measured.on == "valid":
            return self.row.remarks
        return (*self.row.remarks, f"measured on {measured.on}")

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded, as JSON values."""
        row, measured, tested = self.row, self.measured, self.tested
        return {
            "name": row.name,
            "system": row.system,
            "preset": row.preset,
            "train_plus_val": row.train_plus_val,
            "published": {"valid": row.valid, "test": row.test, "words": row.words or None}
            | {"marks": list(row.marks), "source": row.source},
            "state": self.state,
            "runs": list(self.runs),
            "measured": None
            if measured is None
            else {
                "mean_pearson": measured.mean_pearson,
                "pearson": dict(measured.pearson),
                "interval": measured.interval,
                "by_seed": {str(seed): value for seed, value in measured.by_seed.items()},
                "spread": measured.spread,
                "ensemble": measured.ensemble,
                "ensemble_interval": measured.ensemble_interval,
                "n": measured.n,
                "on": measured.on,
                "signature": measured.signature,
            },
            "difference": self.difference,
            "tested": None
            if tested is None
            else {"mean_pearson": tested.mean_pearson, "submission": tested.submission},
            "test_difference": self.test_difference,
            "remarks": list(self.remarks),
            "problems": [str(problem) for problem in self.problems],
        }


def table_to_json(table: TableName, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A table, unrounded, as JSON values."""
    rows = [outcome.to_json() for outcome in outcomes]
    return {"table": table, "title": TITLES[table], "remarks": list(_remarks(outcomes)), "rows": rows}


def render_table(table: TableName, outcomes: Sequence[Outcome], form: str = "table") -> str:
    """A table as text; under it what a reader must know, in LaTeX as comments, in CSV as a column.

    Args:
        table: which.
        outcomes: its rows.
        form: one of `rendering.FORMATS`. LaTeX is for the package booktabs; CSV and JSON are unrounded.

    Raises:
        UsageError: no such form.
    """
    if form not in FORMATS:
        raise UsageError(Problem("form", repr(form), f"one of {', '.join(FORMATS)}"))
    if form == "json":
        return json.dumps(table_to_json(table, outcomes), indent=2, allow_nan=False)
    if form == "csv":
        return render(_values(outcomes), form)
    text = render(_sheet(table, outcomes), form)
    notes = [f"{o.row.system}: {'; '.join(o.remarks)}" for o in outcomes if o.remarks]
    lines = [*_remarks(outcomes), *notes]
    if form == "latex":
        for rule in _RULES:
            text = text.replace(r"\hline", f"\\{rule}", 1)
        return "\n".join([text.replace("±", r"$\pm$"), *(f"% {line}" for line in lines)])
    bullet = "- " if form == "markdown" else ""
    return "\n".join([text, "", *(bullet + line for line in lines)])


def format_published(value: float | None, *, words: str = "", marked: bool = False) -> str:
    """A published number with its own digits, and a star where there is something to know of it.

    >>> format_published(0.09, marked=True), format_published(-0.1), format_published(None, words="illegible")
    ('.09*', '-.1', 'illegible')
    """
    text = (words or "-") if value is None else repr(value).replace("0.", ".", 1)
    return f"{text}*" if marked and value is not None else text


def _subtract(measured: Measured | Tested | None, published: float | None) -> float | None:
    return None if measured is None or published is None else measured.mean_pearson - published


def _remarks(outcomes: Sequence[Outcome]) -> list[str]:
    """What holds for all rows."""
    remarks = ["published: of the official valid and test splits, as their authors scored them"]
    sizes = sorted({o.measured.n for o in outcomes if o.measured and o.measured.on == "valid"})
    if sizes:
        official = OFFICIAL_COUNTS["valid"]
        clips = " or ".join(f"{n:,}" for n in sizes)
        remarks.append(
            f"measured: on {clips} clips of valid, on which each run's best epoch was chosen, as the paper "
            "does; the interval is over clips, with the same runs"
        )
        if sizes != [official]:
            remarks.append(f"the official valid has {official:,} clips: a difference compares unlike things")
    signatures = {o.measured.signature for o in outcomes if o.measured and o.measured.signature}
    return [*remarks, *sorted(signatures)]


def _sheet(table: TableName, outcomes: Sequence[Outcome]) -> TextTable:
    """The table as text, without columns in which nothing would stand."""
    several = any(o.measured and o.measured.ensemble is not None for o in outcomes)
    on_test = any(o.row.test is not None or o.tested for o in outcomes)
    header = ["System", "Published", "Measured", "95 % interval", "Difference"]
    header += ["Ensemble", "its interval"] if several else []
    header += ["Published test", "Measured test", "Test difference"] if on_test else []
    rows = []
    for o in outcomes:
        measured, row = o.measured, o.row
        cells = [
            row.system,
            format_published(row.valid, words=row.words, marked=bool(row.marks)),
            _format_measured(measured),
            format_interval(measured.interval) if measured else "",
            _format_difference(o.difference),
        ]
        if several:
            ensemble = None if measured is None else measured.ensemble
            cells.append("" if ensemble is None else format_r(ensemble))
            cells.append(format_interval(measured.ensemble_interval) if measured else "")
        if on_test:
            cells.append(format_published(row.test, marked=bool(row.marks)))
            cells.append(format_r(o.tested.mean_pearson) if o.tested else "")
            cells.append(_format_difference(o.test_difference))
        rows.append([*cells, _describe(o)])
    return TextTable([*header, "Runs"], rows, TITLES[table])


def _format_measured(measured: Measured | None) -> str:
    if measured is None:
        return ""
    text = format_r(measured.mean_pearson)
    text += "" if measured.spread is None else f" ± {measured.spread:.4f}"
    return text if measured.on == "valid" else f"{text}*"


def _format_difference(value: float | None) -> str:
    return "" if value is None else format_r(value, signed=True)


def _describe(outcome: Outcome) -> str:
    """The column of the runs: the seeds that were measured and the submission, or why there are none."""
    if outcome.state != "finished":
        return outcome.state
    seeds = list(map(str, outcome.measured.by_seed)) if outcome.measured else []
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else ""
    submitted = outcome.tested.submission if outcome.tested else ""
    return "; ".join(filter(None, [named, submitted])) or outcome.state


def _values(outcomes: Sequence[Outcome]) -> TextTable:
    """The table with unrounded numbers, a row a system."""
    header = ["row", "system", "preset", "train_plus_val", "published_valid", "published_test", "words"]
    header += ["marks", "valid", "low", "high", "spread", "ensemble", "ensemble_low", "ensemble_high"]
    header += ["difference", "test", "test_difference", "n", "seeds", "state", "source", "remarks"]
    rows = []
    for o in outcomes:
        row, measured = o.row, o.measured
        cells: list[Any] = [row.name, row.system, row.preset, row.train_plus_val, row.valid, row.test]
        cells += [row.words, " ".join(row.marks)]
        if measured:
            low, high = measured.interval or (None, None)
            cells += [measured.mean_pearson, low, high, measured.spread, measured.ensemble]
            cells += measured.ensemble_interval or (None, None)
        else:
            cells += [None] * 7
        cells += [o.difference, o.tested.mean_pearson if o.tested else None, o.test_difference]
        cells += [measured.n if measured else None, " ".join(map(str, measured.by_seed)) if measured else ""]
        cells += [o.state, row.source, "; ".join(o.remarks)]
        rows.append(["" if cell is None else str(cell) for cell in cells])
    return TextTable(header, rows)
