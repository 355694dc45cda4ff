"""The table of the clips that a system is furthest off on: a player of each, and true against predicted."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.report.palette import slug
from abaw_emi.report.results import Findings, WorstClip
from abaw_emi.report.tables import (
    Cell,
    Column,
    Table,
    number_cell,
)

_STRIP_TOP, _STRIP_BOTTOM = 5.0, 39.0


def tabulate_worst(findings: Findings, page: Path) -> Table:
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
