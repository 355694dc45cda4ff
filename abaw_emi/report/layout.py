"""What stands on the page: its sections, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abaw_emi.core.constants import OFFICIAL_COUNTS, VERSION
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.evaluation.text_tables import format_interval
from abaw_emi.report import (
    comparison_charts,
    data_charts,
    record_tables,
    score_charts,
    score_tables,
    training_charts,
)
from abaw_emi.report.history import Durations
from abaw_emi.report.record_tables import Table
from abaw_emi.report.results import MOST_SYSTEMS, Results
from abaw_emi.report.sources import Material
from abaw_emi.report.style import Chart


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, or with kind "missing" what is not here."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Lines:
    """A list of lines."""

    lines: Sequence[str]
    kind: str = "list"


Block = Chart | Table | Text | Lines
"""What a section is made of."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number at the head of the page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report, before it is set.

    Attributes:
        lede: what the page is of.
        tiles: the numbers at its head.
        sections: in their order.
        missing: what is not on the page, by section, and why.
    """

    lede: str
    tiles: Sequence[Tile]
    sections: Sequence[Section]
    missing: dict[str, list[str]] = field(default_factory=dict)

    @property
    def charts(self) -> list[Chart]:
        """Every chart, in the order of the page."""
        return [item for section in self.sections for item in section.blocks if isinstance(item, Chart)]


def plan_report(material: Material, findings: Results, durations: Durations | None, page: Path) -> Report:
    """The report of what was read and found.

    Args:
        material: what was read.
        findings: what it tells of its systems.
        durations: of the clips, None where they are not known.
        page: where the page will lie, which players' addresses start from.
    """
    names = _name_runs(material)
    sections = [
        _tell_data(material, durations),
        _tell_training(material, names),
        _tell_validation(material, findings, page),
        _tell_comparison(findings),
        _tell_submissions(material),
    ]
    signed = [
        (item.title or item.name, item.signature)
        for section in sections
        for item in section.blocks
        if isinstance(item, Chart | Table) and item.signature
    ]
    missing = {
        section.id: [
            item.text for item in section.blocks if isinstance(item, Text) and item.kind == "missing"
        ]
        for section in sections
    }
    sections = [
        _tell_origin(material, findings),
        *sections,
        _tell_provenance(material, names, signed),
    ]
    return Report(
        lede=_tell_lede(material),
        tiles=_count(material, findings),
        sections=sections,
        missing={name: texts for name, texts in missing.items() if texts},
    )


def _missing(text: str) -> Text:
    return Text(text, "missing")


def _tell_lede(material: Material) -> str:
    parts = []
    if material.labels:
        sizes = [f"{len(table):,} {split}" for split, table in material.labels.items()]
        parts.append(f"the labels of {' and '.join(sizes)} clips")
    parts += [
        _count_of(number, what)
        for number, what in (
            (len(material.curves), "run"),
            (sum(system.run is None for system in material.systems), "prediction file"),
            (len(material.ledger.entries) if material.ledger else 0, "submission"),
        )
        if number
    ]
    told = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"A report of {told}."


def _count_of(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _count(material: Material, findings: Results) -> list[Tile]:
    tiles = []
    if findings.best is not None:
        score = findings.best.score
        bounds = format_interval(score.interval.get(MEAN)).replace(" ", "\N{NO-BREAK SPACE}")
        told = f"{findings.best.name}, 95 % {bounds}" if bounds else findings.best.name
        tiles.append(
            Tile(name=f"Best mean Pearson on {findings.split}", value=f"{score.mean_pearson:.4f}", note=told)
        )
    if findings.gain is not None:
        one, every = (float(findings.gain.scores[k].mean()) for k in (1, len(findings.gain.members)))
        told = f"the mean of {len(findings.gain.members)} against one of them"
        tiles.append(Tile(name="Gain of ensembling", value=f"{every - one:+.4f}", note=told))
    tests = [e for e in material.ledger.entries if e.test_score is not None] if material.ledger else []
    if tests:
        best = max(tests, key=lambda entry: entry.test_score or 0.0)
        tiles.append(Tile(name="Best test score", value=f"{best.test_score:.4f}", note=best.name))
    ids = material.ids()
    if ids:
        told = ", ".join(f"{len(clips):,} {split}" for split, clips in ids.items())
        tiles.append(Tile(name="Clips", value=f"{sum(map(len, ids.values())):,}", note=told))
    if material.curves:
        done = sum(bool(curve.record.get("finished")) for curve in material.curves)
        tiles.append(Tile(name="Runs", value=str(len(material.curves)), note=f"{done} finished"))
    return tiles[:4]


def _tell_origin(material: Material, findings: Results) -> Section:
    items: list[Block] = [
        Text(
            "The challenge: six emotion intensities of a short clip, predicted. The score is Pearson's r "
            "between predictions and labels over the clips of a split, per emotion, and the plain mean of "
            "the six; an undefined r counts 0. Intervals are bootstrapped over clips, taken as independent: "
            "clips of one speaker are not, so true intervals are somewhat wider."
        ),
        Text(
            f"Everything was computed by abaw-emi {VERSION} from the files listed under Provenance, with "
            "their hashes. Under every number stands its signature: with it and those files anybody gets the "
            "same number."
        ),
    ]
    warnings = [str(problem) for problem in (*material.warnings, *findings.warnings)]
    for standing in findings.standings:
        warnings += [f"{standing.name}, {problem}" for problem in standing.score.problems]
    if warnings:
        items += [Text("To know before reading on:"), Lines(warnings)]
    return Section("about", "What this is", items)


def _tell_data(material: Material, durations: Durations | None) -> Section:
    items: list[Block] = []
    if not material.labels:
        items.append(
            _missing("No labels: no data folder was given, or it has no train_split.csv or valid_split.csv.")
        )
    else:
        other = [
            f"{split} has {len(clips):,} clips, the official one {OFFICIAL_COUNTS[split]:,}"
            for split, clips in material.ids().items()
            if len(clips) != OFFICIAL_COUNTS[split]
        ]
        if other:
            items.append(Text(f"These are not the official sizes: {'; '.join(other)}."))
        items.append(data_charts.chart_labels(material.labels))
    if durations is not None and any(values.size for values in durations.seconds.values()):
        items.append(data_charts.chart_durations(durations))
    else:
        items.append(
            _missing(
                "No durations: there is no audit.json (abaw-emi audit makes it), and the clips' files are "
                "not at hand, or cannot be opened without the extra train."
            )
        )
    if material.labels:
        items.append(data_charts.chart_correlations(material.labels))
    if material.audit is not None and material.audit.findings:
        items.append(record_tables.tabulate_audit(material.audit))
    return Section("data", "The data", items)


def _tell_training(material: Material, names: Sequence[str]) -> Section:
    items: list[Block] = []
    if not material.curves:
        items.append(_missing("No runs given."))
    elif not any(curve.epochs for curve in material.curves):
        items.append(_missing("No run has finished an epoch yet."))
    else:
        items.append(training_charts.chart_curves(material.curves, names))
    return Section("training", "Training", items)


def _tell_validation(material: Material, findings: Results, page: Path) -> Section:
    items: list[Block] = []
    if not findings.standings:
        why = "No predictions of labelled clips that their predictor has not seen."
        items.append(_missing(why if material.systems else "No predictions given."))
    else:
        if findings.split == "train":
            items.append(Text("These predictions are of the training clips: not a validation score."))
        items += [
            score_charts.chart_scores(findings),
            score_tables.tabulate_scores(findings),
            score_charts.chart_density(findings),
            score_tables.tabulate_worst(findings, page),
        ]
    if findings.folds:
        items.append(score_tables.tabulate_folds(findings))
    if any(system.why_not for system in material.systems):
        items.append(score_tables.tabulate_unscored(material))
    return Section("validation", "Validation", items)


def _tell_comparison(findings: Results) -> Section:
    items: list[Block] = []
    if findings.comparison is None:
        items.append(_missing("Nothing to compare: there are fewer than two scored systems."))
    else:
        if findings.left_out:
            items.append(
                Text(
                    f"The best {MOST_SYSTEMS} systems are compared; {findings.left_out} more have lower "
                    "scores."
                )
            )
        items += [
            comparison_charts.chart_comparison(findings.comparison),
            score_tables.tabulate_pairs(findings),
        ]
    if findings.gain is None:
        items.append(_missing("No ensemble gain: there are fewer than two members."))
    else:
        items.append(comparison_charts.chart_gain(findings.gain))
    return Section("comparison", "Comparison", items)


def _tell_submissions(material: Material) -> Section:
    items: list[Block] = []
    if material.ledger is None or not material.ledger.entries:
        items.append(_missing("No submissions: no ledger was found."))
    else:
        chart = comparison_charts.chart_submissions(material.ledger)
        items += [] if chart is None else [chart]
        items.append(record_tables.tabulate_submissions(material))
    return Section("submissions", "Submissions", items)


def _tell_provenance(material: Material, names: Sequence[str], signed: Sequence[tuple[str, str]]) -> Section:
    items: list[Block] = []
    if material.curves:
        items.append(record_tables.tabulate_runs(material.curves, names))
    items += [record_tables.tabulate_inputs(material.inputs), record_tables.tabulate_signatures(signed)]
    return Section("provenance", "Provenance", items)


def _name_runs(material: Material) -> list[str]:
    names = [curve.run.name for curve in material.curves]
    return [
        name if names.count(name) == 1 else str(curve.run.folder)
        for name, curve in zip(names, material.curves, strict=True)
    ]
