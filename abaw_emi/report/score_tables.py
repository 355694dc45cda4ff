"""The tables of the evidence: systems, pairs of them, K-fold runs, and what is not scored."""

from __future__ import annotations

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.evaluation.text_tables import format_p
from abaw_emi.report.results import Findings
from abaw_emi.report.sources import Material
from abaw_emi.report.tables import (
    Cell,
    Column,
    Table,
    correlation_cell,
    interval_cell,
)


def tabulate_scores(findings: Findings) -> Table:
    """Every scored system, per emotion, with the interval of its mean."""
    columns = [
        Column(name="System"),
        Column(name="Mean", number=True),
        Column(name="95 % interval", number=True),
        *(Column(name=emotion, number=True) for emotion in EMOTIONS),
        Column(name="What it is"),
    ]
    rows = []
    for standing in findings.standings:
        score = standing.score
        known = "" if standing.complete else "; what it was trained on is not known"
        rows.append(
            [
                Cell(text=standing.name),
                correlation_cell(score.mean_pearson),
                interval_cell(score.interval.get(MEAN)),
                *(correlation_cell(score.pearson[emotion]) for emotion in EMOTIONS),
                Cell(text=standing.origin + known),
            ]
        )
    signatures = sorted({standing.score.signature for standing in findings.standings})
    return Table(
        id="systems",
        name="Scored systems",
        columns=columns,
        rows=rows,
        title="Every system",
        signature="; ".join(signatures),
        filter=len(rows) > 5,
        lead=True,
    )


def tabulate_unscored(material: Material) -> Table:
    """Prediction files that are not scored, and why."""
    rows = [
        [
            Cell(text=system.name),
            Cell(text=f"{len(system.table):,}", value=len(system.table)),
            Cell(text=system.why_not),
        ]
        for system in material.systems
        if system.why_not
    ]
    columns = [Column(name="Predictions"), Column(name="Clips", number=True), Column(name="Why")]
    return Table(
        id="unscored", name="Predictions without a score", columns=columns, rows=rows, title="Not scored"
    )


def tabulate_folds(findings: Findings) -> Table:
    """Scores of K-fold runs."""
    columns = [
        Column(name="Preset"),
        Column(name="Mean", number=True),
        Column(name="95 % interval", number=True),
        *(Column(name=emotion, number=True) for emotion in EMOTIONS),
        Column(name="What it is"),
    ]
    rows = [
        [
            Cell(text=fold.preset),
            correlation_cell(fold.mean_pearson),
            interval_cell(fold.interval.get(MEAN)),
            *(correlation_cell(fold.pearson[emotion]) for emotion in EMOTIONS),
            Cell(text=fold.describe),
        ]
        for fold in findings.folds
    ]
    return Table(id="folds", name="K-fold runs", columns=columns, rows=rows, title="K-fold runs")


def tabulate_pairs(findings: Findings) -> Table:
    """Every two systems that were compared."""
    assert findings.comparison is not None
    columns = [
        Column(name="First"),
        Column(name="Second"),
        Column(name="Difference", number=True),
        Column(name="95 % interval", number=True),
        Column(name="p", number=True),
        Column(name="p (Holm)", number=True),
        Column(name="First is"),
        Column(name="Detectable", number=True),
        Column(name="Correlation", number=True),
        Column(name="Gain of mean", number=True),
    ]
    rows = []
    for pair in findings.comparison.pairs:
        d = pair.difference
        smallest = d.detectable[MEAN]
        rows.append(
            [
                Cell(text=d.first),
                Cell(text=d.second),
                correlation_cell(d.difference[MEAN], signed=True),
                interval_cell(d.interval[MEAN], signed=True),
                Cell(text=format_p(d.p[MEAN]), value=d.p[MEAN]),
                Cell(text=format_p(d.p_holm[MEAN]), value=d.p_holm[MEAN]),
                Cell(text=d.verdict),
                Cell() if smallest is None else correlation_cell(smallest),
                correlation_cell(pair.mean_correlation),
                correlation_cell(pair.gain, signed=True),
            ]
        )
    return Table(
        id="pairs",
        name="Pairs of systems",
        columns=columns,
        rows=rows,
        title="Every pair",
        note="Detectable is the smallest true difference that four of five such splits would show. The lower "
        "the correlation of two systems' predictions, the more their mean can gain.",
        filter=len(rows) > 8,
        signature=findings.comparison.signature,
    )
