"""The command report."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.next_step import print_words
from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_RUNS, Data, Quiet
from abaw_emi.cli.output import print_line, print_result, score_to_json
from abaw_emi.core.installation import REPORT, require

if TYPE_CHECKING:
    from abaw_emi.report.page import PageFiles
    from abaw_emi.report.sources import ReportSources

_PREDICTIONS = Path("predictions")
_SUBMISSIONS = Path("submissions")

EXAMPLES = """Examples:
  abaw-emi report                                     of data/, runs/, predictions/ and submissions/ here
  abaw-emi report --runs runs/* --preds theirs.csv    of these
  abaw-emi report --figures figures/                  each figure as PNG, SVG and CSV, too
"""


def report(
    data: Data = DEFAULT_DATA,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", metavar="DIR", help="Run folders, or folders of them.", show_default="runs/"),
    ] = None,
    preds: Annotated[
        list[Path] | None,
        typer.Option(
            "--preds",
            metavar="FILE",
            help="Prediction CSVs, of any origin.",
            show_default="predictions/*.csv",
        ),
    ] = None,
    submissions: Annotated[
        Path | None,
        typer.Option(
            "--submissions", metavar="DIR", help="The folder of the ledger.", show_default="submissions/"
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="A folder for each figure as PNG, SVG and CSV."),
    ] = None,
    title: Annotated[
        str, typer.Option("--title", help="The title of the page.")
    ] = "Emotional mimicry intensity",
    quiet: Quiet = False,
) -> None:
    """Write one HTML page of data, runs, predictions and submissions; it needs no network."""
    require(REPORT, "report")

    from abaw_emi.core.progress import Reporter
    from abaw_emi.report.page import write_report

    reporter = Reporter(quiet=quiet)
    written = write_report(
        _choose(data, runs, preds, submissions),
        out,
        figures,
        title=title,
        track=lambda items, description, total: reporter.track(items, description, total, unit="files"),
    )
    reporter.warn([*written.material.warnings, *written.results.warnings], shown=10)
    print_result(
        _to_json(written), partial(_say, written), [*written.material.warnings, *written.results.warnings]
    )


def _choose(
    data: Path, runs: list[Path] | None, preds: list[Path] | None, submissions: Path | None
) -> ReportSources:
    """The sources that the user named; for the others, what is in their default places."""
    from abaw_emi.report.sources import ReportSources

    named = {"data": data != DEFAULT_DATA, "runs": runs, "predictions": preds, "submissions": submissions}
    found_runs = [DEFAULT_RUNS] if any(DEFAULT_RUNS.glob("[!.]*/run.toml")) else []
    return ReportSources(
        data=data if data != DEFAULT_DATA or data.is_dir() else None,
        runs=found_runs if runs is None else runs,
        predictions=sorted(_PREDICTIONS.glob("*.csv")) if preds is None else preds,
        submissions=submissions or _SUBMISSIONS,
        chosen=frozenset(name for name, value in named.items() if value),
    )


def _say(written: PageFiles) -> None:
    charts = written.report.charts
    print_line(f"{written.page}: {len(charts)} figures, {written.size / 2**20:.1f} MiB")
    if written.figures:
        print_line(
            f"{written.figures[0].parent}: {len(written.figures)} files, PNG, SVG and CSV of each figure"
        )
    for texts in written.report.missing.values():
        for text in texts:
            print_line(f"not on it: {text}")
    print_words(f"open {written.page} in a browser")


def _to_json(written: PageFiles) -> dict[str, object]:
    results = written.results
    return {
        "report": str(written.page),
        "bytes": written.size,
        "figures": [str(path) for path in written.figures],
        "charts": [chart.name for chart in written.report.charts],
        "missing": written.report.missing,
        "split": results.split,
        "systems": [
            {"name": standing.name, **score_to_json(standing.score)} for standing in results.standings
        ],
        "comparison": None if results.comparison is None else results.comparison.to_dict(),
        "ensemble_gain": None
        if results.gain is None
        else {
            "members": list(results.gain.members),
            "mean_pearson": {str(k): float(values.mean()) for k, values in results.gain.scores.items()},
            "intervals": {str(k): bounds for k, bounds in results.gain.intervals.items()},
            "difference": results.gain.difference.to_json(),
            "signature": results.gain.signature,
        },
        "clipped": None
        if results.clipped is None
        else dict(zip(("mean_pearson", "share_changed"), results.clipped, strict=True)),
        "groups": [asdict(group) for group in results.groups],
        "worst": [{"filename": clip.filename, "error": clip.error} for clip in results.worst],
    }
