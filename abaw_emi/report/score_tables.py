"""The tables of the evidence: systems, pairs of them, K-fold runs, and what is not scored."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.evaluation.text_tables import format_p
from abaw_emi.report.palette import slug
from abaw_emi.report.record_tables import (
    Cell,
    Column,
    Table,
    correlation_cell,
    interval_cell,
    number_cell,
)
from abaw_emi.report.results import Results, WorstClip
from abaw_emi.report.sources import Material


def tabulate_scores(findings: Results) -> Table:
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


def tabulate_folds(findings: Results) -> Table:
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


def tabulate_pairs(findings: Results) -> Table:
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


_STRIP_TOP, _STRIP_BOTTOM = 5.0, 39.0


def tabulate_worst(findings: Results, page: Path) -> Table:
    """The clips that the best system is furthest off on, with a player of their files."""
    columns = [
        Column(name="Clip"),
        Column(name="Listen", plain=True, screen=True),
        Column(name="Error", number=True),
        Column(name="Furthest off on"),
        Column(name="True", number=True),
        Column(name="Predicted", number=True),
        Column(name="All six, true to predicted", plain=True),
    ]
    rows = []
    for clip in findings.worst:
        place = EMOTIONS.index(clip.furthest)
        shown = clip.video or clip.audio
        href = "" if shown is None else _link(shown, page)
        rows.append(
            [
                Cell(text=clip.filename, href=href),
                _player(clip, page),
                number_cell(clip.error),
                Cell(text=clip.furthest),
                number_cell(float(clip.truth[place])),
                number_cell(float(clip.prediction[place])),
                _strip(clip),
            ]
        )
    best = findings.standings[0]
    return Table(
        id="worst-clips",
        name="Clips with the largest errors",
        columns=columns,
        rows=rows,
        title="The worst clips",
        note=f"The {len(rows)} clips that {best.name} is furthest off on: the root mean squared difference "
        "over the six emotions, in the labels' units. Rings are true, dots predicted, in the order "
        f"{', '.join(EMOTIONS)}. Players and links read the clip's file where it lies, so "
        "they work only where the data is.",
        filter=True,
        signature=f"rmse|n:{best.score.n}|emotions:{len(EMOTIONS)}",
    )


def _link(media: Path, page: Path) -> str:
    """The file's address, relative to the page's folder."""
    try:
        relative = Path(os.path.relpath(media.absolute(), page.absolute().parent))
    except ValueError:  # another drive of Windows
        return media.absolute().as_uri()
    return quote(relative.as_posix())


def _player(clip: WorstClip, page: Path) -> Cell:
    """Of the sound, which is what the model hears, or else of the video."""
    media = clip.audio or clip.video
    if media is None:
        return Cell(text="no file")
    href = _link(media, page)
    return Cell(kind="player", href=href, video=clip.audio is None, label=f"Clip {clip.filename}")


def _strip(clip: WorstClip) -> Cell:
    """Six upright lines, from true to predicted; the scale is that of the labels, 0 to 1."""
    bars: list[dict[str, object]] = []
    told = []
    for place, emotion in enumerate(EMOTIONS):
        truth, prediction = float(clip.truth[place]), float(clip.prediction[place])
        bars.append(
            {
                "slug": slug(emotion),
                "x": 11 + 22 * place,
                "truth": _height(truth),
                "prediction": _height(prediction),
            }
        )
        told.append(f"{emotion} {truth:.2f}, predicted {prediction:.2f}")
    return Cell(kind="strip", text="; ".join(told), bars=bars)


def _height(value: float) -> str:
    inside = min(1.0, max(0.0, value))
    return f"{_STRIP_BOTTOM - inside * (_STRIP_BOTTOM - _STRIP_TOP):.1f}"
