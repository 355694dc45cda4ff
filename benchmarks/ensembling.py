"""Is the out-of-fold score of a fitted ensemble honest, and what does `--method auto` take?

    python benchmarks/ensembling.py [SPLITS]

For simulated splits (see `simulated`): each scheme's score where its weights were fitted, its score out of
fold, and its true score (its weights on 62,000 other clips). In the first world eight runs are equally good;
in the second, three are good and five are not.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np
from simulated import World

from abaw_emi.ensembling.crossfit import cross_fit
from abaw_emi.ensembling.schemes import SCHEMES, combine
from abaw_emi.evaluation.bootstrap import Resampling
from abaw_emi.evaluation.pearson import mean_pearson

WORLDS = {
    "eight equal runs": World(signal=(0.55,) * 8),
    "three good runs and five bad ones": World(signal=(0.55, 0.5, 0.5, 0.1, 0.1, 0.05, 0.05, 0.0)),
}


def main(splits: int) -> None:
    for name, world in WORLDS.items():
        start = time.perf_counter()
        truth_then, systems, _ = world.draw_all(np.random.default_rng(10**6), 2_000)
        later = np.stack(systems)
        rows: dict[str, list[tuple[float, float, float]]] = {}
        chosen: Counter[str] = Counter()
        for seed in range(splits):
            truth, systems, _ = world.draw_all(np.random.default_rng([5, seed]), 33)
            members = np.stack(systems)
            how = Resampling(resamples=0, permutations=400, seed=seed)
            found = cross_fit(truth, members, [str(m) for m in range(len(members))], how)
            chosen[found.chosen] += 1
            for scheme in SCHEMES:
                report = found.schemes[scheme]
                fitted = mean_pearson(truth, combine(members, scheme, report.weights))
                true = mean_pearson(truth_then, combine(later, scheme, report.weights))
                rows.setdefault(scheme, []).append((fitted, report.score.mean_pearson, true))
        print(f"{name}, {splits} splits of 1,023 clips; {time.perf_counter() - start:.0f} s")
        print("  scheme           where fitted  out of fold    true")
        for scheme, values in rows.items():
            fitted, out_of_fold, true = np.mean(values, axis=0)
            print(f"  {scheme:16s} {fitted:12.4f} {out_of_fold:12.4f} {true:7.4f}")
        print("  auto took " + ", ".join(f"{scheme} {count}x" for scheme, count in chosen.most_common()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
