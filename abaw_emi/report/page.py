"""The page: one template, set into one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import EmiError, Problem
from abaw_emi.core.files import check_writable, write_bytes
from abaw_emi.core.progress import Track
from abaw_emi.evaluation.text_tables import render
from abaw_emi.report.history import find_durations
from abaw_emi.report.layout import Report, plan_report
from abaw_emi.report.palette import DARK, LIGHT
from abaw_emi.report.results import Results, find
from abaw_emi.report.sources import Material, Sources, read_material
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written.

    Attributes:
        page: the file.
        size: its bytes.
        figures: the files of the figures, empty where none were asked for.
        report: what is on the page.
        material: what was read.
        findings: what it tells.
    """

    page: Path
    size: int
    figures: Sequence[Path]
    report: Report
    material: Material
    findings: Results


def write_report(
    sources: Sources,
    out: Path,
    figures: Path | None = None,
    *,
    track: Track = lambda items, description, total: items,
) -> Written:
    """Reads, computes, draws and writes; the page is there whole or not at all.

    Args:
        sources: what to read.
        out: the page's file.
        figures: a folder for each figure as PNG, SVG and CSV; None for none.
        track: puts a bar over items, as `progress.Reporter.track`.

    Raises:
        EmiError: what was chosen cannot be read, there is nothing to report, or a file cannot be written.
    """
    check_writable(out)
    if figures is not None:
        check_writable(figures / "figure.svg")
    material = read_material(sources)
    if material.empty:
        expected = "labels, runs, predictions or submissions"
        raise EmiError(
            Problem(
                "report",
                "nothing to report",
                expected,
                "name them with --data, --runs, --preds, --submissions",
            )
        )
    findings = find(material)
    audited = None if material.audit is None else material.audit.seconds
    durations = find_durations(material.ids(), material.files, audited, track)
    report = plan_report(material, findings, durations, out)
    content = set_page(report).encode()
    written = [] if figures is None else _write_figures(report, figures, track)
    write_bytes(out, content)
    return Written(
        page=out, size=len(content), figures=written, report=report, material=material, findings=findings
    )


def _write_figures(report: Report, folder: Path, track: Track) -> list[Path]:
    charts = {chart.name: chart for chart in report.charts}
    written = []
    for name in track(charts, "figures", len(charts)):
        chart = charts[name]
        for form in ("svg", "png"):
            written.append(folder / f"{name}.{form}")
            write_bytes(written[-1], chart.paper(form))
        written.append(folder / f"{name}.csv")
        write_bytes(written[-1], (render(chart.data, "csv") + "\n").encode())
    return written
