"""Docs speak of messages and names that exist, and of all public ones. `nox -s docs` builds the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import abaw_emi

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "abaw_emi").rglob("*.py"))


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_that_the_page_explains_is_one_of_the_package(message: str) -> None:
    assert message in SOURCES


def test_the_page_explains_some_messages_of_each_kind() -> None:
    assert len(MESSAGES) > 25


def test_the_reference_names_every_public_name() -> None:
    reference = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in abaw_emi.__all__ if not re.search(rf"abaw_emi\.{name}\b", reference)]
    assert missing == []
