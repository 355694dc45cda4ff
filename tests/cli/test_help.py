from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from abaw_emi.cli.app import app


def read_help(*command: str, columns: int) -> str:
    """What `--help` prints on a terminal of that width."""
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_stand_in_panels_in_the_order_of_work() -> None:
    panels = re.findall(r"^╭─ (.+?) ─", read_help(columns=80), re.MULTILINE)
    assert panels == ["Options", "Start", "Data", "Train", "Predict and combine", "Score", "Submit"]


def test_many_options_stand_in_panels_and_few_do_not() -> None:
    panels = re.findall(r"^╭─ (.+?) ─", read_help("train", columns=80), re.MULTILINE)
    assert panels == ["Options", "Machine", "Files", "Resuming", "Trial", "Output"]
    assert re.findall(r"^╭─ (.+?) ─", read_help("runs", columns=80), re.MULTILINE) == ["Arguments", "Options"]


def test_values_have_names_and_flags_have_none() -> None:
    root = typer.main.get_command(app)
    commands = {"": root, **root.commands, **root.commands["ledger"].commands}  # type: ignore[attr-defined]
    for name, command in commands.items():
        for param in command.get_params(command.make_context(name, [], resilient_parsing=True)):
            if param.param_type_name == "option":
                assert (param.metavar == "") == param.is_flag, (name, param.opts)
    text = read_help("train", columns=120)
    assert re.search(r"--seeds +N\.\.\. \[x>=0\] ", text)
    assert re.search(r"--preset +NAME +A system", text)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_an_example_is_a_line_that_can_be_copied(columns: int) -> None:
    text = read_help("train", columns=columns)
    lines = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert all(len(line) <= columns for line in text.splitlines())
    commands = re.sub(r" \\\n", " ", "\n".join(lines))
    assert "abaw-emi train --preset paper-dropout --set training.epochs=10 training.patience=3" in commands
    assert text.partition("Examples:")[2].rstrip().count("\n\n") == 0


@pytest.mark.parametrize(
    ("command", "former", "name", "parameter"),
    [
        ("train", "--out", "--runs", "out"),
        ("sweep", "--out", "--runs", "out"),
        ("tables", "--out", "--runs", "out"),
        ("submit", "--out", "--submissions", "out"),
        ("ledger", "--out", "--submissions", "out"),
        ("extract", "--out", "--features", "out"),
        ("predict", "--ckpts", "--ckpt", "ckpt"),
        ("ensemble", "--ckpt", "--ckpts", "ckpts"),
    ],
)
def test_former_names_of_options_are_taken_and_not_shown(
    command: str, former: str, name: str, parameter: str
) -> None:
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    others = {"extract": ["encoder"]}.get(command, [])
    read = [
        found.make_context(command, [*others, *words]).params[parameter]
        for words in ([former, "here"], [name, "here"], [f"{former}=here"])
    ]
    assert read[0] == read[1] == read[2]
    assert "here" in str(read[0])
    text = read_help(command, columns=100)
    assert f" {name} " in text
    assert f" {former} " not in text
