"""A report made and written: the page, and each figure as PNG, SVG and CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw_emi.core.errors import EmiError, Problem
from abaw_emi.core.files import check_writable, write_bytes
from abaw_emi.evaluation.text_tables import render
from abaw_emi.report.durations import find_durations
from abaw_emi.report.layout import Report, plan_report
from abaw_emi.report.page import set_page
from abaw_emi.report.results import Findings, find
from abaw_emi.report.sources import Material, Sources, read_material

Track = Callable[[Iterable[str], str, int], Iterable[str]]


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
    findings: Findings


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
