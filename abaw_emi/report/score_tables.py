"""Tables of scores: systems, pairs of them, K-fold runs, the largest errors, and what is not scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.evaluation.compare import Comparison, Pair
from abaw_emi.evaluation.score import Score
from abaw_emi.evaluation.significance import MEAN, Verdict
from abaw_emi.evaluation.text_tables import format_clipped
from abaw_emi.report.blocks import Cell, Column, T, Table, interval_cell, r_cell
from abaw_emi.report.charts.chart import sign
from abaw_emi.report.charts.style import format_bounds, format_number, slug
from abaw_emi.report.clip_errors import FEWEST, GroupError, WorstClip
from abaw_emi.report.results import Results, Standing
from abaw_emi.report.sources import Material
from abaw_emi.report.systems import System
from abaw_emi.runs.kfold import FoldScore

_VERDICTS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "not shown": "not significantly different",
}

_STRIP_TOP, _STRIP_BOTTOM = 5.0, 39.0
"""Heights of the intensities 1 and 0 in a strip, in its units, downwards."""


def tabulate_scores(results: Results) -> Table[Standing]:
    """Every scored system, per emotion, with the interval of its mean."""
    return Table(
        id="systems",
        title="Scored systems",
        items=results.standings,
        columns=[
            Column("System", lambda standing: standing.name),
            *_score_columns(results.standings, lambda standing: standing.score),
            Column("Origin", _describe_origin),
        ],
        signature="; ".join(sorted({standing.score.signature for standing in results.standings})),
        lead=True,
    )


def tabulate_unscored(material: Material) -> Table[System]:
    """Prediction files that are not scored, and why."""
    return Table(
        id="unscored",
        title="Predictions without a score",
        items=[system for system in material.systems if system.why_not],
        columns=[
            Column("Predictions", lambda system: system.name),
            Column("Clips", lambda system: len(system.table), number=True),
            Column("Reason", lambda system: system.why_not),
        ],
    )


def tabulate_folds(results: Results) -> Table[FoldScore]:
    """Scores of K-fold runs."""
    return Table(
        id="folds",
        title="K-fold runs",
        items=results.folds,
        columns=[
            Column("Preset", lambda fold: fold.preset),
            *_score_columns(results.folds, lambda fold: fold),
            Column("Origin", lambda fold: fold.describe),
        ],
    )


def tabulate_pairs(comparison: Comparison) -> Table[Pair]:
    """Every two systems that were compared."""
    return Table(
        id="pairs",
        title="Pairs of systems",
        items=comparison.pairs,
        columns=[
            Column("First", lambda pair: pair.difference.first),
            Column("Second", lambda pair: pair.difference.second),
            Column("Difference", lambda p: r_cell(p.difference.difference[MEAN], signed=True), number=True),
            Column(
                "95% interval",
                lambda p: interval_cell(p.difference.interval[MEAN], signed=True),
                number=True,
            ),
            Column("p", lambda pair: _p_cell(pair.difference.p[MEAN]), number=True),
            Column("p (Holm)", lambda pair: _p_cell(pair.difference.p_holm[MEAN]), number=True),
            Column("First is", lambda pair: _VERDICTS[pair.difference.verdict]),
            Column("Detectable", _detectable_cell, number=True),
            Column("Correlation", lambda pair: r_cell(pair.mean_correlation), number=True),
            Column("Gain of mean", lambda pair: r_cell(pair.gain, signed=True), number=True),
        ],
        note="Detectable is the smallest true difference that such a test would show in four of five splits "
        "of this size. The lower the correlation of two systems' predictions, the more their mean can gain.",
        signature=comparison.signature,
    )


def tabulate_worst(results: Results, page: Path) -> Table[WorstClip]:
    """The clips with the largest errors of the best system, with a player of their files."""
    best = results.standings[0]
    return Table(
        id="worst-clips",
        title="Clips with the largest errors",
        items=results.worst,
        columns=[
            Column("Clip", lambda clip: Cell(text=clip.filename, href=_link(clip.video or clip.audio, page))),
            Column("Listen", lambda clip: _player(clip, page), sortable=False, screen=True),
            Column("Error", lambda clip: clip.error, number=True),
            Column("Largest for", lambda clip: EMOTIONS[clip.furthest]),
            Column("True", lambda clip: float(clip.truth[clip.furthest]), number=True),
            Column("Predicted", lambda clip: float(clip.prediction[clip.furthest]), number=True),
            Column("All six, true to predicted", _strip, sortable=False),
        ],
        note=f"The {len(results.worst)} clips with the largest errors of {best.name}: the root mean squared "
        "difference over the six emotions, in the unit of the labels. Rings are true, dots predicted, in the "
        f"order {', '.join(EMOTIONS)}. Players and links open the clip's file in the data folder, so they "
        "work only where that folder is.",
        signature=sign("rmse", f"n:{best.score.n}", f"emotions:{len(EMOTIONS)}"),
    )


def tabulate_groups(results: Results) -> Table[GroupError]:
    """The errors of the best system by group of clips."""
    best = results.standings[0]
    return Table(
        id="groups",
        title="Errors by group of clips",
        items=results.groups,
        columns=[
            Column("Clips", lambda group: group.group),
            Column("Grouped by", lambda group: group.kind),
            Column("Number", lambda group: group.n, number=True),
            Column("Error", lambda group: group.error, number=True),
            Column("Minus the others", _difference_cell, number=True),
            Column("95% interval", lambda g: format_bounds(g.interval, 3, signed=True), number=True),
        ],
        note=f"The mean error of {best.name}, in the unit of the labels, and its difference from that of the "
        f"other clips (interval of Welch's t). Groups of fewer than {FEWEST} clips are left out.",
        signature=sign("group_rmse", f"n:{best.score.n}", "ci:welch,0.95"),
    )


def _difference_cell(group: GroupError) -> Cell:
    return Cell(text=format_number(group.difference, 3, signed=True), value=group.difference)


def _score_columns(items: Sequence[T], score_of: Callable[[T], Score | FoldScore]) -> list[Column[T]]:
    """Mean, interval, the mean of clipped predictions where any is another, and the six emotions."""

    def emotion_cell(emotion: str) -> Callable[[T], Cell]:
        return lambda item: r_cell(score_of(item).pearson[emotion])

    def clipped_cell(item: T) -> Cell:
        return r_cell(score_of(item).clipped_mean_pearson)

    def differs(item: T) -> bool:
        return bool(format_clipped(score_of(item).mean_pearson, score_of(item).clipped_mean_pearson))

    return [
        Column("Mean", lambda item: r_cell(score_of(item).mean_pearson), number=True),
        Column("95% interval", lambda item: interval_cell(score_of(item).interval.get(MEAN)), number=True),
        *([Column("Clipped", clipped_cell, number=True)] if any(map(differs, items)) else []),
        *(Column(emotion, emotion_cell(emotion), number=True) for emotion in EMOTIONS),
    ]


def _describe_origin(standing: Standing) -> str:
    return standing.origin + ("" if standing.complete else "; what it was trained on is not known")


def _p_cell(p: float) -> Cell:
    return Cell(text=format_number(p), value=p)


def _detectable_cell(pair: Pair) -> Cell | None:
    smallest = pair.difference.detectable[MEAN]
    return None if smallest is None else r_cell(smallest)


def _link(media: Path | None, page: Path) -> str:
    """The file's address, relative to the page's folder; empty for None."""
    if media is None:
        return ""
    try:
        relative = Path(os.path.relpath(media.absolute(), page.absolute().parent))
    except ValueError:  # another drive of Windows
        return media.absolute().as_uri()
    return quote(relative.as_posix())


def _player(clip: WorstClip, page: Path) -> Cell:
    """A player of the sound, which is what the model reads, or else of the video."""
    media = clip.audio or clip.video
    if media is None:
        return Cell(text="no file")
    kind = "audio" if clip.audio else "video"
    return Cell(kind=kind, href=_link(media, page), label=f"Clip {clip.filename}")


def _strip(clip: WorstClip) -> Cell:
    """Six vertical lines, from the true to the predicted intensity, on the scale of the labels, 0 to 1."""
    values = list(zip(EMOTIONS, clip.truth.tolist(), clip.prediction.tolist(), strict=True))
    bars: list[dict[str, object]] = [
        {"slug": slug(e), "x": 11 + 22 * i, "truth": _height(truth), "prediction": _height(prediction)}
        for i, (e, truth, prediction) in enumerate(values)
    ]
    text = "; ".join(f"{e} {truth:.2f}, predicted {prediction:.2f}" for e, truth, prediction in values)
    return Cell(kind="strip", text=text, bars=bars)


def _height(value: float) -> str:
    inside = min(1.0, max(0.0, value))
    return f"{_STRIP_BOTTOM - inside * (_STRIP_BOTTOM - _STRIP_TOP):.1f}"
