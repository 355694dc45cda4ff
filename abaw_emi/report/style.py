"""A chart: panels that matplotlib draws, for the page and for a paper, and the numbers that they show.

A panel is drawn once for the page, as an SVG whose colours are CSS variables, so that the one picture reads
in both themes, and whose text is text. For a paper the panels stand in one figure, as wide as a column, in
the light theme's colours. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from abaw_emi.evaluation.text_tables import TextTable
from abaw_emi.report.palette import LIGHT

SMALL = (264.0, 186.0)
"""Width and height of a panel of which three stand side by side on the page, in CSS pixels."""
SQUARE = (264.0, 252.0)
MEDIUM = (400.0, 268.0)
"""The same for two side by side."""

COLUMN_INCHES = 3.25
TWO_COLUMNS_INCHES = 6.875
"""Widths of figures for a paper: a column of a CVPR paper, and both of them (its author kit)."""

_PAGE_POINTS = 11.0
_PAPER_POINTS = 6.5
_DOTS_PER_INCH = 400

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")
_VARIABLES = {colour: f"var({name})" for name, colour in LIGHT.variables().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above the axes.
        alt: what a reader who cannot see it is told.
        draw: draws it; colours are those of `palette.LIGHT`.
        size: on the page, in CSS pixels.
    """

    title: str
    alt: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Panels that belong together.

    Attributes:
        name: of its files, without a suffix.
        title: its heading.
        caption: what is shown, and how to read it.
        panels: one at least.
        data: the numbers shown, unrounded.
        signature: what makes the same numbers again, on one line.
        columns: panels side by side in a paper's column.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    data: TextTable
    signature: str
    columns: int = 1

    def pictures(self) -> list[str]:
        """Each panel as an SVG element for the page."""
        pictures = []
        for number, panel in enumerate(self.panels):
            width, height = panel.size
            with _style(_PAGE_POINTS, f"{self.name}-{number}", page=True):
                figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
                _draw(figure.subplots(), panel)
                pictures.append(_inline(_save(figure, "svg").decode(), panel))
        return pictures

    def paper(self, form: str) -> bytes:
        """All panels in one figure of a column's width, or of two, as "svg" (text as outlines) or "png"."""
        rows = -(-len(self.panels) // self.columns)
        width, height = self.panels[0].size
        # A panel as wide as the column need not be as tall as one on the page.
        across = COLUMN_INCHES if width <= MEDIUM[0] else TWO_COLUMNS_INCHES
        tall = (0.8 if across / self.columns > 3 else 1.0) * across / self.columns * height / width
        inches = (across, tall * rows)
        with _style(_PAPER_POINTS, self.name, page=False):
            figure = Figure(figsize=inches, layout="constrained")
            grid = figure.subplots(rows, self.columns, squeeze=False).ravel()
            for axes, panel in zip(grid, self.panels, strict=False):
                _draw(axes, panel)
            for axes in grid[len(self.panels) :]:
                axes.remove()
            return _save(figure, form)


def points(size: float) -> float:
    """A width or an offset, given for the page's text, in points that fit the text of whatever is drawn."""
    return size * float(mpl.rcParams["font.size"]) / _PAGE_POINTS


def note(axes: Axes, x: float, y: float, text: str, **changes: Any) -> None:
    """Writes text at a place of the axes, (0, 0) to (1, 1)."""
    axes.text(x, y, text, transform=axes.transAxes, **{"color": LIGHT.muted, **changes})


def show_percent(axes: Axes) -> None:
    """Makes the y axis one of shares, with round steps."""
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, place: f"{100 * share:.4g}%"))


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


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left")
    panel.draw(axes)


@contextmanager
def _style(size: float, salt: str, *, page: bool) -> Iterator[None]:
    thin = size / 14
    style: Any = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none" if page else "path",
        "text.parse_math": False,  # names of files may hold dollars
        "font.family": "DejaVu Sans",
        "font.size": size,
        "axes.titlesize": size,
        "axes.titleweight": "bold",
        "axes.titlepad": 0.7 * size,
        "axes.titlecolor": LIGHT.ink,
        "axes.labelsize": size,
        "axes.labelcolor": LIGHT.muted,
        "axes.edgecolor": LIGHT.muted,
        "axes.facecolor": "none",
        "axes.linewidth": thin,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": LIGHT.rule,
        "grid.linewidth": thin,
        "xtick.labelsize": size,
        "ytick.labelsize": size,
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
        "savefig.facecolor": "auto",
    }
    # matplotlib's own defaults, whatever matplotlibrc this machine has.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _save(figure: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    unwanted = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    figure.savefig(buffer, format=form, dpi=72 if form == "svg" else _DOTS_PER_INCH, metadata=unwanted[form])
    return buffer.getvalue()


def _inline(text: str, panel: Panel) -> str:
    """A stand-alone SVG as an element of the page: themed, described, and without what would leak out of it.

    Styles and ids of an inline SVG are the page's: styles go, and of the ids only those stay that the SVG
    itself refers to; they are hashes of the chart's name and of their content.
    """
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    referred = set(re.findall(r"#([\w.-]+)", text))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.get("id") not in referred:
            element.attrib.pop("id", None)
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for name in ("d", "x", "y", "width", "height"):
            if name in element.attrib:
                rounded = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[name])
                element.set(name, " ".join(rounded.split()))
        if "style" in element.attrib:
            element.set("style", _theme(element.attrib["style"]))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        element.text = (element.text or "").strip("\n ") or None
        element.tail = None
    for name in ("version", "width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", panel.alt)
    root.set("class", "panel")
    root.set("style", f"--width: {panel.size[0]:.0f}px")
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _theme(style: str) -> str:
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    return re.sub("#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), style)


def sheet(header: Sequence[str], rows: Sequence[Sequence[object]]) -> TextTable:
    """Numbers as a table of text, unrounded; None is an empty cell."""
    cells = [
        ["" if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in row]
        for row in rows
    ]
    return TextTable(header, cells)
