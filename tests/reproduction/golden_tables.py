"""Golden tables: made-up results beside the published ones, in every form.

They lie in `golden/<form>.txt`. After a wanted change: `python -m tests.reproduction.golden_tables`,
then read the diff.
"""

from __future__ import annotations

from pathlib import Path

from abaw_emi.core.errors import Problem
from abaw_emi.evaluation.text_tables import FORMATS
from abaw_emi.reproduction.published import find_rows
from abaw_emi.reproduction.table import Measured, RowOutcome, Tested, render_table
from tests.csv_tables import EMOTIONS

GOLDEN = Path(__file__).parent / "golden"

_PER_EMOTION = {emotion: place / 10 for place, emotion in enumerate(EMOTIONS)}


def make_outcomes() -> list[RowOutcome]:
    """A row in each of the states, with one seed, with three, scored by folds, on test, and not at all."""
    names = ["baseline-av", "zhang", "vision", "frozen", "paper", "paper-dropout", "paper-trainval"]
    rows = {row.name: row for row in find_rows("1", names)}
    one = Measured(
        mean_pearson=0.26178,
        pearson=_PER_EMOTION,
        interval=(0.2401, 0.28),
        by_seed={1: 0.26178},
        n=4_588,
        on="valid",
        signature="mean_pearson|n:4588",
    )
    three = Measured(
        mean_pearson=0.38,
        pearson=_PER_EMOTION,
        interval=(0.36, 0.4),
        by_seed={1: 0.37, 2: 0.38, 3: 0.39},
        ensemble=0.4,
        ensemble_interval=(0.38, 0.42),
        n=4_588,
        on="valid",
    )
    folds = Measured(
        mean_pearson=0.41,
        pearson=_PER_EMOTION,
        interval=(0.4, 0.42),
        by_seed={},
        n=12_660,
        on="5-fold runs of preset paper_x on train+val (100 % of it)",
    )
    lack = Problem("feature folder gte", "no clip of train has any", next_step="put it under data/gte/")
    tested = Tested(mean_pearson=0.4655, submission="submission-2")
    return [
        RowOutcome(row=rows["baseline-av"], runs=["baseline-av-seed1"], state="finished", measured=one),
        RowOutcome(row=rows["zhang"], runs=["zhang-seed1"], state="lacks inputs", problems=[lack]),
        RowOutcome(row=rows["vision"], runs=["vision-seed1"], state="not run"),
        RowOutcome(row=rows["frozen"], runs=["frozen-seed1"], state="finished", measured=one),
        RowOutcome(row=rows["paper"], runs=["a", "b", "c"], state="finished", measured=three, tested=tested),
        RowOutcome(row=rows["paper-dropout"], runs=["paper-dropout-seed1"], state="unfinished"),
        RowOutcome(row=rows["paper-trainval"], runs=["d"], state="finished", measured=folds, tested=tested),
    ]


def render_golden(form: str) -> str:
    """The text of a form, with a line break at its end."""
    return render_table("1", make_outcomes(), form) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for form in FORMATS:
        (GOLDEN / f"{form}.txt").write_text(render_golden(form), encoding="utf-8")
