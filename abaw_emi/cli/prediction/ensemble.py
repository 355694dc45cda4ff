"""The command that combines predictions: ensemble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_runs
from abaw_emi.cli.next_step import print_next_of_predictions
from abaw_emi.cli.output import print_line, print_result, print_text
from abaw_emi.cli.prediction.predict import predict_with
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import EmiError, Problem, UsageError, attempt
from abaw_emi.core.files import check_writable
from abaw_emi.core.progress import Reporter

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.ensembling.fit import Recipe
    from abaw_emi.ensembling.members import Member
    from abaw_emi.runs.run import Run

FoldGroups = Annotated[
    Path | None,
    typer.Option(
        "--groups",
        metavar="FILE",
        help="A CSV of Filename and speaker, of --fit's clips: folds never part a speaker.",
    ),
]


EXAMPLES = "Example: abaw-emi ensemble --ckpts runs/* --preds elsewhere.csv --split test"


def ensemble(
    ckpts: Annotated[
        list[Path] | None,
        typer.Option("--ckpts", "--ckpt", autocompletion=complete_runs, metavar="RUN", help="Run folders."),
    ] = None,
    preds: Annotated[
        list[Path] | None, typer.Option("--preds", metavar="FILE", help="Prediction CSVs, of any origin.")
    ] = None,
    split: options.SplitOption = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The CSV to write.", show_default="predictions/ensemble-<split>.csv"
        ),
    ] = None,
    method: options.MethodOption = "mean",
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            "--fit",
            metavar="FILE",
            help="Predictions of valid by each of --preds, in the same order, to fit or judge on.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels of --fit's clips.",
            show_default="valid_split.csv of the data folder",
        ),
    ] = None,
    groups: FoldGroups = None,
    on_missing: options.MissingOption = "error",
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Combine the predictions of runs and of CSVs, matched by Filename: their mean, or better where shown."""
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.data.provenance import read_system
    from abaw_emi.ensembling.combine import describe_gaps, find_gaps, write_ensemble
    from abaw_emi.ensembling.fit import Recipe, find_recipe, needs_labels, pair_fit_files
    from abaw_emi.evaluation.diagnostics import diagnose_systems, find_outweighed
    from abaw_emi.evaluation.systems import refuse_repeats

    ckpts, preds, fit = (given or [] for given in (ckpts, preds, fit))
    if not ckpts + preds:
        raise UsageError(Problem("ensemble", "no member", "--ckpts RUN... or --preds CSV..."))
    refuse_repeats(ckpts + preds, "ensemble")
    refuse_repeats(fit, "--fit")
    fitting = needs_labels(method, **{"--fit": fit or None, "--labels": labels, "--groups": groups})
    reporter = Reporter(quiet=quiet)
    folder = DataFolder(data, features)
    path = out or Path("predictions") / f"ensemble-{split}.csv"
    runs, given = _read_members(ckpts, preds, split, folder, path, reporter)
    files: dict[str, Path] = {}
    recipe = Recipe() if method == "auto" else Recipe(scheme=method)
    if fitting:
        own = {str(run.folder): run.valid_predictions for run in runs}
        files = pair_fit_files(own, preds, fit, split)
        label_file = labels or folder.label_file("valid")
        recipe = find_recipe(label_file, files, method, groups=groups, combined=given)
        reporter.warn(recipe.warnings)
    reporter.warn(_find_mixture(runs))
    predicted = predict_with(runs, folder, split, on_bad_clip, device, precision, reporter)
    members = replace(predicted, members=[*predicted.members, *given.values()])
    reporter.warn(diagnose_systems(members.tables))
    if recipe.scheme == "mean":
        reporter.warn(find_outweighed(members.tables))
    # Weights that saw the labels of these very clips are applied out of fold.
    out_of_fold = recipe.fitted and split == "valid" and not fit
    before = read_system(path)
    written = write_ensemble(
        members,
        path,
        split=split,
        command="abaw-emi ensemble",
        recipe=recipe,
        missing=on_missing,
        out_of_fold=out_of_fold,
    )
    gaps = find_gaps(members.tables)
    reporter.warn(describe_gaps(gaps, on_missing))
    replaced = before if before != read_system(path) else ""
    how = "out of fold, " if out_of_fold else ""
    how += f"{recipe.scheme} of {len(members.members)}, " if len(members.members) > 1 else ""

    def show() -> None:
        for run in runs:
            print_line(_describe_member(run))
        _print_report(recipe, files)
        print_line(f"{path}: {how}{len(written):,} clips")
        if replaced:
            print_text(f"{path}: replaces {replaced}")
        print_next_of_predictions(path, split)

    print_result(
        {
            "path": str(path),
            "rows": len(written),
            "replaced": replaced,
            "members": list(members.tables),
            "skipped": list(members.skipped),
            **recipe.to_json(),
            "fitted_on": {name: str(file) for name, file in files.items()},
            "lacking": gaps,
            "out_of_fold": out_of_fold,
        },
        show,
        reporter.warnings,
    )


def _read_members(
    ckpts: Sequence[Path],
    preds: Sequence[Path],
    split: Split,
    folder: DataFolder,
    path: Path,
    reporter: Reporter,
) -> tuple[list[Run], dict[str, Member]]:
    """The runs, and the members that are files.

    Raises:
        EmiError: one of them cannot be used, or `path` not be written; all such problems.
    """
    from abaw_emi.ensembling.members import read_members
    from abaw_emi.runs.run import find_run

    problems: list[Problem] = []
    runs = [run for ckpt in ckpts if (run := attempt(problems, find_run, ckpt))]
    members, warnings = attempt(problems, read_members, preds, split, folder) or ({}, [])
    reporter.warn(warnings)
    attempt(problems, check_writable, path)
    if problems:
        raise EmiError(problems)
    return runs, members


def _describe_member(run: Run) -> str:
    """A run in a line: what it is, what it was trained on, and its validation score."""
    record = run.read_provenance()
    valid = record.get("valid")
    scored = f"valid {valid['mean_pearson']:.4f}" if valid else "no validation"
    return f"{run.folder}: {record.get('preset') or 'imported'}, {_name_training(record)}, {scored}"


def _name_training(record: Mapping[str, Any]) -> str:
    """What a run was trained on, in a word or two."""
    if record.get("trained_on") is None:
        return "trained on clips that are not known"
    fold = f" less fold {record['fold']}" if record.get("fold") else ""
    return f"trained on {'train+valid' if record.get('train_plus_val') else 'train'}{fold}"


def _find_mixture(runs: Sequence[Run]) -> list[Problem]:
    """A warning where runs of several trainings or presets are combined, as a pattern like runs/* may do."""
    records = [run.read_provenance() for run in runs]
    found = []
    for what, values in (
        ("trainings", [_name_training(record) for record in records]),
        ("presets", [str(record.get("preset") or "imported") for record in records]),
    ):
        counts = Counter(values)
        if len(counts) > 1:
            listed = ", ".join(f"{count} {value}" for value, count in counts.items())
            step = "name the runs that are meant with --ckpts"
            found.append(Problem("ensemble", f"members of several {what}: {listed}", next_step=step))
    return found


def _print_report(recipe: Recipe, files: Mapping[str, Path]) -> None:
    """Prints how the schemes did out of fold, what was chosen, and what each member was judged on."""
    if recipe.report is None:
        return
    print_line(str(recipe))
    if any(name != str(file) for name, file in files.items()):
        print_line("fitted on: " + ", ".join(f"{name} on {file}" for name, file in files.items()))
