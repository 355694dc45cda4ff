"""The command that combines predictions: ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import (
    DEFAULT_DATA,
    DEFAULT_FEATURES,
    Bad,
    Data,
    Device,
    Features,
    MethodOption,
    MissingOption,
    PrecisionOption,
    Quiet,
    SplitOption,
)

if TYPE_CHECKING:
    from abaw_emi.ensembling.members import Member
    from abaw_emi.runs.run import Run

FoldGroups = Annotated[
    Path | None,
    typer.Option(
        "--groups", help="A CSV of Filename and speaker, of --fit's clips: folds never part a speaker."
    ),
]


EXAMPLES = "Example: abaw-emi ensemble --ckpts runs/* --preds elsewhere.csv --split test"


def ensemble(
    ckpts: Annotated[list[Path] | None, typer.Option("--ckpts", help="Run folders.")] = None,
    preds: Annotated[
        list[Path] | None, typer.Option("--preds", help="Prediction CSVs, of any origin.")
    ] = None,
    split: SplitOption = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The CSV to write.", show_default="predictions/ensemble-<split>.csv"),
    ] = None,
    method: MethodOption = "mean",
    fit: Annotated[
        list[Path] | None,
        typer.Option(
            "--fit", help="Predictions of valid by each of --preds, in the same order, to fit or judge on."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Labels of --fit's clips.", show_default="valid_split.csv of the data folder"
        ),
    ] = None,
    groups: FoldGroups = None,
    on_missing: MissingOption = "error",
    data: Data = DEFAULT_DATA,
    features: Features = DEFAULT_FEATURES,
    on_bad_clip: Bad = "error",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Combine the predictions of runs and of CSVs, matched by Filename: their mean, or better where shown."""
    from abaw_emi.cli.output import is_given, print_json, print_line, refuse_repeats, texts
    from abaw_emi.cli.prediction.combining import (
        describe_recipe,
        find_fit_files,
        fit_recipe,
        print_recipe,
        tell_splits,
        warn_of_gaps,
    )
    from abaw_emi.cli.prediction.predict import predict_with
    from abaw_emi.core.errors import EmiError, Problem, UsageError, gather
    from abaw_emi.core.files import check_writable
    from abaw_emi.core.progress import Reporter
    from abaw_emi.ensembling.combine import Recipe, find_gaps, out_of_fold
    from abaw_emi.ensembling.members import read_member, write_ensemble
    from abaw_emi.ensembling.schemes import FITTED, SCHEMES
    from abaw_emi.evaluation.diagnostics import diagnose_systems
    from abaw_emi.runs.run import find_run

    paths = [*(ckpts or []), *(preds or [])]
    if not paths:
        raise UsageError(Problem("ensemble", "no member", "--ckpts RUN... or --preds CSV..."))
    refuse_repeats(paths, "ensemble")
    refuse_repeats(fit or [], "--fit")
    fitting = method == "auto" or method in FITTED
    unused = [name for name, value in (("--fit", fit), ("--labels", labels), ("--groups", groups)) if value]
    if unused and not fitting:
        found = f"{', '.join(unused)} beside --method {method}, which fits nothing"
        raise UsageError(Problem("ensemble", found, f"--method auto, {', '.join(FITTED)}, or none of them"))
    reporter = Reporter(quiet=quiet)
    path = out or Path("predictions") / f"ensemble-{split}.csv"
    problems: list[Problem] = []
    runs: list[Run] = []
    members: list[Member] = []
    for folder in ckpts or []:
        with gather(problems):
            runs.append(find_run(folder))
    for file in preds or []:
        with gather(problems):
            member, warnings = read_member(file, split)
            members.append(member)
            reporter.warn(warnings)
    with gather(problems):
        reporter.warn(tell_splits(members, data, split))
    with gather(problems):
        check_writable(path)
    if problems:
        raise EmiError(problems)
    truth, recipe = None, Recipe(scheme=next((known for known in SCHEMES if known == method), "mean"))
    fitted_on: dict[str, Path] = {}
    if fitting:
        files = find_fit_files(runs, preds or [], fit or [], split)
        fitted_on = dict(zip(map(str, paths), files, strict=True))
        label_file = labels or data / "valid_split.csv"
        recipe, truth, warnings = fit_recipe(method, fitted_on, label_file, groups)
        reporter.warn(warnings)
    predicted = None
    if runs:
        predicted = predict_with(runs, data, features, split, on_bad_clip, device, precision, reporter)
        members = [*predicted.members, *members]
    tables = {member.name: member.table for member in members}
    reporter.warn(diagnose_systems(tables))
    # Weights that saw the labels of these very clips are applied out of fold.
    own = truth is not None and recipe.scheme in FITTED and split == "valid" and not fit
    table = out_of_fold(recipe, truth, tables, on_missing) if own and truth is not None else None
    skipped = predicted.skipped if predicted else ()
    written = write_ensemble(
        members,
        path,
        split=split,
        command="abaw-emi ensemble",
        skipped=skipped,
        read_from_video=predicted.read_from_video if predicted else None,
        recipe=recipe,
        missing=on_missing,
        table=table,
    )
    gaps = find_gaps(tables)
    warn_of_gaps(gaps, on_missing, reporter)
    if not is_given("--json"):
        print_recipe(recipe, fitted_on)
        how = f"{recipe.scheme} of {len(members)}, " if len(members) > 1 else ""
        how = how if table is None else f"out of fold, {how}"
        print_line(f"{path}: {how}{len(written):,} clips")
        return
    print_json(
        {
            "path": str(path),
            "rows": len(written),
            "members": [member.name for member in members],
            "skipped": list(skipped),
            **describe_recipe(recipe, gaps, fitted_on),
            "out_of_fold": table is not None,
            "problems": texts(reporter.warnings),
        }
    )
