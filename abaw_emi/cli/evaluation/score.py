"""Commands that weigh predictions against labels, without torch: score, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    STATISTICS,
    Data,
    Groups,
    Method,
    Permutations,
    RunsOfFolds,
    Seed,
    TableFormat,
)
from abaw_emi.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from abaw_emi.evaluation.systems import Systems

Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap", rich_help_panel=STATISTICS, help="Resamples for the intervals; 0 for none.", min=0
    ),
]


SCORE_EXAMPLES = """Examples:
  abaw-emi score new.csv data/valid_split.csv --against old.csv older.csv
  abaw-emi score runs/paper-seed1                  its predictions of valid, by the labels of valid
"""
COMPARE_EXAMPLES = "Example: abaw-emi compare a.csv b.csv c.csv data/valid_split.csv --format markdown"


def score(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDS", help="A prediction CSV, of any origin, or a run folder.")
    ],
    labels: Annotated[
        Path | None,
        typer.Argument(
            metavar="LABELS", help="The label CSV of the same clips.", show_default="of the record's split"
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="FILE", help="Rivals' CSVs: paired intervals and tests."),
    ] = None,
    groups: Groups = None,
    bootstrap: Bootstrap = 1_000,
    interval: Method = "percentile",
    permutations: Permutations = 10_000,
    seed: Seed = 1,
    runs: RunsOfFolds = DEFAULT_RUNS,
    data: Data = DEFAULT_DATA,
    allow_constant: Annotated[
        bool, typer.Option("--allow-constant", help="Exit 0 although an emotion's r is undefined.")
    ] = False,
) -> None:
    """Score predictions: Pearson per emotion and its mean, matched by Filename, with intervals."""
    from abaw_emi.cli.evaluation.inputs import find_labels
    from abaw_emi.cli.output import print_json, print_line, print_text, score_to_json, wants_json
    from abaw_emi.cli.submission.ledger import describe_val
    from abaw_emi.core.progress import Reporter
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.provenance import find_prediction_file
    from abaw_emi.evaluation.diagnostics import diagnose_systems
    from abaw_emi.evaluation.notebook import render_score
    from abaw_emi.evaluation.score import score as score_tables
    from abaw_emi.evaluation.systems import read_systems
    from abaw_emi.runs.kfold import find_fold_score

    folder = DataFolder(data)
    predictions = find_prediction_file(predictions)
    rivals = [find_prediction_file(path) for path in against or []]
    files = find_labels(predictions, labels, folder)
    systems = read_systems(files, [predictions, *rivals], groups)
    tables, warnings = systems.tables, systems.warnings
    record = systems.records[str(predictions)]
    result = score_tables(
        systems.truth,
        tables[str(predictions)],
        resamples=bootstrap,
        seed=seed,
        method=interval,
        groups=systems.groups,
        against={str(path): tables[str(path)] for path in rivals},
        permutations=permutations,
        trained_on=record.trained_on if record else (),
        precisions=record.precisions() if record else (),
        names=(systems.labels, str(predictions)),
    )
    warnings += [problem for path in rivals for problem in _find_seen(systems, str(path))]
    diagnostics = diagnose_systems(tables, systems.truth)
    folds = None
    if result.seen:
        folds, found_folds = find_fold_score(record, runs, folder)
        warnings += found_folds
    if wants_json():
        kfold = None if folds is None else folds.to_json()
        print_json({**score_to_json(result, warnings, diagnostics), "kfold": kfold})
    else:
        if result.seen:
            print_line("SEEN IN TRAINING: not a validation score")
        if folds is not None:
            print_text(f"in its place, {describe_val(folds.to_json())}: {folds.describe}")
        print_line(render_score(result, "95 % interval" if interval == "percentile" else "95 % BCa interval"))
        print_line(result.signature)
        _print_next(predictions, files, rivals)
    reporter = Reporter()
    reporter.warn([*warnings, *diagnostics, *result.problems])
    if result.undefined and not allow_constant:
        found = f"no r of {', '.join(result.undefined)}"
        step = "--allow-constant to exit 0 all the same"
        reporter.fail([Problem(str(predictions), found, "columns that vary", step)])
        raise typer.Exit(1)


def _print_next(predictions: Path, labels: Sequence[Path], rivals: Sequence[Path]) -> None:
    """Prints what to type after a score: the run's prediction of test, or a comparison."""
    from abaw_emi.cli.next_step import keep, print_next
    from abaw_emi.runs.run import Run

    run = Run(predictions.parent)
    if run.config_file.is_file():
        print_next("predict", "--ckpt", run.folder, "--split", "test", *keep("--data"))
    elif rivals and len(labels) == 1:
        note = "to rank them, and see what combining gains"
        print_next("compare", predictions, *rivals, *labels, note=note)
    elif not rivals:
        given = labels if len(labels) == 1 else keep("--data")  # of several files the record tells which
        print_next("score", predictions, *given, "--against", "OTHER.csv", note="to compare with another")


