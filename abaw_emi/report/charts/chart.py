"""A chart: panels drawn by matplotlib, for the page and for a paper, and the numbers that they show.

On the page each panel is an SVG element whose colours are CSS variables, so that one picture fits both
themes, and whose text is text. For a paper all panels are in one figure, as wide as a column, in the colours
of the light theme. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abaw_emi.core.constants import VERSION
from abaw_emi.evaluation.text_tables import TextTable, render
from abaw_emi.report.charts.style import LIGHT, PAGE_POINTS, PAPER_POINTS, settings

SMALL = (264.0, 186.0)
"""Width and height of a panel, three of which are side by side on the page, in CSS pixels."""
SQUARE = (264.0, 252.0)
MEDIUM = (400.0, 268.0)
"""The same for two side by side."""

COLUMN_INCHES = 3.25
TWO_COLUMNS_INCHES = 6.875
"""Widths of figures for a paper: one and two columns of a CVPR paper (its author kit)."""

_DOTS_PER_INCH = 400

_LINK = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")
_VARIABLES = {colour: f"var({name})" for name, colour in LIGHT.variables().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above the axes.
        alt: the description for readers who cannot see it.
        draw: draws it, in the colours of `style.LIGHT`.
        size: on the page, in CSS pixels.
    """

    title: str
    alt: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One figure: one or more panels with a common caption.

    Attributes:
        name: of its files, without a suffix.
        title: its heading.
        caption: what it shows, and how to read it.
        panels: one or more.
        data: the numbers shown, unrounded.
        signature: the settings that reproduce the numbers, on one line.
        columns: panels side by side in a column of a paper.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    data: TextTable
    signature: str
    columns: int = 1
    kind: str = "chart"

    @property
    def csv(self) -> str:
        """The numbers as a CSV file, as a link that holds the whole file."""
        return f"data:text/csv;charset=utf-8,{quote(render(self.data, 'csv'), safe=', ')}"

    @property
    def shape(self) -> str:
        """How its panels are arranged on the page: "small", "medium", "single" or "wide"."""
        width = self.panels[0].size[0]
        if width == SMALL[0]:
            return "small"
        if len(self.panels) > 1:
            return "medium"
        return "single" if width <= 1.1 * MEDIUM[0] else "wide"

    def pictures(self) -> list[str]:
        """Each panel as an SVG element for the page."""
        pictures = []
        for number, panel in enumerate(self.panels):
            width, height = panel.size
            with _style(PAGE_POINTS, f"{self.name}-{number}", page=True):
                figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
                _draw(figure.subplots(), panel)
                pictures.append(_inline(_save(figure, "svg").decode(), panel))
        return pictures

    def paper(self, form: str) -> bytes:
        """All panels in one figure of one or two columns' width, as "svg" (text as outlines) or "png"."""
        rows = -(-len(self.panels) // self.columns)
        width, height = self.panels[0].size
        across = COLUMN_INCHES if width <= MEDIUM[0] else TWO_COLUMNS_INCHES
        # A panel as wide as the column need not be as high as one on the page.
        high = (0.8 if across / self.columns > 3 else 1.0) * across / self.columns * height / width
        with _style(PAPER_POINTS, self.name, page=False):
            figure = Figure(figsize=(across, high * rows), layout="constrained")
            grid = figure.subplots(rows, self.columns, squeeze=False).ravel()
            for axes, panel in zip(grid, self.panels, strict=False):
                _draw(axes, panel)
            for axes in grid[len(self.panels) :]:
                axes.remove()
            return _save(figure, form)


def to_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> TextTable:
    """Unrounded numbers as a table of text; None is an empty cell."""
    cells = [
        ["" if cell is None else cell if isinstance(cell, str) else repr(cell) for cell in row]
        for row in rows
    ]
    return TextTable(header, cells)


def sign(what: str, *settings: str) -> str:
    """A signature: what was computed, its settings, and the version of this package."""
    return "|".join([what, *settings, f"abaw_emi:{VERSION}"])


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left")
    panel.draw(axes)


@contextmanager
def _style(size: float, salt: str, *, page: bool) -> Iterator[None]:
    """Draws with this package's settings, whatever matplotlibrc this machine has."""
    changes: Any = {"svg.hashsalt": salt, **settings(size, page=page)}
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(changes)
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _save(figure: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    unwanted = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    figure.savefig(buffer, format=form, dpi=72 if form == "svg" else _DOTS_PER_INCH, metadata=unwanted[form])
    return buffer.getvalue()


def _inline(text: str, panel: Panel) -> str:
    """A stand-alone SVG as an element of the page: with the theme's colours, and described.

    Styles and ids of an inline SVG apply to the whole page. So style elements are removed, and only those ids
    remain that the SVG itself refers to; they are hashes of the chart's name and of their content.
    """
    root = ElementTree.fromstring(text)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    referred = set(re.findall(r"#([\w.-]+)", text))
    for element in root.iter():
        _clean(element, referred)
    for name in ("version", "width", "height"):
        root.attrib.pop(name, None)
    root.attrib.update(
        {"role": "img", "aria-label": panel.alt, "class": "panel", "style": f"--width: {panel.size[0]:.0f}px"}
    )
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _clean(element: ElementTree.Element, referred: set[str]) -> None:
    """Removes namespaces, unused ids, needless digits and fonts; replaces colours by their variables."""
    element.tag = element.tag.rpartition("}")[2]
    if element.get("id") not in referred:
        element.attrib.pop("id", None)
    if _LINK in element.attrib:
        element.set("href", element.attrib.pop(_LINK))
    for name in {"d", "x", "y", "width", "height"} & element.attrib.keys():
        rounded = _NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[name])
        element.set(name, " ".join(rounded.split()))
    if "style" in element.attrib:
        style = re.sub(r"font-family: [^;]*;? ?", "", element.attrib["style"])
        element.set("style", re.sub("#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), style))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    element.text = (element.text or "").strip("\n ") or None
    element.tail = None
