"""Commands that bring in a model and have it predict: predict, import-weights."""

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
    Features,
    Json,
    OnBadClip,
    Precision,
    PrecisionName,
    Quiet,
    SplitName,
)

if TYPE_CHECKING:
    from abaw_emi.core.progress import Reporter
    from abaw_emi.inference.members import Members
    from abaw_emi.runs.run import Run


def register(app: typer.Typer) -> None:
    """Adds this room's commands to `app`."""
    app.command(epilog="Example: abaw-emi predict --ckpt runs/paper-seed1 --split valid")(predict)
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
    from abaw_emi.cli.output import print_json, print_line, texts
    from abaw_emi.core.errors import EmiError, Problem, gather
    from abaw_emi.core.files import check_writable
    from abaw_emi.core.progress import Reporter
    from abaw_emi.ensembling.members import write_ensemble
    from abaw_emi.runs.run import find_run

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
    predicted = predict_with(runs, data, features, split, on_bad_clip, device, precision, reporter)
    written = write_ensemble(
        predicted.members,
        path,
        split=split.value,
        command="abaw-emi predict",
        skipped=predicted.skipped,
        read_from_video=predicted.read_from_video,
    )
    if not as_json:
        print_line(f"{path}: {len(written):,} clips")
        return
    print_json(
        {
            "path": str(path),
            "rows": len(written),
            "members": [member.name for member in predicted.members],
            "skipped": list(predicted.skipped),
            "problems": texts(reporter.warnings),
        }
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
    from abaw_emi.core.installation import check_installation

    check_installation()

    from abaw_emi.cli.output import print_json, print_line
    from abaw_emi.training.import_weights import import_run

    run = import_run(file, backbone, revision, out)
    if as_json:
        print_json({"run": str(run.folder), "problems": []})
    else:
        print_line(f"{run.folder}: imported; which clips it was trained on is not known")


def predict_with(
    runs: Sequence[Run],
    data: Path,
    features: Path,
    split: SplitName,
    on_bad_clip: OnBadClip,
    device: str,
    precision: PrecisionName,
    reporter: Reporter,
) -> Members:
    """What the runs predict for a split, with progress."""
    from abaw_emi.core.installation import check_installation

    check_installation()

    from abaw_emi.data.folder import DataFolder
    from abaw_emi.inference.members import predict_runs

    return predict_runs(
        runs,
        DataFolder(data, features),
        split.value,
        on_bad=on_bad_clip.value,
        device=device,
        precision=precision.value,
        reporter=reporter,
    )