def _print_next_of_compared(members: Sequence[Path], labels: Path) -> None:
    """Prints how to combine what was compared."""
    from abaw_emi.cli.next_step import print_next

    if members[0].is_dir():
        print_next("ensemble", "--ckpts", *members)
    else:
        fit = ("--split", "valid", "--method", "auto", "--labels", labels)
        print_next("ensemble", "--preds", *members, *fit, note="to combine them")


def _find_seen(systems: Systems, rival: str) -> list[Problem]:
    """That a rival was trained on clips that it is scored on; nothing if it was not."""
    record, clips = systems.records[rival], systems.tables[rival]["Filename"]
    seen = record.trained_on.intersection(clips) if record else ()
    found = f"SEEN IN TRAINING: it was trained on {len(seen):,} of these {len(clips):,} clips"
    return [Problem(rival, f"{found}; differences from it say nothing")] if seen else []


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDS... LABELS", help="Two prediction CSVs or run folders, or more; then labels."
        ),
    ],
    groups: Groups = None,
    bootstrap: Bootstrap = 1_000,
    interval: Method = "percentile",
    permutations: Permutations = 10_000,
    seed: Seed = 1,
    form: TableFormat = "table",
) -> None:
    """Rank systems on the same clips: who beats whom, and what combining two of them would gain."""
    from abaw_emi.cli.evaluation.inputs import refuse_swapped
    from abaw_emi.cli.output import print_json, print_line, print_text, texts, wants_json
    from abaw_emi.core.progress import Reporter
    from abaw_emi.data.provenance import find_prediction_file
    from abaw_emi.evaluation.compare import compare as compare_tables
    from abaw_emi.evaluation.diagnostics import diagnose_systems
    from abaw_emi.evaluation.notebook import describe_intervals
    from abaw_emi.evaluation.systems import read_systems

    *paths, labels = files
    refuse_swapped("compare", paths, labels)
    if len(paths) < 2 or labels.is_dir():
        found = f"{labels} in the place of the labels" if labels.is_dir() else "1 file of predictions"
        step = f"PREDS PREDS LABELS, such as {DEFAULT_DATA}/valid_split.csv"
        raise UsageError(Problem("compare", found, "two at least, then the label file", step))
    given, paths = paths, [find_prediction_file(path) for path in paths]
    systems = read_systems([labels], paths, groups)
    result = compare_tables(
        systems.truth,
        systems.tables,
        resamples=bootstrap,
        permutations=permutations,
        seed=seed,
        method=interval,
        groups=systems.groups,
        trained_on=systems.trained_on,
        name=str(labels),
    )
    diagnostics = diagnose_systems(systems.tables, systems.truth)
    warnings = [*systems.warnings, *diagnostics, *result.problems]
    if wants_json():
        print_json({**result.to_dict(), "problems": texts(warnings)})
    else:
        print_line(result.render(form))
        if form == "table":
            print_line()
            print_text(describe_intervals(result.n, next(iter(result.scores.values())).groups))
            print_line(result.signature)
            members = given if all(path.is_dir() for path in given) else paths
            _print_next_of_compared(members, labels)
    Reporter().warn(warnings)
