"""Every system of the tables on the demo corpus, with small random encoders.

Random encoders of 32 units know nothing of speech, and the corpus is synthetic: the figures say that every
system runs, and in what time, and nothing of Hume-Vidmimic2.

    python -m benchmarks.systems [--tables 1 2] [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from abaw_emi.demo.corpus import write_corpus
from tests.backbones import small_config, write_backbone

BACKBONES = {"audeering": "layer", "xlsr": "layer", "w2v2-large": "group"}

# What small models need to get anywhere on 400 clips; the presets' own rates are for 186 million weights.
SMALL = ("training.learning_rate=2e-3", "training.epochs=12", "training.batch_size=16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="*", default=["1", "2"])
    parser.add_argument("--seeds", nargs="*", default=["1"])
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ABAW_EMI_CACHE"] = str(folder / "cache")
        start = time.monotonic()
        write_corpus(folder, sound_features=True)
        print(f"corpus: {time.monotonic() - start:.0f} s", flush=True)
        backbones = [
            f"{short}={write_backbone(folder / short, small_config(norm), seed=number)}"
            for number, (short, norm) in enumerate(BACKBONES.items())
        ]
        places = ["--data", str(folder / "data"), "--features", str(folder / "features")]
        places += ["--on-bad-clip", "skip", "--seeds", *arguments.seeds, "--quiet"]
        for table in arguments.tables:
            start = time.monotonic()
            own = ["--backbone", *backbones, "--set", *SMALL, "--out", str(folder / "tables")]
            run("tables", "--table", table, *places, *own)
            print(f"table {table}: {(time.monotonic() - start) / 60:.1f} min", flush=True)


def run(*words: str) -> None:
    """Runs a command of abaw-emi and shows what it prints, but for its warnings."""
    command = [sys.executable, "-m", "abaw_emi", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    print(done.stdout, *said, sep="\n", flush=True)


if __name__ == "__main__":
    main()
