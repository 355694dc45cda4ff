from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.regenerate import GOLDEN, SESSIONS, play


@pytest.mark.parametrize("session", SESSIONS)
def test_commands_print_exactly_what_the_golden_file_holds(session: str, tmp_path: Path) -> None:
    assert play(session, tmp_path) == (GOLDEN / f"{session}.txt").read_text(encoding="utf-8")


def test_every_golden_file_is_of_a_session() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == sorted(SESSIONS)
