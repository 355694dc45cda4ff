from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from abaw_emi.cli.app import app
from abaw_emi.cli.training import train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [README, *(guide.read_text(encoding="utf-8") for guide in GUIDES)]
COMMANDS = (
    "demo",
    "audit",
    "presets",
    "options",
    "pipeline",
    "prepare",
    "sweep",
    "search",
    "train",
    "tables",
    "faces",
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


MADE = ("reference/commands.md", "reference/options.md", "reference/presets.md")
"""Pages that are made when the site is built; building it checks links to them."""


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


def test_the_way_to_a_submission_is_the_same_everywhere() -> None:
    guide = (ROOT / "docs" / "first-submission.md").read_text(encoding="utf-8")
    last = (ROOT / "abaw_emi" / "cli" / "demo.py").read_text(encoding="utf-8")
    steps = [line for line in indented(guide) if re.match("abaw-emi (train --train|ensemble)", line)]
    assert len(steps) == 2
    for step in steps:
        assert step in indented(README)
        assert f"\n  {step}\n" in last
    assert steps[0] in train.EXAMPLES
    texts = [*TEXTS, last, train.EXAMPLES]
    alone = [line for text in texts for line in re.findall(r"abaw-emi train .*--train-plus-val.*", text)]
    assert all("--epochs-from" in line for line in alone)


def test_the_table_of_commands_has_the_groups_of_the_help() -> None:
    shown: dict[str, set[str]] = {}
    group = ""
    for first, rest in re.findall(r"^\| ([A-Z][a-z ]*)?\| (`[a-z-]+`.*) \|$", README, re.MULTILINE):
        group = first.strip() or group
        shown.setdefault(group, set()).update(re.findall(r"`([a-z-]+)`", rest))
    commands = get_command(app).commands  # type: ignore[attr-defined]
    panels: dict[str, set[str]] = {}
    for name, command in commands.items():
        panels.setdefault(command.rich_help_panel, set()).add(name)
    assert shown == panels
    assert set(COMMANDS) == set(commands)


def test_the_last_lines_of_the_demo_are_its_own() -> None:
    source = (ROOT / "abaw_emi" / "cli" / "demo.py").read_text(encoding="utf-8")
    shown = [line for line in indented(README) if line.startswith("demo/")]
    assert len(shown) == 2
    for line in shown:
        _, words = re.split(r" {3,}", re.sub(r" \(.*\)$", "", line))
        assert words in source


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 130


@pytest.mark.parametrize(
    "line", sorted({line for text in TEXTS for line in re.findall(r"abaw-emi [^`\n]*--[^`\n]*", text)})
)
def test_every_option_that_the_texts_show_exists(line: str) -> None:
    words = line.split()
    command = " ".join(words[1:3] if words[1:3] == ["ledger", "set"] else words[1:2])
    for option in re.findall(r"--[a-z-]+", line):
        assert option in help_of(command)


def test_every_output_that_the_texts_show_is_golden() -> None:
    golden = (ROOT / "tests" / "cli" / "golden" / "readme.txt").read_text(encoding="utf-8")
    blocks = [b for text in TEXTS for b in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)]
    shown = [re.sub(r"^    ", "", block.strip("\n"), flags=re.MULTILINE) for block in blocks]
    shown = [block for block in shown if block.startswith("$ abaw-emi")]
    assert len(shown) == 3
    for block in shown:
        assert f"{block}\n" in golden


def test_the_layout_lists_every_package() -> None:
    layout = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    listed = re.findall(r"^ {6,}(?:\d+ +)?([a-z]+) {2,}", layout, re.MULTILINE)
    packages = [path.parent.name for path in (ROOT / "abaw_emi").glob("*/__init__.py")]
    assert sorted(listed) == sorted(packages)


@pytest.mark.parametrize("path", [ROOT / "README.md", *GUIDES], ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    links = [link for link in links if link not in MADE]
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing
