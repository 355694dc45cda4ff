"""The tables of the records: submissions, runs, files read, signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abaw_emi.audit.record import Audit
from abaw_emi.core.errors import SEVERITIES
from abaw_emi.evaluation.text_tables import format_interval, format_r
from abaw_emi.report.history import Curve
from abaw_emi.report.sources import Input, Material, read_validation


def tabulate_submissions(material: Material) -> Table:
    """The ledger."""
    assert material.ledger is not None
    columns = [
        Column(name="Submission"),
        Column(name="Made"),
        Column(name="Validation", number=True),
        Column(name="95 % interval", number=True),
        Column(name="Test", number=True),
        Column(name="Counts as a try"),
        Column(name="Validation is"),
        Column(name="SHA-256 of the CSV"),
        Column(name="Signature"),
    ]
    rows = []
    for entry in material.ledger.entries:
        value = entry.val or {}
        mean, low, high = read_validation(entry)
        rows.append(
            [
                Cell(text=entry.name),
                Cell(text=entry.created.replace("T", " ").removesuffix("+00:00"), value=entry.created),
                Cell() if mean is None else correlation_cell(mean),
                interval_cell(None if low is None or high is None else (low, high)),
                Cell(text="not yet") if entry.test_score is None else correlation_cell(entry.test_score),
                Cell(text="yes" if entry.sent else "no"),
                Cell(text=str(value.get("kind") or "not known")),
                Cell(text=str(entry.record.get("sha256", ""))[:12], code=True),
                Cell(text=str(entry.record.get("signature", "")), code=True),
            ]
        )
    return Table(
        id="ledger",
        name="Submissions",
        columns=columns,
        rows=rows,
        title="The ledger",
        note=f"{material.ledger.used} of {len(rows)} count as tries. Times are UTC.",
        filter=len(rows) > 5,
    )


def tabulate_audit(audit: Audit) -> Table:
    """What the audit found of the data folder."""
    columns = [
        Column(name="Severity"),
        Column(name="Where"),
        Column(name="Found"),
        Column(name="Clips", number=True),
        Column(name="What it means"),
        Column(name="What to do"),
    ]
    rows = [
        [
            Cell(text=finding.severity, value=SEVERITIES.index(finding.severity)),
            Cell(text=finding.where),
            Cell(text=finding.found),
            Cell(text=f"{finding.count:,}", value=finding.count),
            Cell(text=finding.means),
            Cell(text=finding.next_step),
        ]
        for finding in audit.findings
    ]
    return Table(
        id="audit",
        name="Findings of the audit",
        columns=columns,
        rows=rows,
        title="What the audit found",
        filter=len(rows) > 8,
    )


def tabulate_runs(curves: Sequence[Curve], names: Sequence[str]) -> Table:
    """What is recorded of every run."""
    columns = [
        Column(name="Run"),
        Column(name="State"),
        Column(name="Preset"),
        Column(name="Seed", number=True),
        Column(name="Epochs", number=True),
        Column(name="Best", number=True),
        Column(name="Trained on"),
        Column(name="Precision"),
        Column(name="Device"),
        Column(name="Backbone"),
        Column(name="Data"),
        Column(name="Code"),
        Column(name="Version"),
    ]
    rows = []
    for name, curve in zip(names, curves, strict=True):
        record = curve.record
        hardware, data = _mapping(record.get("hardware")), _mapping(record.get("data"))
        backbone = _mapping(record.get("backbone"))
        fold = f", but fold {record['fold']}" if record.get("fold") else ""
        best = record.get("best_epoch") or (curve.best.number if curve.best else None)
        rows.append(
            [
                Cell(text=name),
                Cell(text="finished" if record.get("finished") else "not finished"),
                plain_cell(record.get("preset")),
                plain_cell(record.get("seed")),
                Cell(text=str(len(curve.epochs)), value=len(curve.epochs)),
                plain_cell(best),
                Cell(
                    text=("train+valid" if record.get("train_plus_val") else "train") + fold if record else ""
                ),
                plain_cell(record.get("precision")),
                plain_cell(hardware.get("device")),
                Cell(text=" ".join(str(part) for part in backbone.values() if part)[:60]),
                Cell(text=str(data.get("fingerprint") or "")[:12], code=True),
                Cell(text=str(record.get("git_commit") or "")[:12], code=True),
                plain_cell(record.get("version")),
            ]
        )
    return Table(
        id="runs-table", name="Runs", columns=columns, rows=rows, title="The runs", filter=len(rows) > 5
    )


def tabulate_inputs(inputs: Sequence[Input]) -> Table:
    """Every file that was read, with its hash."""
    columns = [
        Column(name="File"),
        Column(name="What"),
        Column(name="Rows", number=True),
        Column(name="SHA-256"),
    ]
    rows = [
        [
            Cell(text=str(item.path)),
            Cell(text=item.what),
            Cell(text=f"{item.rows:,}", value=item.rows),
            Cell(text=item.sha256, code=True),
        ]
        for item in inputs
    ]
    return Table(
        id="inputs", name="Files read", columns=columns, rows=rows, title="Files read", filter=len(rows) > 8
    )


def tabulate_signatures(signed: Sequence[tuple[str, str]]) -> Table:
    """The signature of every number of the page."""
    rows = [[Cell(text=what), Cell(text=signature, code=True)] for what, signature in signed]
    columns = [Column(name="Numbers"), Column(name="Signature")]
    return Table(
        id="signatures", name="Signatures", columns=columns, rows=rows, title="Signatures", sortable=False
    )


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows, or what its picture says.
        value: what it sorts by; None for its text.
        href: a link, or the file that is played.
        kind: "text", "player" or "strip".
        code: whether it is a hash or a signature.
        video: whether what is played is a video.
        label: what the player is called.
        bars: of a strip.
    """

    text: str = ""
    value: float | str | None = None
    href: str = ""
    kind: str = "text"
    code: bool = False
    video: bool = False
    label: str = ""
    bars: Sequence[dict[str, object]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its name, and whether it holds numbers, cannot be sorted by, is for the screen alone."""

    name: str
    number: bool = False
    plain: bool = False
    screen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the page.

    Attributes:
        id: its anchor.
        name: for readers who cannot see it.
        columns: their heads.
        rows: as wide as the columns.
        title: a heading, "" for none.
        note: how to read it.
        signature: of its numbers.
        sortable: whether heads sort.
        filter: whether rows can be filtered.
        lead: whether the first row is the one that counts.
    """

    id: str
    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    signature: str = ""
    sortable: bool = True
    filter: bool = False
    lead: bool = False
    kind: str = "table"


def correlation_cell(value: float | None, *, signed: bool = False) -> Cell:
    """A correlation, or a difference of two."""
    return Cell(text=format_r(value, signed=signed), value="" if value is None else value)


def number_cell(value: float) -> Cell:
    """A number with three decimals."""
    return Cell(text=f"{value:.3f}", value=value)


def interval_cell(bounds: tuple[float, float] | None, *, signed: bool = False) -> Cell:
    """An interval, which sorts by its lower end."""
    return Cell(text=format_interval(bounds, signed=signed), value=bounds[0] if bounds else "")


def plain_cell(value: object) -> Cell:
    """Whatever a record holds, empty for nothing."""
    if value is None:
        return Cell()
    return Cell(text=str(value), value=value if isinstance(value, int | float) else None)
