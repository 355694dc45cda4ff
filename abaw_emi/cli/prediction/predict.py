"""The command predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_runs
from abaw_emi.cli.next_step import print_next, print_next_of_predictions, retype
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.constants import OnBadClip, Precision, Split
from abaw_emi.core.errors import EmiError, Problem, UsageError, attempt
from abaw_emi.core.files import check_writable, write_bytes
from abaw_emi.core.installation import check_installation
from abaw_emi.core.progress import Reporter
from abaw_emi.data.shard import Shard
from abaw_emi.evaluation.text_tables import TextTable, render

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.ensembling.members import Members
    from abaw_emi.runs.run import Run


EXAMPLES = """Examples:
  abaw-emi predict --ckpt runs/paper-seed1 --split valid
  abaw-emi predict --ckpt runs/paper-seed1 mine.wav theirs.mp4            any files, printed as a table
  abaw-emi predict --ckpt runs/paper-seed1 --split test --shard 2/4       the second of four machines
  torchrun --nproc-per-node 4 -m abaw_emi predict --ckpt RUN --split test   four GPUs together

Run again, it continues. Machines share the cache; once all shares are made, the command without --shard
writes the CSV.
"""


def predict(
    ckpt: Annotated[
        Path,
        typer.Option("--ckpt", "--ckpts", autocompletion=complete_runs, metavar="RUN", help="A run folder."),
    ],
    files: Annotated[
        list[str] | None, typer.Argument(help="Audio or video files, in the place of --split.")
    ] = None,
    split: Annotated[Split | None, typer.Option("--split", help="The split to predict.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The CSV to write.",
            show_default="predictions/<run>-<split>.csv; of files, a table is printed",
        ),
    ] = None,
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    shard: options.ShardOption = None,
    quiet: options.Quiet = False,
) -> None:
    """Write one run's predictions for a split as a CSV, or predict any audio and video files."""
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.ensembling.combine import write_ensemble
    from abaw_emi.runs.run import find_run

    share = Shard.read(shard)
    if files:
        if split or shard:
            given = "--split" if split else "--shard"
            raise UsageError(Problem("predict", f"both {given} and files", "one of them"))
        _predict_files(ckpt, files, out, device, precision, quiet=quiet)
        return
    if split is None:
        raise UsageError(Problem("predict", "nothing to predict", "--split train, valid or test, or files"))
    problems: list[Problem] = []
    run = attempt(problems, find_run, ckpt)
    path = out or Path("predictions") / f"{ckpt.resolve().name}-{split}.csv"
    attempt(problems, check_writable, path)
    if problems or run is None:
        raise EmiError(problems)
    reporter = Reporter(quiet=quiet)
    folder = DataFolder(data, features)
    if not share.is_whole:
        together = _predict_share(
            run, folder, split, on_bad_clip, device, precision, reporter, share, together=shard is None
        )
        if not together:
            return
    predicted = predict_with([run], folder, split, on_bad_clip, device, precision, reporter)
    written = write_ensemble(predicted, path, split=split, command="abaw-emi predict")

    def show() -> None:
        print_line(f"{path}: {len(written):,} clips")
        print_next_of_predictions(path, split)

    print_result(
        {
            "path": str(path),
            "rows": len(written),
            "members": [member.name for member in predicted.members],
            "skipped": list(predicted.skipped),
        },
        show,
        reporter.warnings,
    )


def _predict_share(
    run: Run,
    data: DataFolder,
    split: Split,
    on_bad_clip: OnBadClip,
    device: str,
    precision: Precision,
    reporter: Reporter,
    shard: Shard,
    *,
    together: bool,
) -> bool:
    """Makes a share of the predictions; whether this process is to write the CSV now.

    Args:
        run: what predicts.
        data: the data folder.
        split: what is predicted.
        on_bad_clip: what is done about bad clips.
        device: of the model.
        precision: of its arithmetic.
        reporter: shows progress.
        shard: which share.
        together: whether the processes of torchrun make all shares, and the first one writes the CSV.
    """
    check_installation()

    from abaw_emi.inference.members import predict_share
    from abaw_emi.models.device import Runtime
    from abaw_emi.models.distributed import join_world

    if together:
        with join_world() as world:
            reporter.console.quiet = not world.is_main
            runtime = Runtime.for_prediction(device, precision, reporter)
            predict_share(run, data, split, runtime, shard, on_bad=on_bad_clip, world=world)
            world.most(0)  # the first process waits for the shares of the others
        return world.is_main
    runtime = Runtime.for_prediction(device, precision, reporter)
    made = predict_share(run, data, split, runtime, shard, on_bad=on_bad_clip)

    def show() -> None:
        print_line(
            f"{run.folder}, {split}: share {shard} is kept, {made.clips:,} clips; "
            f"{made.done:,} of {made.total:,} are predicted"
        )
        print_next(*retype("--shard"), note="" if made.done == made.total else "once all shares are made")

    result = {"path": None, "shard": str(shard), "clips": made.clips, "done": made.done, "total": made.total}
    print_result(result, show, reporter.warnings)
    return False


def _predict_files(
    ckpt: Path, files: Sequence[str], out: Path | None, device: str, precision: Precision, *, quiet: bool
) -> None:
    """Predicts files in the order given, and prints a table or writes a CSV."""
    from abaw_emi.audio.formats import sniff
    from abaw_emi.runs.run import find_run

    problems: list[Problem] = []
    if out is not None:
        attempt(problems, check_writable, out)
    attempt(problems, find_run, ckpt)
    for file in files:
        attempt(problems, sniff, Path(file))
    if problems:
        raise EmiError(problems)
    check_installation()

    from abaw_emi.inference.predictor import load

    predictor = load(ckpt, device=device, precision=precision, quiet=quiet)
    table = predictor.predict(files)
    if out is not None:
        write_bytes(out, table.write_csv().encode())

    def show() -> None:
        if out is not None:
            print_line(f"{out}: {len(table):,} files")
            return
        print_line(render(TextTable(table.columns, rows), "table"))
        print_next(*retype(), "--out", "FILE.csv", note="to keep them")

    rows = [[name, *(f"{value:.4f}" for value in values)] for name, *values in table.rows()]
    print_result(
        {"path": out and str(out), "predictions": table.to_dicts()},
        show,
        predictor.runtime.reporter.warnings,
    )


def predict_with(
    runs: Sequence[Run],
    data: DataFolder,
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
    data.ids(split)  # before anything slow is loaded
    check_installation()

    from abaw_emi.inference.members import predict_runs
    from abaw_emi.models.device import Runtime

    runtime = Runtime.for_prediction(device, precision, reporter)
    return predict_runs(runs, data, split, runtime, on_bad=on_bad_clip)
