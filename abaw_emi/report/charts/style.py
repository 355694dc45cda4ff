"""The look of page and figures: colours of two themes, matplotlib's settings, axes and names.

The six emotions keep the hues of Okabe and Ito's palette (blue, orange, green, purple, vermillion, sky blue).
Their lightness is chosen for a contrast of at least 3:1 to the background (WCAG 2.2, 1.4.11), and so that
colour-blind readers distinguish them at least as well as the original colours; tests check both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from abaw_emi.core.constants import EMOTIONS

PAGE_POINTS = 11.0
PAPER_POINTS = 6.5
"""Size of the text in figures on the page and in a paper, in points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of one theme, as #rrggbb; no two roles share one.

    Attributes:
        paper: the background.
        raised: the background of controls, and of the row under the pointer.
        ink: text.
        muted: secondary text, and what is drawn for comparison.
        rule: thin lines.
        accent: links, and the main subject of a figure that is not about an emotion.
        positive: correlations and differences above zero.
        negative: those below zero.
        emotions: by name.
    """

    paper: str
    raised: str
    ink: str
    muted: str
    rule: str
    accent: str
    positive: str
    negative: str
    emotions: Mapping[str, str]

    def variables(self) -> dict[str, str]:
        """Every colour by its CSS variable."""
        roles = asdict(self)
        emotions = roles.pop("emotions")
        return {f"--{slug(name)}": colour for name, colour in {**roles, **emotions}.items()}


def slug(name: str) -> str:
    """The name as it is written in CSS and in file names.

    >>> slug("Empathic Pain")
    'empathic-pain'
    """
    return name.lower().replace(" ", "-")


def _emotions(*colours: str) -> dict[str, str]:
    return dict(zip(EMOTIONS, colours, strict=True))


LIGHT = Palette(
    paper="#ffffff",
    raised="#f4f5f7",
    ink="#1b1d22",
    muted="#5d6370",
    rule="#dcdfe5",
    accent="#0f5f8f",
    positive="#1f6fb2",
    negative="#b5461e",
    emotions=_emotions("#3b4cc0", "#a8860f", "#15807a", "#6e1d6b", "#9c2f0b", "#1597da"),
)

DARK = Palette(
    paper="#15171b",
    raised="#1f2228",
    ink="#e8e9ec",
    muted="#a2a8b4",
    rule="#343841",
    accent="#7fc4ee",
    positive="#6fb6ee",
    negative="#ee9468",
    emotions=_emotions("#4f80f2", "#f2ce4a", "#7de3d3", "#c07a9c", "#e5873a", "#66c0ed"),
)


RUN_STYLES: tuple[Mapping[str, Any], ...] = (
    {"color": LIGHT.accent, "linestyle": "-"},
    {"color": LIGHT.negative, "linestyle": "--"},
    {"color": LIGHT.ink, "linestyle": "-."},
    {"color": LIGHT.muted, "linestyle": "-"},
    {"color": LIGHT.positive, "linestyle": ":"},
    {"color": LIGHT.ink, "linestyle": (0, (1, 1))},
)
"""Lines of as many runs as can be distinguished in one figure."""


def settings(size: float, *, page: bool) -> dict[str, Any]:
    """Settings of matplotlib for figures with text of `size` points, for the page or for a paper."""
    thin = size / 14
    return {
        "svg.fonttype": "none" if page else "path",
        "text.parse_math": False,  # names of files may contain dollar signs
        "font.size": size,
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "axes.titlepad": 0.7 * size,
        "axes.titlecolor": LIGHT.ink,
        "axes.labelcolor": LIGHT.muted,
        "axes.edgecolor": LIGHT.muted,
        "axes.facecolor": "none",
        "axes.linewidth": thin,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": LIGHT.rule,
        "grid.linewidth": thin,
        "xtick.color": LIGHT.muted,
        "ytick.color": LIGHT.muted,
        "xtick.major.size": 0.3 * size,
        "ytick.major.size": 0,
        "xtick.major.width": thin,
        "ytick.major.pad": 0.4 * size,
        "text.color": LIGHT.ink,
        "lines.linewidth": size / 7,
        "lines.markersize": size / 2.2,
        "lines.solid_capstyle": "round",
        "figure.facecolor": "none" if page else LIGHT.paper,
        "figure.constrained_layout.h_pad": 3 / 72,
        "figure.constrained_layout.w_pad": 3 / 72,
    }


def points(size: float) -> float:
    """A width or an offset that fits the page's text, scaled to the text size of the current figure."""
    return size * float(mpl.rcParams["font.size"]) / PAGE_POINTS


def note(axes: Axes, x: float, y: float, text: str, **changes: Any) -> None:
    """Writes text at a position of the axes, from (0, 0) to (1, 1)."""
    axes.text(x, y, text, transform=axes.transAxes, **{"color": LIGHT.muted, **changes})


def show_percent(axes: Axes) -> None:
    """Labels the y axis in percent, with round steps."""
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, place: f"{100 * share:.4g}%"))


def show_intensities(axes: Axes) -> None:
    """Makes the x axis one of intensities, from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def draw_rows(axes: Axes, names: Sequence[str], label: str) -> None:
    """Makes the y axis one of named rows, the first at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=LIGHT.ink)
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.08)
    axes.set_xlabel(label)


def draw_matrix(axes: Axes) -> None:
    """Removes what a matrix of cells does not need: ticks, grid and frame."""
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def shorten(name: str, most: int) -> str:
    """The name on one line; the middle is left out where it is longer than `most` characters.

    >>> shorten("paper-trainval-seed1", 12)
    'paper-…seed1'
    """
    name = " ".join(name.split())
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def format_number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """A number in the format of the page, with a true minus sign, or "undefined".

    >>> format_number(0.12344), format_number(0.5, 3, signed=True)
    ('0.1234', '+0.500')
    """
    if value is None or np.isnan(value):
        return "undefined"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_bounds(bounds: tuple[float, float] | None, digits: int = 4, *, signed: bool = False) -> str:
    """An interval in brackets; empty for None."""
    return "" if bounds is None else f"[{', '.join(format_number(b, digits, signed=signed) for b in bounds)}]"


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Mapping[str, Any]]]) -> None:
    """Writes names beside the right ends of lines, moved apart where they would overlap.

    Args:
        axes: with limits already set.
        ends: of each line its height, its name and its style, of which a sample is drawn before the name. The
            name itself stays in the colour of text.
    """
    if not ends:
        return
    low, high = axes.get_ylim()
    gap = (high - low) * 0.078
    order = sorted(ends, key=lambda end: end[0])
    heights = np.clip([height for height, _, _ in order], low, high)
    steps = gap * np.arange(len(order))
    for _ in range(50):  # push neighbours apart, and back inside the axes, until none overlaps
        short = np.maximum(gap - np.diff(heights), 0) / 2
        heights[1:] += short
        heights[:-1] -= short
        heights = np.clip(heights, low + steps, high - steps[::-1])
    across = axes.get_yaxis_transform()
    for height, (_, name, style) in zip(heights, order, strict=True):
        sample = {**style, "markevery": [1], "transform": across, "clip_on": False}
        axes.plot([1.02, 1.05, 1.08], [height] * 3, **sample)
        axes.text(1.1, height, name, transform=across, va="center", color=LIGHT.muted)
