from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.end_to_end.test_four_lines import FOUR_LINES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    "demo",
    "audit",
    "train",
    "tables",
    "extract",
    "transcribe",
    "runs",
    "predict",
    "ensemble",
    "score",
    "compare",
    "submit",
    "check",
    "ledger",
    "report",
    "import-weights",
)


@cache
def help_of(command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "abaw_emi", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "PATH": ""},
    )
    return result.stdout


def indented(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    (command,) = (line for line in indented(README) if line.endswith("/nox"))
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == command


def test_the_four_lines_stand_in_the_readme_one_after_the_other() -> None:
    lines = FOUR_LINES.split("\n")[1:-1]
    shown = indented(README)
    start = shown.index(lines[0])
    assert shown[start : start + len(lines)] == lines


def test_the_table_of_commands_is_complete() -> None:
    assert tuple(re.findall(r"^\| `([a-z-]+)` \|", README, re.MULTILINE)[: len(COMMANDS)]) == COMMANDS


@pytest.mark.parametrize("line", sorted(set(re.findall(r"abaw-emi [^`\n]*--[^`\n]*", README))))
def test_every_option_that_the_readme_shows_exists(line: str) -> None:
    words = line.split()
    command = " ".join(words[1:3] if words[1:3] == ["ledger", "set"] else words[1:2])
    for option in re.findall(r"--[a-z-]+", line):
        assert option in help_of(command)


def test_every_output_that_the_readme_shows_is_golden() -> None:
    golden = (ROOT / "tests" / "cli" / "golden" / "readme.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)
    shown = [re.sub(r"^    ", "", block.strip("\n"), flags=re.MULTILINE) for block in blocks]
    shown = [block for block in shown if block.startswith("$ abaw-emi")]
    assert len(shown) == 3
    for block in shown:
        assert f"{block}\n" in golden


@pytest.mark.parametrize("room", re.findall(r"^      (\w+(?:\.py|/))", README, re.MULTILINE))
def test_every_room_that_the_readme_lists_is_there(room: str) -> None:
    assert (ROOT / "abaw_emi" / room).exists()
