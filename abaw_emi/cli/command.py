"""The classes of all commands: what every command takes, how its words are read, and how its help looks."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from abaw_emi.cli.hints import find_hint
from abaw_emi.core.terminal import fit_command

OUTPUT = "Output"
"""The panel of options that every command has."""

_FEW = 10
"""So many options are listed together; more are grouped in panels."""

_READING = "abaw_emi.cli.reading"
"""Where the context of a command keeps which option the next word is a value of; "" for none."""

_PLACEHOLDERS = {int: "N", float: "X", str: "TEXT"}


def _flags(
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object on stdout and nothing else there.", expose_value=False
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress and no messages; warnings stay.", expose_value=False),
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


class _Shared:
    """What commands and groups of commands have in common.

    The first of several long names of an option is its name; the others are former ones, which are taken as
    well, and not shown.
    """

    epilog: str | None
    params: list[Any]

    def __init__(self, *args: Any, params: list[Any], **settings: Any) -> None:
        super().__init__(*args, params=_complete(params), **settings)  # type: ignore[call-arg]
        self.former_names: dict[str, str] = {}
        for param in filter(_is_option, self.params):
            name, *former = [word for word in param.opts if word.startswith("--")]
            self.former_names |= dict.fromkeys(former, name)
            param.opts = [word for word in param.opts if word not in former]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the words, with former names of options taken for their names."""
        parsed: list[str] = super().parse_args(ctx, self.rename(args))  # type: ignore[misc]
        return parsed

    def rename(self, args: list[str]) -> list[str]:
        """The words with each option by its name."""
        words = [word.partition("=") for word in args]
        return ["".join((self.former_names.get(name, name), *value)) for name, *value in words]

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, with those that typer adds: `--help`, and of the program, completion."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, in the panel of the other options that every command has."""
        option: Any = super().get_help_option(ctx)  # type: ignore[misc]
        if any(getattr(param, "rich_help_panel", None) == OUTPUT for param in self.params):
            option.rich_help_panel = OUTPUT
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help, with examples that fit the terminal."""
        from rich.markup import escape

        width = shutil.get_terminal_size().columns - 2
        self.epilog = "\n" + "\n".join(map(escape, fit_examples(self.epilog or "", width)))
        super().format_help(ctx, formatter)  # type: ignore[misc]


class Command(_Shared, TyperCommand):
    """A command that takes the flags of all, and several values after an option: `--seeds 1 2 3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Writes `--seeds 1 2 3` as `--seeds 1 --seeds 2 --seeds 3` before parsing."""
        several = {
            name for param in self.params if _is_option(param) and param.multiple for name in param.opts
        }
        args = self.rename(args)
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
        ctx.meta[_READING] = option
        try:
            return super().parse_args(ctx, expanded)
        except _USAGE_ERROR as error:
            options = [name for param in filter(_is_option, self.params) for name in param.opts]
            message = error.format_message()
            if hint := find_hint(self.name or "", message, args, options):
                error.format_message = lambda: f"{message.partition(' (Possible')[0].rstrip('.')}; {hint}"
            raise

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """What the shell offers: a further value of an option that takes several, or names of options."""
        for param in self.params:
            if ctx.meta.get(_READING) in param.opts and not incomplete.startswith("-"):
                return param.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)


class Group(_Shared, TyperGroup):
    """A group of commands that takes the flags of all itself, too."""


def fit_examples(text: str, width: int) -> Iterator[str]:
    r"""Lines of examples, each at most `width` wide: its note goes below, then a long command is broken.

    >>> text = "  abaw-emi train --limit 64    how long would it take?"
    >>> print("\n".join(fit_examples(text, 30)))
      abaw-emi train --limit 64
          # how long would it take?
    """
    for line in text.splitlines():
        if len(line) <= width or not re.match(r"Example: |  \S", line):
            yield line
            continue
        command, _, note = re.sub(r"(?<=\S) {3,}(?=\S)", "\0", line, count=1).partition("\0")
        indent = " " * (len(command) - len(command.lstrip()))
        yield fit_command(command, width)
        if note:
            yield f"{indent}    # {note}"


def _complete(params: list[Any]) -> list[Any]:
    """The parameters with the flags of every command, and with what their help shows."""
    known = {name for option in filter(_is_option, params) for name in option.opts}
    flags: list[Any] = [copy.copy(flag) for flag in _FLAGS if not known.intersection(flag.opts)]
    for flag in flags:
        flag.rich_help_panel = OUTPUT
    params = [*params, *flags]
    options = list(filter(_is_option, params))
    for option in options:
        kind: Any = option.type_descriptor.annotation
        choices = option.type_descriptor.choices
        if option.metavar is None and choices:
            option.metavar = " | ".join(map(str, choices))  # a narrow terminal breaks it at a space
        elif option.metavar is None:
            option.metavar = _PLACEHOLDERS.get(next(iter(get_args(kind)), kind))
        if option.multiple and option.metavar:
            option.metavar += "..."
        if len(options) <= _FEW:
            option.rich_help_panel = None
    return params


def _is_option(param: Any) -> bool:
    return isinstance(param, TyperOption)


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdigit()
