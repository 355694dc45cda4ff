"""The folder of a demo: known by its mark, and replaced each time. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from abaw_emi.audit.record import AUDIT
from abaw_emi.core.errors import Problem, RunError

REPORT = "report.html"

_MARK = "DEMO.md"  # marks a folder that a demo made, and may replace

_MARK_TEXT = """# A demo of abaw-emi

Made by `abaw-emi demo`, which replaces this folder each time. The speech is synthetic.

- `data/`: a corpus in the official layout; `truth/`: the test labels, which a real corpus keeps back
- `features/`: transcripts, and features of their words, as `abaw-emi transcribe` and `extract` leave them
- `encoders/`: a tiny text and a tiny speech encoder with random weights, to try presets that train them
- `runs/`, `predictions/`, `submissions/`, `audit.json`, `report.html`: as in your own folder later
"""


def check_folder(out: Path) -> None:
    """Passes if a demo may write into `out`.

    Raises:
        RunError: something is there that no demo made.
    """
    if out.exists() and not (out / _MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        found = "already there, and not made by a demo"
        raise RunError(Problem(str(out), found, next_step="give --out another folder"))


def prepare_folder(out: Path) -> None:
    """Makes the folder, without what an earlier demo left there; as `check_folder`."""
    check_folder(out)
    mark = out / _MARK
    if mark.is_file():
        for name in ("data", "features", "truth", "encoders", "runs", "predictions", "submissions"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (AUDIT, REPORT):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    mark.write_text(_MARK_TEXT, encoding="utf-8")
