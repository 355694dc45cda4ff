"""Commands that write prediction files, and the one that brings in released weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import (
    DEFAULT_DATA,
    DEFAULT_FEATURES,
    Bad,
    Data,
    Debug,
    Device,
    EnsembleMethod,
    Features,
    Groups,
    Json,
    MethodName,
    MissingName,
    OnBadClip,
    OnMissing,
    Precision,
    PrecisionName,
    Quiet,
    SeveralValuesCommand,
    SplitName,
)

if TYPE_CHECKING:
    import polars as pl

    from abaw_emi.challenge.combining import Recipe
    from abaw_emi.challenge.ensembling import Member
    from abaw_emi.learning.members import Members
    from abaw_emi.learning.runs import Run
    from abaw_emi.progress import Reporter


def register(app: typer.Typer) -> None:
    """Adds this room's commands to `app`."""
    app.command(epilog="Example: abaw-emi predict --ckpt runs/paper-seed1 --split valid")(predict)
    app.command(
        cls=SeveralValuesCommand,
        epilog="Example: abaw-emi ensemble --ckpts runs/* --preds elsewhere.csv --split test",
    )(ensemble)
    app.command("import-weights")(import_weights)


def predict(
    ckpt: Annotated[Path, typer.Option("--ckpt", help="A run folder.")],
    split: Annotated[SplitName, typer.Option("--split", help="The split to predict.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The CSV to write.", show_default="predictions/<run>-<split>.csv"),
    ] = None,
    data: Data = DEFAULT_DATA,
    features: Features = DEFAULT_FEATURES,
    on_bad_clip: Bad = OnBadClip.error,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one run's predictions for a split as a CSV."""
    from abaw_emi.errors import EmiError, Problem, gather
    from abaw_emi.files import check_writable
    from abaw_emi.learning.runs import find_run
    from abaw_emi.progress import Reporter

    problems: list[Problem] = []
    runs: list[Run] = []
    with gather(problems):
        runs.append(find_run(ckpt))
    path = out or Path("predictions") / f"{ckpt.resolve().name}-{split}.csv"
    with gather(problems):
        check_writable(path)
    if problems:
        raise EmiError(problems)
    reporter = Reporter(quiet=quiet)
    predicted = _predict(runs, data, features, split, on_bad_clip, device, precision, reporter)
    _write(predicted.members, predicted, path, split, "abaw-emi predict", reporter, as_json=as_json)


def ensemble(
    ckpts: Annotated[list[Path] | None, typer.Option("--ckpts", help="Run folders.")] = None,
    preds: Annotated[
        list[Path] | None, typer.Option("--preds", help="Prediction CSVs, of any origin.")
    ] = None,
    split: Annotated[SplitName, typer.Option("--split", help="The split to predict.")] = SplitName.test,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The CSV to write.", show_default="predictions/ensemble-<split>.csv"),
    ] = None,
    method: EnsembleMethod = MethodName.mean,
    fit: Annotated[
        list[Path] | None,
        typer.Option("--fit", help="Predictions of valid by each of --preds: weights are fitted on them."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Their labels.", show_default="valid_split.csv of the data folder"),
    ] = None,
    groups: Groups = None,
    on_missing: OnMissing = MissingName.error,
    data: Data = DEFAULT_DATA,
    features: Features = DEFAULT_FEATURES,
    on_bad_clip: Bad = OnBadClip.error,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Combine the predictions of runs and of CSVs, matched by Filename: their mean, or better where shown."""
    from abaw_emi.challenge.combining import Recipe, out_of_fold
    from abaw_emi.challenge.ensembling import read_member
    from abaw_emi.challenge.schemes import FITTED, SCHEMES
    from abaw_emi.cli.combining import find_fit_files, fit_recipe
    from abaw_emi.errors import EmiError, Problem, UsageError, gather
    from abaw_emi.files import check_writable
    from abaw_emi.learning.runs import find_run
    from abaw_emi.progress import Reporter

    paths = [*(ckpts or []), *(preds or [])]
    if not paths:
        raise UsageError(Problem("ensemble", "no member", "--ckpts RUN... or --preds CSV..."))
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise UsageError(Problem("ensemble", f"given twice: {', '.join(twice)}", "each member once"))
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
            member, warnings = read_member(file, split.value)
            members.append(member)
            reporter.warn(warnings)
    with gather(problems):
        check_writable(path)
    if problems:
        raise EmiError(problems)
    truth = None
    recipe = Recipe(scheme=next((scheme for scheme in SCHEMES if scheme == method), "mean"))
    if method is MethodName.auto or method.value in FITTED:
        files = find_fit_files(runs, preds or [], fit or [], split.value)
        label_file = labels or data / "valid_split.csv"
        recipe, truth = fit_recipe(method.value, [str(path) for path in paths], files, label_file, groups)
    predicted = None
    if runs:
        predicted = _predict(runs, data, features, split, on_bad_clip, device, precision, reporter)
        members = [*predicted.members, *members]
    # Weights that saw the labels of these very clips are applied out of fold.
    own = truth is not None and recipe.scheme in FITTED and split is SplitName.valid and not fit
    table = out_of_fold(recipe, truth) if own and truth is not None else None
    _write(
        members,
        predicted,
        path,
        split,
        "abaw-emi ensemble",
        reporter,
        as_json=as_json,
        recipe=recipe,
        missing=on_missing,
        table=table,
    )


def import_weights(
    file: Annotated[Path, typer.Argument(help="A .pth checkpoint of the paper's released code.")],
    backbone: Annotated[
        str, typer.Option("--backbone", help="The backbone it was trained from: a hub id or a folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The run folder to make.")],
    revision: Annotated[str, typer.Option("--revision", help="Of the backbone on the hub.")] = "main",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint of the paper's released code into a run folder."""
    from abaw_emi.installation import check_installation

    check_installation()

    from abaw_emi.cli.output import print_json, print_line
    from abaw_emi.learning.imports import import_run

    run = import_run(file, backbone, revision, out)
    if as_json:
        print_json({"run": str(run.folder), "problems": []})
    else:
        print_line(f"{run.folder}: imported; which clips it was trained on is not known")


def _predict(
    runs: Sequence[Run],
    data: Path,
    features: Path,
    split: SplitName,
    on_bad_clip: OnBadClip,
    device: str,
    precision: PrecisionName,
    reporter: Reporter,
) -> Members:
    from abaw_emi.installation import check_installation

    check_installation()

    from abaw_emi.corpus.data_folder import DataFolder
    from abaw_emi.learning.members import predict_runs

    return predict_runs(
        runs,
        DataFolder(data, features),
        split.value,
        on_bad=on_bad_clip.value,
        device=device,
        precision=precision.value,
        reporter=reporter,
    )


def _write(
    members: Sequence[Member],
    predicted: Members | None,
    path: Path,
    split: SplitName,
    command: str,
    reporter: Reporter,
    *,
    as_json: bool,
    recipe: Recipe | None = None,
    missing: MissingName = MissingName.error,
    table: pl.DataFrame | None = None,
) -> None:
    from abaw_emi.challenge.combining import PLAIN_MEAN
    from abaw_emi.challenge.ensembling import write_ensemble
    from abaw_emi.cli.combining import describe_recipe, find_missing_names, report_recipe, warn_of_gaps
    from abaw_emi.cli.output import print_json, print_line, texts

    recipe = recipe or PLAIN_MEAN
    skipped = predicted.skipped if predicted else ()
    written = write_ensemble(
        members,
        path,
        split=split.value,
        command=command,
        skipped=skipped,
        read_from_video=predicted.read_from_video if predicted else None,
        recipe=recipe,
        missing=missing.value,
        table=table,
    )
    gaps = find_missing_names(members)
    if not as_json:
        report_recipe(recipe, gaps, missing.value, reporter)
        how = f"{recipe.scheme} of {len(members)}, " if len(members) > 1 else ""
        how = how if table is None else f"out of fold, {how}"
        print_line(f"{path}: {how}{len(written):,} clips")
        return
    warn_of_gaps(gaps, missing.value, reporter)
    print_json(
        {
            "path": str(path),
            "rows": len(written),
            "members": [member.name for member in members],
            "skipped": list(skipped),
            **describe_recipe(recipe, gaps),
            "out_of_fold": table is not None,
            "problems": texts(reporter.warnings),
        }
    )
