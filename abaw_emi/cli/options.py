"""Options that several commands share, and the command class that lets an option take several values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption


class OnBadClip(StrEnum):
    """What to do about clips that cannot be read."""

    error = "error"
    skip = "skip"


class PrecisionName(StrEnum):
    """Arithmetic of the model."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class SplitName(StrEnum):
    """A split of the data."""

    train = "train"
    valid = "valid"
    test = "test"


class IntervalMethod(StrEnum):
    """How bootstrap intervals are made."""

    percentile = "percentile"
    bca = "bca"


class FormatName(StrEnum):
    """What a comparison is printed as."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


class MethodName(StrEnum):
    """How members are combined, the simplest first."""

    mean = "mean"
    zscores = "zscores"
    ranks = "ranks"
    greedy = "greedy"
    weights = "weights"
    emotion_weights = "emotion-weights"
    auto = "auto"


class MissingName(StrEnum):
    """What becomes of a clip that a member lacks."""

    error = "error"
    drop = "drop"
    others = "others"


class SeveralValuesCommand(TyperCommand):
    """A command whose repeatable options also take several values: `--seeds 1 2 3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Writes `--seeds 1 2 3` as `--seeds 1 --seeds 2 --seeds 3` before parsing."""
        several = {
            name
            for param in self.params
            if isinstance(param, TyperOption) and param.multiple
            for name in param.opts
        }
        expanded: list[str] = []
        option = ""  # the repeatable option whose values are being read
        given = 0
        for position, word in enumerate(args):
            if word == "--":
                expanded += args[position:]
                break
            if word.startswith("-") and not _is_number(word):
                name, equals, _ = word.partition("=")
                option, given = (name if name in several else ""), len(equals)
                expanded.append(word)
            else:
                if option and given:
                    expanded.append(option)
                expanded.append(word)
                given += 1
        return super().parse_args(ctx, expanded)


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdigit()


Data = Annotated[
    Path, typer.Option("--data", envvar="ABAW_EMI_DATA", help="The data folder.", show_default="data/")
]
Features = Annotated[
    Path,
    typer.Option("--features", help="Feature folders that abaw-emi extract made.", show_default="features/"),
]
Bad = Annotated[
    OnBadClip,
    typer.Option("--on-bad-clip", help="Stop at clips that cannot be read, or leave them out, listed."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    PrecisionName, typer.Option("--precision", help="auto is fp32 on a CPU, bf16 on a GPU that has it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages; warnings stay.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
EnsembleMethod = Annotated[
    MethodName, typer.Option("--method", help="auto: the simplest that nothing beats out of fold on valid.")
]
OnMissing = Annotated[
    MissingName,
    typer.Option("--on-missing", help="A clip that a member lacks: refused, left out, or by the others."),
]
Runs = Annotated[
    Path, typer.Option("--runs", help="Folder of runs, where K-fold runs of the same preset are looked for.")
]
TableFormat = Annotated[FormatName, typer.Option("--format", help="csv is the ranking alone, unrounded.")]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", help="A CSV of Filename and speaker: whole groups are resampled, not clips."),
]
Method = Annotated[IntervalMethod, typer.Option("--interval", help="How intervals are made of resamples.")]
Permutations = Annotated[int, typer.Option("--permutations", help="Of each paired test.", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all resampling.", min=0)]

DEFAULT_DATA = Path("data")
DEFAULT_FEATURES = Path("features")
DEFAULT_RUNS = Path("runs")
