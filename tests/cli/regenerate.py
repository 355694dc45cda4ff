"""The golden output of `score`.

After a wanted change: `python -m tests.cli.regenerate`, then read the diff.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.cli.conftest import environment, values, write_csv

GOLDEN = Path(__file__).parent / "golden" / "score.txt"


def score_output(folder: Path) -> str:
    """What `score` prints for 40 clips: stdout, with the version taken out of the signature."""
    names = [f"{i:05}" for i in range(40)]
    labels = values(names, seed=4)
    noise = values(names, seed=5, low=-0.4, high=0.4)
    predicted = {n: [round(a + b, 3) for a, b in zip(labels[n], noise[n], strict=True)] for n in names}
    write_csv(folder / "labels.csv", labels)
    write_csv(folder / "preds.csv", predicted)
    done = subprocess.run(
        [sys.executable, "-m", "abaw_emi", "score", "preds.csv", "labels.csv"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace(f"abaw_emi:{version('abaw-emi')}", "abaw_emi:VERSION")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(score_output(Path(temporary)), encoding="utf-8")
