"""Options that several commands share, and the classes of commands, which add what all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from abaw_emi.cli.hints import find_hint
from abaw_emi.core.constants import EnsembleMethod, IntervalMethod, OnBadClip, OnMissing, Precision, Split
from abaw_emi.evaluation.text_tables import Format

if TYPE_CHECKING:
    from abaw_emi.data.folder import DataFolder


def _flags(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object on stdout and nothing else there.", expose_value=False
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", expose_value=False)
    ] = False,
) -> None:
    """The flags that every command takes; `output.is_given` reads them."""


_USAGE_ERROR: Any = typer.BadParameter.__base__
"""What the parser raises; typer brings a click of its own, and names only this subclass."""

_flags_app = typer.Typer(add_completion=False)
_flags_app.command()(_flags)
_FLAGS = typer.main.get_command(_flags_app).params


class Command(TyperCommand):
    """A command that takes `--json` and `--debug`, and several values after an option: `--seeds 1 2 3`."""

    def __init__(self, *args: Any, params: list[Any], **settings: Any) -> None:
        super().__init__(*args, params=[*params, *_FLAGS], **settings)

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
        try:
            return super().parse_args(ctx, expanded)
        except _USAGE_ERROR as error:
            if hint := find_hint(self.name or "", error.format_message(), args):
                error.message = f"{error.format_message().rstrip('.')}; {hint}"
            raise


class Group(TyperGroup):
    """A group of commands that takes `--json` and `--debug` itself, too."""

    def __init__(self, *args: Any, params: list[Any], **settings: Any) -> None:
        super().__init__(*args, params=[*params, *_FLAGS], **settings)


def open_folder(data: Path, features: Path) -> DataFolder:
    """The data folder of a command that reads clips.

    Raises:
        CorpusError: there is none; said before anything slow is loaded.
    """
    from abaw_emi.data.folder import DataFolder

    folder = DataFolder(data, features)
    _ = folder.files
    return folder


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
SplitOption = Annotated[Split, typer.Option("--split", help="The split to predict.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="auto is fp32 on a CPU, bf16 on a GPU that has it.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages; warnings stay.")]
MethodOption = Annotated[
    EnsembleMethod,
    typer.Option("--method", help="auto: the simplest that is not significantly outperformed on valid."),
]
MissingOption = Annotated[
    OnMissing,
    typer.Option("--on-missing", help="A clip that a member lacks: refused, left out, or by the others."),
]
Runs = Annotated[
    Path, typer.Option("--runs", help="Folder of runs, where K-fold runs of the same preset are looked for.")
]
TableFormat = Annotated[Format, typer.Option("--format", help="csv is the ranking alone, unrounded.")]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", help="A CSV of Filename and speaker: whole groups are resampled, not clips."),
]
Method = Annotated[IntervalMethod, typer.Option("--interval", help="How intervals are made of resamples.")]
Permutations = Annotated[int, typer.Option("--permutations", help="Of each paired test.", min=1)]
Seeds = Annotated[
    list[int] | None,
    typer.Option("--seeds", help="One run for each.", show_default="1", min=0, max=2**63 - 1),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all resampling.", min=0)]

DEFAULT_DATA = Path("data")
DEFAULT_FEATURES = Path("features")
DEFAULT_RUNS = Path("runs")
