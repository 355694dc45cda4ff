"""The page: reads, computes and lays out a report, and renders it into one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from abaw_emi.core.constants import VERSION
from abaw_emi.core.errors import EmiError, Problem
from abaw_emi.core.files import check_writable, write_bytes
from abaw_emi.core.installation import find_git_commit
from abaw_emi.core.progress import Track, track_nothing
from abaw_emi.evaluation.text_tables import render
from abaw_emi.report.blocks import Report
from abaw_emi.report.charts.style import DARK, LIGHT
from abaw_emi.report.history import find_durations
from abaw_emi.report.layout import lay_out
from abaw_emi.report.results import Results, compute_results
from abaw_emi.report.sources import Material, ReportSources, read_material

TITLE = "Emotional mimicry intensity"

_PACKAGES = ("numpy", "scipy", "polars", "matplotlib")
"""What computes and draws, besides this package."""


def render_page(report: Report, title: str = TITLE, date: str = "") -> str:
    """The page as HTML, with styles, script and pictures inside."""
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
    text = environment.get_template("page.html").render(
        title=title,
        date=date,
        version=VERSION,
        numbers={chart.name: number for number, chart in enumerate(report.charts, start=1)},
        lede=report.lede,
        tiles=report.tiles,
        sections=report.sections,
        # With the SVGs of the charts, the only markup that is not escaped; no input gets into it.
        style=Markup(style),
        script=Markup(script),
        light=Markup(_declare(LIGHT.variables())),
        dark=Markup(_declare(DARK.variables())),
        script_hash=digest,
    )
    return text.strip() + "\n"


def _declare(variables: dict[str, str]) -> str:
    return " ".join(f"{name}: {colour};" for name, colour in variables.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFiles:
    """What was written.

    Attributes:
        page: the file.
        size: of the file, in bytes.
        figures: the files of the figures; empty where they were not requested.
        report: what is on the page.
        material: what was read.
        results: what was computed from it.
    """

    page: Path
    size: int
    figures: Sequence[Path]
    report: Report
    material: Material
    results: Results


def write_report(
    sources: ReportSources,
    out: Path,
    figures: Path | None = None,
    *,
    title: str = TITLE,
    track: Track = track_nothing,
) -> PageFiles:
    """Makes a report; the page is written whole or not at all.

    Args:
        sources: what to read.
        out: the page's file.
        figures: a folder for each figure as PNG, SVG and CSV; None for no such files.
        title: of the page.
        track: shows a progress bar over items, as `progress.Reporter.track`.

    Raises:
        EmiError: what the user named cannot be read, there is nothing to report, or a file cannot be written.
    """
    check_writable(out)
    if figures is not None:
        check_writable(figures / "figure.svg")
    material = read_material(sources)
    if material.empty:
        expected = "labels, runs, predictions or submissions"
        raise EmiError(
            Problem("report", "nothing to report", expected, "use --data, --runs, --preds or --submissions")
        )
    audited = None if material.audit is None else material.audit.seconds
    durations = find_durations(material.ids(), material.files, audited, track)
    results = compute_results(material, durations)
    date = _find_date()
    report = lay_out(material, results, durations, out, _describe_making(date))
    content = render_page(report, title, date).encode()
    written = [] if figures is None else _write_figures(report, figures, track)
    write_bytes(out, content)
    return PageFiles(
        page=out, size=len(content), figures=written, report=report, material=material, results=results
    )


def _find_date() -> str:
    """Today's date in UTC, or that of $SOURCE_DATE_EPOCH, the convention of reproducible builds."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return moment.date().isoformat()


def _describe_making(date: str) -> str:
    commit = find_git_commit()
    version = f"{VERSION} (commit {commit[:8]})" if commit else VERSION
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"This page was made on {date} (UTC) by abaw-emi {version} with Python {platform.python_version()}, "
        f"{packages}, on {platform.system()} {platform.machine()}, {os.cpu_count()} processors. The runs "
        "were trained on the hardware listed with them."
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
