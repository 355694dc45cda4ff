"""Tables of records: submissions, findings of the audit, runs, files read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from abaw_emi.audit.record import Audit
from abaw_emi.core.errors import SEVERITIES, Diagnostic
from abaw_emi.report.blocks import Cell, Column, Table, hash_cell, interval_cell, r_cell
from abaw_emi.report.history import Curve
from abaw_emi.report.sources import Input, read_validation
from abaw_emi.submission.ledger import Entry, Ledger


def tabulate_submissions(ledger: Ledger) -> Table[Entry]:
    """The ledger."""
    return Table(
        id="ledger",
        title="Ledger",
        items=ledger.entries,
        columns=[
            Column("Submission", lambda entry: entry.name),
            Column(
                "Made",
                lambda e: Cell(text=e.created.replace("T", " ").removesuffix("+00:00"), value=e.created),
            ),
            Column("Validation", lambda entry: _optional_r(read_validation(entry)[0]), number=True),
            Column("95% interval", _validation_interval, number=True),
            Column("Clipped", lambda e: _optional_r((e.val or {}).get("clipped_mean_pearson")), number=True),
            Column("Test", lambda entry: _optional_r(entry.test_score, "not yet"), number=True),
            Column("Counts as an attempt", lambda entry: "yes" if entry.sent else "no"),
            Column("Validation is", lambda entry: str((entry.val or {}).get("kind") or "not known")),
            Column("Made of", lambda entry: entry.system),
            Column("SHA-256", lambda entry: hash_cell(entry.record.get("sha256"))),
        ],
        note=f"{ledger.used} of {len(ledger.entries)} count as attempts. Times are UTC. Clipped is the "
        "validation score of the predictions clipped to [0, 1].",
        signature="; ".join(
            sorted({str(entry.record.get("signature") or "") for entry in ledger.entries} - {""})
        ),
    )


def tabulate_audit(audit: Audit) -> Table[Diagnostic]:
    """What the audit found in the data folder."""
    return Table(
        id="audit",
        title="Findings of the audit",
        items=audit.findings,
        columns=[
            Column("Severity", lambda f: Cell(text=f.severity, value=SEVERITIES.index(f.severity))),
            Column("Where", lambda finding: finding.where),
            Column("Clips", lambda finding: finding.count, number=True),
            Column("Finding", _describe_finding),
        ],
    )


def tabulate_runs(curves: Sequence[Curve], names: Sequence[str]) -> Table[tuple[str, Curve]]:
    """What is recorded of every run."""

    def record(key: str, *inner: str) -> Callable[[tuple[str, Curve]], str | int | None]:
        return lambda item: _dig(item[1].record, key, *inner)

    return Table(
        id="runs-table",
        title="Runs",
        items=list(zip(names, curves, strict=True)),
        columns=[
            Column("Run", lambda item: item[0]),
            Column("State", lambda item: "finished" if item[1].record.get("finished") else "not finished"),
            Column("Preset", record("preset")),
            Column("Seed", record("seed"), number=True),
            Column("Epochs", lambda item: len(item[1].epochs), number=True),
            Column("Best", _best_epoch, number=True),
            Column("Trained on", _describe_training),
            Column("Hardware", _describe_hardware),
            Column("Backbone", _describe_backbone),
            Column("Data", lambda item: hash_cell(_dig(item[1].record, "data", "fingerprint"))),
            Column("Code", lambda item: hash_cell(item[1].record.get("git_commit"))),
            Column("Versions", _describe_versions),
        ],
    )


def tabulate_inputs(inputs: Sequence[Input]) -> Table[Input]:
    """Every file that was read, with its hash."""
    return Table(
        id="inputs",
        title="Files read",
        items=inputs,
        columns=[
            Column("File", lambda item: str(item.path)),
            Column("Content", lambda item: item.what),
            Column("Rows", lambda item: item.rows, number=True),
            Column("SHA-256", lambda item: hash_cell(item.sha256)),
        ],
    )


def _describe_finding(finding: Diagnostic) -> Cell:
    notes = [note for note in (finding.means, finding.next_step) if note]
    return Cell(text=finding.found, notes=notes)


def _optional_r(value: float | None, otherwise: str = "") -> Cell | str:
    return otherwise if value is None else r_cell(value)


def _validation_interval(entry: Entry) -> Cell:
    _, low, high = read_validation(entry)
    return interval_cell(None if low is None or high is None else (low, high))


def _dig(record: Mapping[str, Any], *keys: str) -> Any:
    """A value inside nested records; None where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _best_epoch(item: tuple[str, Curve]) -> int | None:
    best = item[1].best
    return item[1].record.get("best_epoch") or (best.number if best else None)


def _describe_training(item: tuple[str, Curve]) -> str:
    record = item[1].record
    if not record:
        return ""
    fold = f" without fold {record['fold']}" if record.get("fold") else ""
    return ("train+valid" if record.get("train_plus_val") else "train") + fold


def _describe_hardware(item: tuple[str, Curve]) -> str:
    """Device, for a CPU with its type and threads, and precision."""
    record = item[1].record
    device = _dig(record, "hardware", "device")
    if device == "cpu":
        processor, threads = (_dig(record, "hardware", key) for key in ("processor", "threads"))
        device = f"{processor or 'cpu'}, {threads} thread{'' if threads == 1 else 's'}" if threads else "cpu"
    return ", ".join(str(part) for part in (device, record.get("precision")) if part)


def _describe_versions(item: tuple[str, Curve]) -> Cell:
    """The version of this package, and of what trains the model."""
    versions = _dig(item[1].record, "hardware", "versions") or {}
    names = [name for name in ("torch", "transformers") if versions.get(name)]
    notes = [", ".join(f"{name} {versions[name]}" for name in names)] if names else []
    return Cell(text=str(item[1].record.get("version") or ""), notes=notes)


def _describe_backbone(item: tuple[str, Curve]) -> str:
    backbone = item[1].record.get("backbone")
    return (
        " ".join(str(part) for part in backbone.values() if part)[:60] if isinstance(backbone, dict) else ""
    )
