"""Do sound, faces and words together beat the best of them alone, on fresh corpora of the demo?

For each corpus seed every system is trained with each model seed on the demo's corpus (400 clips of train, 80
of valid, on which each run's best epoch is chosen), and the mean of its runs predicts 240 clips of other
speakers, on which nothing is chosen; those that have a face and words are scored. "joint" is one model of all
three from scratch, "fused" one that starts from the branches of the runs of the same seed alone
(`training.init_branches`), which then learn at .05 of the rate of its heads, "apart" the mean of the three
predictions. Gain, interval and p (by `compare`, speakers resampled and
swapped whole; then by Holm over all pairs) are against the best of sound, faces and words alone. The
presets' networks are too wide for 400 clips: `SYSTEMS` says what is changed.

    python -m benchmarks.modalities [--corpora 31 32 33 34] [--seeds 1 2 3] [--joint joint fused]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.plan import plan_corpus
from abaw_emi.evaluation.compare import compare
from abaw_emi.evaluation.significance import MEAN
from benchmarks.real import run
from benchmarks.systems import SMALL

CLIPS = 240
IDS = {FILENAME: pl.String}

_FACES = ("model.features.0.hidden_size=48", "model.features.0.layers=1")
_WORDS = ("model.features.0.name=gte", "model.features.0.pooling=mean", "model.features.0.temporal=[]")

ALONE = {"sound": ("tiny", ()), "faces": ("vision", _FACES), "words": ("vision", _WORDS)}
JOINT = (
    "text-vision-audio",
    (
        *_FACES,
        "model.encoder=logmel",
        "model.vad_head=false",
        "model.global_vector=true",
        "model.features.1.pooling=mean",
        "model.fusion.head_size=64",
    ),
)
_SLOW = ("training.encoder_rate=0.05", "model.features.0.rate=0.05", "model.features.1.rate=0.05")
FUSED = (
    JOINT[0],
    (
        *JOINT[1],
        *("model.features.0.pooling=mean+last", "model.features.1.name=gte", *_SLOW),
        *("model.fusion.kind=mean", "model.fusion.head_size=0"),
    ),
)
JOINTS = {"joint": JOINT, "fused": FUSED}
SYSTEMS = {**ALONE, **JOINTS}
"""Name, preset, and what is changed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", nargs="*", type=int, default=[31, 32, 33, 34])
    parser.add_argument("--seeds", nargs="*", default=["1", "2", "3"])
    parser.add_argument("--joint", nargs="*", choices=JOINTS, default=list(JOINTS))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    alone, fused = "| ".join(f"{system} " for system in ALONE), "gain | p, Holm"
    columns = " | ".join(f"{system} | {fused}" for system in (*arguments.joint, "apart"))
    print(f"| corpus seed | clips | {alone}| {columns} | minutes |")
    print("|" + "---|" * (3 + len(ALONE) + 3 * (len(arguments.joint) + 1)), flush=True)
    for corpus in arguments.corpora:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            os.environ["ABAW_EMI_CACHE"] = str(Path(name) / "cache")
            cells = measure(Path(name), corpus, arguments.seeds, arguments.joint)
        minutes = (time.monotonic() - start) / 60
        print("|", " | ".join([str(corpus), *cells, f"{minutes:.1f}"]), "|", flush=True)


def measure(folder: Path, corpus: int, seeds: list[str], joints: list[str]) -> list[str]:
    """Trains all systems on a corpus; its cells of the table."""
    write_corpus(folder, seed=corpus, test=CLIPS)
    places = ["--data", str(folder / "data"), "--features", str(folder / "features")]
    ways = ["--on-bad-clip", "skip", "--quiet"]
    systems = {system: SYSTEMS[system] for system in (*ALONE, *joints)}
    for system, (preset, changes) in systems.items():
        own = ["--set", *SMALL, *changes] if changes else []
        out = folder / "runs" / system
        train = ["train", "--preset", preset, *places, *ways, "--runs", str(out)]
        if system == "fused":
            for seed in seeds:
                alone = [str(folder / "runs" / name / f"{ALONE[name][0]}-seed{seed}") for name in ALONE]
                run(*train, "--seeds", seed, *own, f"training.init_branches={json.dumps(alone)}")
        else:
            run(*train, "--seeds", *seeds, *own)
        members = [str(out / f"{preset}-seed{seed}") for seed in seeds]
        file = str(folder / f"{system}.csv")
        run("ensemble", "--ckpts", *members, *places, *ways, "--split", "test", "--out", file)
    tables = {system: pl.read_csv(folder / f"{system}.csv", schema_overrides=IDS) for system in systems}
    labels = pl.read_csv(folder / "truth" / "test_labels.csv", schema_overrides=IDS)
    for table in tables.values():  # clips that have all three
        labels = labels.join(table, on=FILENAME, how="semi")
    tables = {system: labels.select(FILENAME).join(table, on=FILENAME) for system, table in tables.items()}
    stack = np.stack([tables[system].select(EMOTIONS).to_numpy() for system in ALONE])
    mean = pl.DataFrame(stack.mean(0), schema=list(EMOTIONS))
    tables["apart"] = labels.select(FILENAME).hstack(mean)
    speakers = {
        clip.name: str(clip.speaker) for clip in plan_corpus(seed=corpus, train=400, valid=80, test=CLIPS)
    }
    groups = labels.select(FILENAME, speaker=pl.col(FILENAME).replace_strict(speakers))
    found = compare(labels, tables, groups=groups)
    scores = {system: found.scores[system].mean_pearson for system in tables}
    best = max(ALONE, key=lambda system: scores[system])
    cells = [str(len(labels)), *(f"{scores[system]:.3f}" for system in ALONE)]
    for system in (*joints, "apart"):
        (pair,) = [
            each.difference if each.difference.first == system else each.difference.turned()
            for each in found.pairs
            if {each.difference.first, each.difference.second} == {system, best}
        ]
        low, high = pair.interval[MEAN] or (0.0, 0.0)
        gain = f"{pair.difference[MEAN]:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells += [f"{scores[system]:.3f}", gain, f"{pair.p[MEAN]:.4f}, {pair.p_holm[MEAN]:.4f}"]
    return cells


if __name__ == "__main__":
    main()
