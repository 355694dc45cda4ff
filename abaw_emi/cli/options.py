"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.command import OUTPUT
from abaw_emi.cli.completion import complete_keys
from abaw_emi.core.constants import (
    EnsembleMethod,
    Fill,
    IntervalMethod,
    OnBadClip,
    OnMissing,
    Precision,
    Split,
)
from abaw_emi.core.suggest import check_device
from abaw_emi.evaluation.text_tables import Format

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder

FILES = "Files"
"""The panel of folders that are read or written, and of what becomes of bad files."""

STATISTICS = "Intervals and tests"
"""The panel of options of resampling."""

_LARGEST = 2**63 - 1
"""The largest seed that torch takes."""


def open_folder(data: Path, features: Path) -> DataFolder:
    """The data folder of a command that reads clips.

    Raises:
        CorpusError: there is none; said before anything slow is loaded.
    """
    from abaw_emi.data.folder import DataFolder

    folder = DataFolder(data, features)
    _ = folder.files
    return folder


def _check_seeds(seeds: list[int] | None) -> list[int] | None:
    if seeds and max(seeds) > _LARGEST:
        raise typer.BadParameter(f"{max(seeds)} is more than {_LARGEST}")
    return seeds


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        rich_help_panel=FILES,
        envvar="ABAW_EMI_DATA",
        help="The data folder.",
        show_default="data/",
    ),
]
Features = Annotated[
    Path,
    typer.Option(
        "--features",
        metavar="DIR",
        rich_help_panel=FILES,
        help="Feature folders that abaw-emi extract made.",
        show_default="features/",
    ),
]
Bad = Annotated[
    OnBadClip,
    typer.Option(
        "--on-bad-clip",
        rich_help_panel=FILES,
        help="Stop at clips that cannot be read, or leave them out, listed.",
    ),
]
SplitOption = Annotated[Split, typer.Option("--split", help="The split to predict.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        rich_help_panel="Machine",
        help="auto, cpu, cuda, cuda:1, mps, ...",
        callback=check_device,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision", rich_help_panel="Machine", help="auto is fp32 on a CPU, bf16 on a GPU that has it."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="No progress and no messages; warnings stay."),
]
MethodOption = Annotated[
    EnsembleMethod,
    typer.Option("--method", help="auto: the simplest that is not significantly outperformed on valid."),
]
MissingOption = Annotated[
    OnMissing,
    typer.Option("--on-missing", help="A clip that a member lacks: refused, left out, or by the others."),
]
FillOption = Annotated[
    Fill | None, typer.Option("--fill", help="What stands in for clips without a prediction.")
]
Runs = Annotated[
    Path, typer.Option("--runs", "--out", metavar="DIR", rich_help_panel=FILES, help="Folder of the runs.")
]
RunsOfFolds = Annotated[
    Path,
    typer.Option(
        "--runs",
        metavar="DIR",
        rich_help_panel=FILES,
        help="Folder of runs, where K-fold runs of the same preset are looked for.",
    ),
]
TrainPlusVal = Annotated[
    bool, typer.Option("--train-plus-val", help="Train on valid too; no validation remains.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", autocompletion=complete_keys, metavar="K=V", help="KEY=VALUE, such as training.epochs=10."
    ),
]
ChangesOfPresets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        autocompletion=complete_keys,
        metavar="K=V",
        help="KEY=VALUE, of every preset that has it.",
    ),
]
TableFormat = Annotated[Format, typer.Option("--format", help="csv is the ranking alone, unrounded.")]
Groups = Annotated[
    Path | None,
    typer.Option(
        "--groups",
        metavar="FILE",
        rich_help_panel=STATISTICS,
        help="A CSV of Filename and speaker: whole groups are resampled, not clips.",
    ),
]
Method = Annotated[
    IntervalMethod,
    typer.Option("--interval", rich_help_panel=STATISTICS, help="How intervals are made of resamples."),
]
Permutations = Annotated[
    int, typer.Option("--permutations", rich_help_panel=STATISTICS, help="Of each paired test.", min=1)
]
Seeds = Annotated[
    list[int] | None,
    typer.Option("--seeds", help="One run for each.", show_default="1", min=0, callback=_check_seeds),
]
Seed = Annotated[
    int, typer.Option("--seed", rich_help_panel=STATISTICS, help="Seed of all resampling.", min=0)
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="k/K",
        help="Only the k-th of K shares of the clips, while others take theirs.",
        show_default="all; under torchrun, one for each process",
    ),
]

MadeFeatures = Annotated[
    Path,
    typer.Option(
        "--features", "--out", metavar="DIR", rich_help_panel=FILES, help="Folder of the feature folders."
    ),
]

DEFAULT_DATA = Path("data")
DEFAULT_FEATURES = Path("features")
DEFAULT_RUNS = Path("runs")
