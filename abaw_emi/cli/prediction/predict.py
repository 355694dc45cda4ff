"""The command predict."""

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
    Device,
    Features,
    PrecisionOption,
    Quiet,
    SplitOption,
)
from abaw_emi.cli.output import print_result
from abaw_emi.core.constants import OnBadClip, Precision, Split
from abaw_emi.core.errors import EmiError, Problem, gather
from abaw_emi.core.installation import check_installation

if TYPE_CHECKING:
    from abaw_emi.core.progress import Reporter
    from abaw_emi.ensembling.members import Members
    from abaw_emi.runs.run import Run


EXAMPLES = "Example: abaw-emi predict --ckpt runs/paper-seed1 --split valid"


def predict(
    ckpt: Annotated[Path, typer.Option("--ckpt", help="A run folder.")],
    split: SplitOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The CSV to write.", show_default="predictions/<run>-<split>.csv"),
    ] = None,
    data: Data = DEFAULT_DATA,
    features: Features = DEFAULT_FEATURES,
    on_bad_clip: Bad = "error",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Write one run's predictions for a split as a CSV."""
    from abaw_emi.core.files import check_writable
    from abaw_emi.core.progress import Reporter
    from abaw_emi.ensembling.combine import write_ensemble
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
        predicted,
        path,
        split=split,
        command="abaw-emi predict",
    )
    print_result(
        {
            "path": str(path),
            "rows": len(written),
            "members": [member.name for member in predicted.members],
            "skipped": list(predicted.skipped),
        },
        f"{path}: {len(written):,} clips",
        reporter.warnings,
    )


def predict_with(
    runs: Sequence[Run],
    data: Path,
    features: Path,
    split: Split,
    on_bad_clip: OnBadClip,
    device: str,
    precision: Precision,
    reporter: Reporter,
) -> Members:
    """What the runs predict for a split, with progress; without runs, torch is not needed."""
    from abaw_emi.ensembling.members import Members

    if not runs:
        return Members()
    check_installation()

    from abaw_emi.data.folder import DataFolder
    from abaw_emi.inference.members import predict_runs
    from abaw_emi.models.device import Runtime

    runtime = Runtime.for_prediction(device, precision, reporter)
    return predict_runs(runs, DataFolder(data, features), split, runtime, on_bad=on_bad_clip)
