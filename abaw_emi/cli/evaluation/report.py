"""The command report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import DEFAULT_DATA, DEFAULT_RUNS, Data, Debug, Json, Quiet, SeveralValuesCommand

if TYPE_CHECKING:
    from abaw_emi.report.page import Written
    from abaw_emi.report.sources import Sources

_PREDICTIONS = Path("predictions")
_SUBMISSIONS = Path("submissions")

_EXAMPLES = """Examples:

  abaw-emi report                                     of data/, runs/, predictions/ and submissions/ here

  abaw-emi report --runs runs/* --preds theirs.csv    of these

  abaw-emi report --figures figures/                  each figure as PNG, SVG and CSV, too
"""


def register(app: typer.Typer) -> None:
    """Adds this room's command to `app`."""
    app.command(cls=SeveralValuesCommand, epilog=_EXAMPLES)(report)


def report(
    data: Data = DEFAULT_DATA,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", help="Run folders, or folders of them.", show_default="runs/"),
    ] = None,
    preds: Annotated[
        list[Path] | None,
        typer.Option("--preds", help="Prediction CSVs, of any origin.", show_default="predictions/*.csv"),
    ] = None,
    submissions: Annotated[
        Path | None,
        typer.Option("--submissions", help="The folder of the ledger.", show_default="submissions/"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    figures: Annotated[
        Path | None, typer.Option("--figures", help="A folder for each figure as PNG, SVG and CSV.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page of data, runs, predictions and submissions; it needs no network."""
    from abaw_emi.core.installation import check_report_installation

    check_report_installation()

    from abaw_emi.cli.output import print_json
    from abaw_emi.core.progress import Reporter
    from abaw_emi.report.page import write_report

    reporter = Reporter(quiet=quiet)
    written = write_report(
        _choose(data, runs, preds, submissions),
        out,
        figures,
        track=lambda items, description, total: reporter.track(items, description, total, unit="files"),
    )
    reporter.warn([*written.material.warnings, *written.findings.warnings], shown=10)
    if as_json:
        print_json(_to_json(written))
    else:
        _say(written)


def _choose(
    data: Path, runs: list[Path] | None, preds: list[Path] | None, submissions: Path | None
) -> Sources:
    """What was named, and in place of what was not, what lies in its usual place."""
    from abaw_emi.report.sources import Sources

    named = {"data": data != DEFAULT_DATA, "runs": runs, "predictions": preds, "submissions": submissions}
    found_runs = [DEFAULT_RUNS] if any(DEFAULT_RUNS.glob("*/run.toml")) else []
    return Sources(
        data=data if data != DEFAULT_DATA or data.is_dir() else None,
        runs=found_runs if runs is None else runs,
        predictions=sorted(_PREDICTIONS.glob("*.csv")) if preds is None else preds,
        submissions=submissions or _SUBMISSIONS,
        chosen=frozenset(name for name, value in named.items() if value),
    )


def _say(written: Written) -> None:
    from abaw_emi.cli.output import print_line

    charts = written.report.charts
    print_line(f"{written.page}: {len(charts)} figures, {written.size / 2**20:.1f} MiB")
    if written.figures:
        print_line(
            f"{written.figures[0].parent}: {len(written.figures)} files, PNG, SVG and CSV of each figure"
        )
    for texts in written.report.missing.values():
        for text in texts:
            print_line(f"not on it: {text}")


def _to_json(written: Written) -> dict[str, object]:
    from abaw_emi.cli.output import score_to_json, texts

    findings = written.findings
    return {
        "report": str(written.page),
        "bytes": written.size,
        "figures": [str(path) for path in written.figures],
        "charts": [chart.name for chart in written.report.charts],
        "missing": written.report.missing,
        "split": findings.split,
        "systems": [
            {"name": standing.name, **score_to_json(standing.score)} for standing in findings.standings
        ],
        "comparison": None if findings.comparison is None else findings.comparison.to_json(),
        "ensemble_gain": None
        if findings.gain is None
        else {
            "members": list(findings.gain.members),
            "mean_pearson": {str(k): float(values.mean()) for k, values in findings.gain.scores.items()},
            "signature": findings.gain.signature,
        },
        "worst": [{"filename": clip.filename, "error": clip.error} for clip in findings.worst],
        "problems": texts([*written.material.warnings, *findings.warnings]),
    }
