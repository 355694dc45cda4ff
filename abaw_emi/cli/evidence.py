"""Commands that weigh predictions against labels, without torch: score, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import (
    DEFAULT_DATA,
    DEFAULT_RUNS,
    Data,
    Debug,
    FormatName,
    Groups,
    IntervalMethod,
    Json,
    Method,
    Permutations,
    Runs,
    Seed,
    SeveralValuesCommand,
    TableFormat,
)

if TYPE_CHECKING:
    import polars as pl

    from abaw_emi.challenge.provenance import Provenance
    from abaw_emi.errors import Problem


Labels = Annotated[Path, typer.Argument(metavar="LABELS", help="The label CSV of the same clips.")]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", help="Resamples for the intervals; 0 for none.", min=0)
]


def register(app: typer.Typer) -> None:
    """Adds this room's commands to `app`."""
    app.command(
        cls=SeveralValuesCommand,
        epilog="Example: abaw-emi score new.csv data/valid_split.csv --against old.csv older.csv",
    )(score)
    app.command(epilog="Example: abaw-emi compare a.csv b.csv c.csv data/valid_split.csv --format markdown")(
        compare
    )


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="A prediction CSV, of any origin.")],
    labels: Labels,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="Rivals' CSVs: paired intervals and tests.")
    ] = None,
    groups: Groups = None,
    bootstrap: Bootstrap = 1_000,
    interval: Method = IntervalMethod.percentile,
    permutations: Permutations = 10_000,
    seed: Seed = 1,
    runs: Runs = DEFAULT_RUNS,
    data: Data = DEFAULT_DATA,
    allow_constant: Annotated[
        bool, typer.Option("--allow-constant", help="Exit 0 although an emotion's r is undefined.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score predictions: Pearson per emotion and its mean, matched by Filename, with intervals."""
    from abaw_emi.challenge.doctor import diagnose
    from abaw_emi.challenge.grouping import read_groups
    from abaw_emi.challenge.rendering import format_interval
    from abaw_emi.challenge.scoring import score as score_tables
    from abaw_emi.challenge.tables import read_labels
    from abaw_emi.cli.output import print_json, print_line, print_score, score_to_json
    from abaw_emi.cli.standing import find_fold_score
    from abaw_emi.errors import EmiError, Problem
    from abaw_emi.progress import Reporter

    rivals = list(against or [])
    _refuse_repeats([predictions, *rivals])
    problems: list[Problem] = []
    truth = _read(read_labels, labels, problems)
    tables, records, warnings = _read_systems([predictions, *rivals], problems)
    group_table = None if groups is None else _read(read_groups, groups, problems)
    if problems:
        raise EmiError(problems)
    assert truth is not None
    record = records[str(predictions)]
    result = score_tables(
        truth,
        tables[str(predictions)],
        resamples=bootstrap,
        seed=seed,
        method=interval.value,
        groups=group_table,
        against={str(path): tables[str(path)] for path in rivals},
        permutations=permutations,
        trained_on=record.trained_on if record else (),
        precisions=record.precisions() if record else (),
        names=(str(labels), str(predictions)),
    )
    for path in rivals:
        rival = records[str(path)]
        seen = rival.trained_on.intersection(tables[str(path)]["Filename"]) if rival else ()
        if seen:
            found = f"SEEN IN TRAINING: it was trained on {len(seen):,} of these {result.n:,} clips"
            warnings.append(Problem(str(path), f"{found}; differences from it say nothing"))
    smells = diagnose(
        truth,
        tables[str(predictions)],
        name=str(predictions),
        others={str(path): tables[str(path)] for path in rivals},
    )
    folds = None
    if result.seen:
        folds, found_folds = find_fold_score(record, runs, data)
        warnings += found_folds
    if as_json:
        kfold = None if folds is None else folds.to_json()
        print_json({**score_to_json(result, warnings, smells), "kfold": kfold})
    else:
        if result.seen:
            print_line("SEEN IN TRAINING: not a validation score")
        if folds is not None:
            bounds = format_interval(folds.interval.get("mean_pearson"))
            print_line(f"in its place, {folds.mean_pearson:.4f} {bounds}: {folds.describe}")
        print_score(result, interval.value)
        print_line(result.signature)
    reporter = Reporter()
    reporter.warn([*warnings, *(smell.problem for smell in smells)])
    if result.undefined and not allow_constant:
        reporter.fail(result.problems)
        raise typer.Exit(1)
    reporter.warn(result.problems)


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="PREDS... LABELS", help="Two or more prediction CSVs, then labels."),
    ],
    groups: Groups = None,
    bootstrap: Bootstrap = 1_000,
    interval: Method = IntervalMethod.percentile,
    permutations: Permutations = 10_000,
    seed: Seed = 1,
    form: TableFormat = FormatName.table,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Rank systems on the same clips: who beats whom, and what combining two of them would gain."""
    from abaw_emi.challenge.comparing import compare as compare_tables
    from abaw_emi.challenge.doctor import diagnose
    from abaw_emi.challenge.grouping import read_groups
    from abaw_emi.challenge.tables import read_labels
    from abaw_emi.cli.output import describe_intervals, print_json, print_line, texts
    from abaw_emi.errors import EmiError, Problem, UsageError
    from abaw_emi.progress import Reporter

    *systems, labels = files
    if len(systems) < 2:
        raise UsageError(
            Problem("compare", f"{len(systems)} prediction files", "two at least, then the labels")
        )
    _refuse_repeats(systems)
    problems: list[Problem] = []
    truth = _read(read_labels, labels, problems)
    tables, records, warnings = _read_systems(systems, problems)
    group_table = None if groups is None else _read(read_groups, groups, problems)
    if problems:
        raise EmiError(problems)
    assert truth is not None
    result = compare_tables(
        truth,
        tables,
        resamples=bootstrap,
        permutations=permutations,
        seed=seed,
        method=interval.value,
        groups=group_table,
        trained_on={name: record.trained_on for name, record in records.items() if record},
        name=str(labels),
    )
    names = list(tables)
    for place, name in enumerate(names):
        others = {other: tables[other] for other in names[:place]}
        warnings += [smell.problem for smell in diagnose(truth, tables[name], name=name, others=others)]
    for name, found in result.scores.items():
        warnings += [Problem(f"{name}, {problem.where}", problem.found) for problem in found.problems]
    if as_json or form is FormatName.json:
        print_json({**result.to_json(), "problems": texts(warnings)})
    else:
        print_line(result.render(form.value))
        if form is FormatName.table:
            print_line()
            print_line(describe_intervals(result.n, next(iter(result.scores.values())).groups))
            print_line(result.signature)
    Reporter().warn(warnings)


def _read_systems(
    paths: Sequence[Path], problems: list[Problem]
) -> tuple[dict[str, pl.DataFrame], dict[str, Provenance | None], list[Problem]]:
    """Each prediction file and its record by name, and warnings; what cannot be read goes to `problems`."""
    from abaw_emi.challenge.provenance import read_provenance
    from abaw_emi.challenge.tables import read_predictions
    from abaw_emi.errors import Problem

    tables: dict[str, pl.DataFrame] = {}
    records: dict[str, Provenance | None] = {}
    warnings: list[Problem] = []
    for path in paths:
        table = _read(read_predictions, path, problems)
        if table is None:
            continue
        tables[str(path)] = table
        record, found = read_provenance(path)
        records[str(path)] = record
        warnings += found
        if record is None or not record.trained_on_complete:
            unknown = "what the predictor was trained on is not known"
            if record:
                unknown = "not all of what the predictor was trained on is known"
            warnings.append(Problem(str(path), unknown, next_step="make sure it has not seen these clips"))
    return tables, records, warnings


def _read(read: Callable[[Path], pl.DataFrame], path: Path, problems: list[Problem]) -> pl.DataFrame | None:
    """The table at `path`, None where it cannot be read, which goes to `problems`."""
    from abaw_emi.errors import gather

    with gather(problems):
        return read(path)
    return None


def _refuse_repeats(paths: Sequence[Path]) -> None:
    from abaw_emi.errors import Problem, UsageError

    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise UsageError(Problem("predictions", f"given twice: {', '.join(twice)}", "each file once"))
