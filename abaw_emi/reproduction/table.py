"""A table of published results beside measured ones: as text, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import Any, Literal

from abaw_emi.core.constants import OFFICIAL_COUNTS, TableName
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.evaluation.text_tables import FORMATS, TextTable, format_interval, format_r, render
from abaw_emi.reproduction.published import TITLES, PublishedRow

State = Literal["finished", "unfinished", "not run", "lacks inputs", "failed", "refused", "no preset"]
"""The state of a row's runs. "refused": they exist, but have another config or cannot be scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The scores of a row's runs on clips that they were not trained on.

    Attributes:
        mean_pearson: the mean over seeds.
        pearson: the same, per emotion; an undefined r counts as 0.
        interval: of `mean_pearson`, over clips, with the runs fixed.
        by_seed: each run's mean Pearson; empty for K-fold runs.
        ensemble: mean Pearson of the mean of the seeds' predictions; None for one seed.
        ensemble_interval: its interval.
        n: number of clips.
        on: which clips: "valid", or a description.
        signature: the settings that reproduce these numbers.
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

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded, as JSON values."""
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        return {**asdict(self), "by_seed": by_seed, "spread": self.spread}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The organisers' score of a submission that was made from exactly a row's runs."""

    mean_pearson: float
    submission: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOutcome:
    """A row and its results.

    Attributes:
        row: what was published.
        runs: names of its run folders.
        state: of the runs.
        measured: the scores on clips that the runs were not trained on; None where there are none.
        tested: the score on test; None where no submission has one.
        problems: why there are no scores, or what a reader must know about them.
    """

    row: PublishedRow
    runs: Sequence[str]
    state: State
    measured: Measured | None = None
    tested: Tested | None = None
    problems: Sequence[Problem] = ()

    @property
    def difference(self) -> float | None:
        """Measured minus published, on valid; None where one of them is missing."""
        return _subtract(self.measured, self.row.beside_valid)

    @property
    def test_difference(self) -> float | None:
        """The same on test; None also where the published number may be for valid."""
        return None if "disputed" in self.row.marks else _subtract(self.tested, self.row.test)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know about the row's numbers."""
        measured = self.measured
        if measured is None or measured.on == "valid":
            return self.row.remarks
        return (*self.row.remarks, f"measured on {measured.on}")

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded, as JSON values."""
        row = self.row
        return {
            "name": row.name,
            "system": row.system,
            "preset": row.preset,
            "train_plus_val": row.train_plus_val,
            "published": {"valid": row.valid, "test": row.test, "words": row.words or None}
            | {"marks": list(row.marks), "source": row.source},
            "state": self.state,
            "runs": list(self.runs),
            "measured": self.measured and self.measured.to_json(),
            "difference": self.difference,
            "tested": self.tested and asdict(self.tested),
            "test_difference": self.test_difference,
            "remarks": list(self.remarks),
            "problems": [str(problem) for problem in self.problems],
        }


def table_to_json(table: TableName, outcomes: Sequence[RowOutcome]) -> dict[str, Any]:
    """A table, unrounded, as JSON values."""
    rows = [outcome.to_json() for outcome in outcomes]
    return {"table": table, "title": TITLES[table], "remarks": _describe_table(outcomes), "rows": rows}


def render_table(table: TableName, outcomes: Sequence[RowOutcome], form: str = "table") -> str:
    """A table as text, with remarks below it (in LaTeX as comments, in CSV as a column).

    Args:
        table: which table.
        outcomes: its rows.
        form: one of `text_tables.FORMATS`. LaTeX is for the package booktabs; CSV and JSON are unrounded.

    Raises:
        UsageError: there is no such form.
    """
    if form not in FORMATS:
        raise UsageError(Problem("form", repr(form), f"one of {', '.join(FORMATS)}"))
    if form == "json":
        return json.dumps(table_to_json(table, outcomes), indent=2, allow_nan=False)
    if form == "csv":
        return render(_unrounded(outcomes), form)
    text = render(_rounded(table, outcomes), form)
    notes = [f"{o.row.system}: {'; '.join(o.remarks)}" for o in outcomes if o.remarks]
    lines = [*_describe_table(outcomes), *notes]
    if form == "latex":
        for rule in ("toprule", "midrule", "bottomrule"):
            text = text.replace(r"\hline", f"\\{rule}", 1)
        return "\n".join([text.replace("±", r"$\pm$"), *(f"% {line}" for line in lines)])
    bullet = "- " if form == "markdown" else ""
    return "\n".join([text, "", *(bullet + line for line in lines)])


def format_published(value: float | None, *, words: str = "", marked: bool = False) -> str:
    """A published number with its own digits, and a star where there is a remark on it.

    >>> format_published(0.09, marked=True), format_published(-0.1), format_published(None, words="illegible")
    ('.09*', '-.1', 'illegible')
    """
    text = (words or "-") if value is None else repr(value).replace("0.", ".", 1)
    return f"{text}*" if marked and value is not None else text


def _subtract(measured: Measured | Tested | None, published: float | None) -> float | None:
    return None if measured is None or published is None else measured.mean_pearson - published


def _describe_table(outcomes: Sequence[RowOutcome]) -> list[str]:
    """What a reader must know about all rows."""
    remarks = ["published: on the official valid and test splits, as scored by the authors"]
    sizes = sorted({o.measured.n for o in outcomes if o.measured and o.measured.on == "valid"})
    if sizes:
        official = OFFICIAL_COUNTS["valid"]
        clips = " or ".join(f"{n:,}" for n in sizes)
        remarks.append(
            f"measured: on {clips} clips of valid, on which the best epoch of each run was selected, as in "
            "the paper; the interval is over clips, with the runs fixed"
        )
        if sizes != [official]:
            remarks.append(f"the official valid split has {official:,} clips: the scores are not comparable")
    signatures = {o.measured.signature for o in outcomes if o.measured and o.measured.signature}
    return [*remarks, *sorted(signatures)]


def _rounded(table: TableName, outcomes: Sequence[RowOutcome]) -> TextTable:
    """The table as text, without columns that would be empty."""
    columns: dict[str, Callable[[RowOutcome], str]] = {
        "System": lambda o: o.row.system,
        "Published": lambda o: format_published(o.row.valid, words=o.row.words, marked=bool(o.row.marks)),
        "Measured": lambda o: _format_measured(o.measured),
        "95 % interval": lambda o: format_interval(o.measured.interval if o.measured else None),
        "Difference": lambda o: _format_difference(o.difference),
    }
    if any(o.measured and o.measured.ensemble is not None for o in outcomes):
        columns["Ensemble"] = lambda o: _format_r(o.measured.ensemble if o.measured else None)
        columns["its interval"] = lambda o: format_interval(
            o.measured.ensemble_interval if o.measured else None
        )
    if any(o.row.test is not None or o.tested for o in outcomes):
        columns["Published test"] = lambda o: format_published(o.row.test, marked=bool(o.row.marks))
        columns["Measured test"] = lambda o: _format_r(o.tested.mean_pearson if o.tested else None)
        columns["Test difference"] = lambda o: _format_difference(o.test_difference)
    columns["Runs"] = _describe_runs
    rows = [[cell(outcome) for cell in columns.values()] for outcome in outcomes]
    return TextTable(list(columns), rows, TITLES[table])


def _format_r(value: float | None) -> str:
    return "" if value is None else format_r(value)


def _format_difference(value: float | None) -> str:
    return "" if value is None else format_r(value, signed=True)


def _format_measured(measured: Measured | None) -> str:
    if measured is None:
        return ""
    text = format_r(measured.mean_pearson)
    text += "" if measured.spread is None else f" ± {measured.spread:.4f}"
    return text if measured.on == "valid" else f"{text}*"


def _describe_runs(outcome: RowOutcome) -> str:
    """The measured seeds and the submission, or the state of the runs."""
    if outcome.state != "finished":
        return outcome.state
    seeds = list(map(str, outcome.measured.by_seed)) if outcome.measured else []
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else ""
    submitted = outcome.tested.submission if outcome.tested else ""
    return "; ".join(filter(None, [named, submitted])) or outcome.state


def _unrounded(outcomes: Sequence[RowOutcome]) -> TextTable:
    """The table with unrounded numbers, one row per system."""
    rows = [_to_cells(outcome) for outcome in outcomes]
    cells = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
    return TextTable(list(rows[0]) if rows else [], cells)


def _to_cells(outcome: RowOutcome) -> dict[str, Any]:
    row, measured = outcome.row, outcome.measured
    low, high = (measured and measured.interval) or (None, None)
    ensemble_low, ensemble_high = (measured and measured.ensemble_interval) or (None, None)
    return {
        "row": row.name,
        "system": row.system,
        "preset": row.preset,
        "train_plus_val": row.train_plus_val,
        "published_valid": row.valid,
        "published_test": row.test,
        "words": row.words,
        "marks": " ".join(row.marks),
        "valid": measured and measured.mean_pearson,
        "low": low,
        "high": high,
        "spread": measured and measured.spread,
        "ensemble": measured and measured.ensemble,
        "ensemble_low": ensemble_low,
        "ensemble_high": ensemble_high,
        "difference": outcome.difference,
        "test": outcome.tested and outcome.tested.mean_pearson,
        "test_difference": outcome.test_difference,
        "n": measured and measured.n,
        "seeds": " ".join(map(str, measured.by_seed)) if measured else "",
        "state": outcome.state,
        "source": row.source,
        "remarks": "; ".join(outcome.remarks),
    }
