"""Golden files: spoiled CSVs and the messages that name their defects.

`golden/<kind>-<what>.csv` is read as its kind; `golden/<kind>-<what>.txt` holds every message, one a line.
After a wanted change of a message: `python -m tests.data.regenerate`, then read the diff.
"""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from abaw_emi.core.errors import TableError
from abaw_emi.data.tables import read_ids, read_labels, read_predictions
from abaw_emi.submission.check import check_path

GOLDEN = Path(__file__).parent / "golden"
TEST_IDS = ["00001", "00002", "00003", "00004"]


def golden_files() -> list[Path]:
    return sorted(GOLDEN.glob("*.csv"))


def messages_of(path: Path) -> str:
    """What is said of the file, read from its own folder so that messages do not name it in full."""
    kind = path.name.partition("-")[0]
    read = {"labels": read_labels, "predictions": read_predictions, "ids": read_ids}
    with chdir(path.parent):
        if kind == "submission":
            problems = check_path(Path(path.name), TEST_IDS).problems
        else:
            try:
                read[kind](Path(path.name))
            except TableError as error:
                problems = error.problems
            else:
                problems = ()
    return "".join(f"{problem}\n" for problem in problems)


if __name__ == "__main__":
    for path in golden_files():
        path.with_suffix(".txt").write_text(messages_of(path), encoding="utf-8")
