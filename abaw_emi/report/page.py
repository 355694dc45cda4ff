"""The page: one template, set into one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from markupsafe import Markup

from abaw_emi.core.version import VERSION
from abaw_emi.report.layout import Report
from abaw_emi.report.palette import DARK, LIGHT
from abaw_emi.report.style import SMALL, SQUARE, Chart

TITLE = "Emotional mimicry intensity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A chart as the template takes it."""

    id: str
    title: str
    caption: str
    signature: str
    pictures: Sequence[Markup]
    shape: str
    kind: str = "chart"


def set_page(report: Report) -> str:
    """The page as HTML, whole: styles, script and pictures are inside."""
    folder = files("abaw_emi.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    style, script = (
        (folder / name).read_text(encoding="utf-8").strip() for name in ("style.css", "script.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = [
        {
            "id": section.id,
            "title": section.title,
            "blocks": [_set_chart(item) if isinstance(item, Chart) else item for item in section.blocks],
        }
        for section in report.sections
    ]
    text = environment.get_template("page.html").render(
        title=TITLE,
        version=VERSION,
        lede=report.lede,
        tiles=report.tiles,
        sections=sections,
        # Ours, and none of it from an input: the only markup that is not escaped, beside the charts' SVGs.
        style=Markup(style),
        script=Markup(script),
        light=Markup(_declare(LIGHT.variables())),
        dark=Markup(_declare(DARK.variables())),
        script_hash=digest,
    )
    return text.strip() + "\n"


def _set_chart(chart: Chart) -> Picture:
    size = chart.panels[0].size
    shape = "medium"
    if size in (SMALL, SQUARE):
        shape = "small"
    elif len(chart.panels) == 1:
        shape = "single" if size[0] <= 440 else "wide"
    return Picture(
        id=chart.name,
        title=chart.title,
        caption=chart.caption,
        signature=chart.signature,
        pictures=[Markup(picture) for picture in chart.pictures()],
        shape=shape,
    )


def _declare(variables: dict[str, str]) -> str:
    return " ".join(f"{name}: {colour};" for name, colour in variables.items())
