"""Pages of the site that are made when it is built: from the code, and from files outside docs/."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from mkdocs.structure.files import File, Files

from abaw_emi.cli.app import app
from abaw_emi.config.options import list_options
from abaw_emi.config.presets import PRESETS, SUMMARIES

ROOT = Path(__file__).parents[1]

# Files that are read where they lie, too, and the page of each.
OUTSIDE = {
    "benchmarks/README.md": "reference/benchmarks.md",
    "submissions/README.md": "reference/submission-format.md",
    "CHANGELOG.md": "reference/changelog.md",
    "examples/demo.ipynb": "examples/demo.ipynb",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that no file of docs/ holds."""
    pages = {page: (ROOT / path).read_text(encoding="utf-8") for path, page in OUTSIDE.items()}
    pages["reference/commands.md"] = "\n".join(_describe_commands())
    pages["reference/options.md"] = "\n".join(_describe_options())
    pages["reference/presets.md"] = "\n".join(_describe_presets())
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links to files outside docs/ at their pages; the files keep links that work where they lie."""
    here = PurePosixPath(page.file.src_uri)
    source = next((path for path, made in OUTSIDE.items() if made == str(here)), f"docs/{here}")

    def point(link: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / link[1])
        inside = OUTSIDE.get(target, target.removeprefix("docs/"))
        return f"]({os.path.relpath(inside, here.parent)}{link[2] or ''})"

    return re.sub(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)", lambda link: point(link), markdown)


def _describe_commands() -> Iterator[str]:
    """Every command with its options and examples, as `--help` shows them."""
    root = typer.main.get_command(app)
    yield "# Commands\n"
    yield f"{root.help}\n"
    yield "What is read and written, and the exit codes: [files](files.md).\n"
    for name, command in _walk(root, "abaw-emi"):
        context = command.make_context(name, [], resilient_parsing=True)
        yield f"## {name.removeprefix('abaw-emi ')}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"    {name} {usage}\n"
        yield "| option | what it does |\n|---|---|"
        for param in command.get_params(context):
            if record := param.get_help_record(context):
                yield f"| `{_cell(record[0])}` | {_cell(record[1])} |"
        if command.epilog:
            lines = [line for line in command.epilog.splitlines() if line.strip()]
            yield "\n" + "\n".join(_show_example(line) for line in lines)
        yield ""


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for child_name, child in getattr(command, "commands", {}).items():
        yield f"{name} {child_name}", child
        yield from _walk(child, f"{name} {child_name}")


def _show_example(line: str) -> str:
    """A line of a command's epilog: a heading as it is, a command as code."""
    text = line.strip().removeprefix("Example: ")
    return f"    {text}" if "abaw-emi" in text.split() or "torchrun" in text else f"\n{text}\n"


def _describe_options() -> Iterator[str]:
    """Every key of a run's configuration."""
    yield "# Options of a run\n"
    yield (
        "Each is set with `abaw-emi train --set KEY=VALUE`, or in a TOML file for `--config`; a run's "
        "`run.toml` has them all. Defaults are those of the preset `paper`. PAPER and CODE are the paper and "
        "its released code; what names neither is ours.\n"
    )
    for option in list_options():
        default = f", default `{option.default}`" if option.default else ""
        yield f"`{option.key}`: {option.type}{default}\n:   {option.description}\n"


def _describe_presets() -> Iterator[str]:
    """Every preset: what it is, and what it changes."""
    yield "# Presets\n"
    yield (
        "A preset is a whole configuration; `abaw-emi train --preset NAME` trains it, and `abaw-emi presets` "
        "says what of its input is missing on your machine. What each changes of `paper` stands below its "
        "name; the other [options](options.md) are as there. PAPER and CODE are the paper and its released "
        "code: [what is theirs and what is ours](../paper.md).\n"
    )
    usual = dict(_flatten(asdict(PRESETS["paper"])))
    for name, config in PRESETS.items():
        yield f"## {name}\n\n{SUMMARIES[name]}.\n"
        own = dict(_flatten(asdict(config)))
        changes = [f"{key} = {json.dumps(value)}" for key, value in own.items() if usual.get(key) != value]
        yield "\n".join(f"    {line}" for line in changes) + "\n"


def _flatten(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Keys as `--set` takes them, and values."""
    named = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in named:
        place = f"{key}.{name}".lstrip(".")
        nested = isinstance(value, dict) or (
            isinstance(value, list | tuple) and any(isinstance(each, dict) for each in value)
        )
        yield from _flatten(value, place) if nested else [(place, value)]


def _cell(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", " ".join(text.split())).replace("|", "\\|")
