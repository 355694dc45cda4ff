"""How sure is it that the demo's ensemble beats the ridge? The demo on other corpus seeds.

    python benchmarks/demo_task.py 11 12 13 14

Prints mean Pearson on the test speakers, which nothing was tuned or selected on.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from abaw_emi.demo.whole_way import SEEDS, run_demo
from abaw_emi.progress import Reporter


def main(corpus_seeds: list[int]) -> None:
    print("| corpus seed | ridge | single seeds | mean of seeds | ensemble | seconds |")
    print("|---|---|---|---|---|---|")
    for corpus_seed in corpus_seeds:
        with tempfile.TemporaryDirectory() as folder:
            result = run_demo(Path(folder) / "demo", Reporter(quiet=True), seed=corpus_seed)
        test = {system: by_split["test"].mean_pearson for system, by_split in result.scores.items()}
        singles = " ".join(f"{test[f'seed {seed}']:.3f}" for seed in SEEDS)
        print(
            f"| {corpus_seed} | {test['ridge']:.3f} | {singles} | {result.mean_of_seeds('test'):.3f} "
            f"| {test['ensemble']:.3f} | {result.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
