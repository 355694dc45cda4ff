"""How sure is it that the demo's ensemble beats the ridge, and that modalities together beat each alone?

    python benchmarks/demo_task.py 11 12 13 14
    python benchmarks/demo_task.py --modalities 1 2 3 4 11 12 13 14

Prints, for each corpus seed: the demo, in mean Pearson on the test speakers, which nothing was tuned or
selected on; with --modalities, ridges on pooled features, trained on train and scored on valid.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw_emi.audio.clips import read_clips
from abaw_emi.core.constants import EMOTIONS, Split
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.demo.baseline import fit_ridge, log_mel_statistics
from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.run import SEEDS, run_demo
from abaw_emi.evaluation.score import mean_pearson
from abaw_emi.features.files import find_features, read_array

FOLDERS = ("wav2vec2", "vit", "gte")

Features = dict[str, NDArray[np.float64]]  # (N, D) by modality, NaN where a clip lacks it


def measure_demo(corpus_seeds: list[int]) -> None:
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


def measure_modalities(corpus_seeds: list[int], resamples: int = 1_000) -> None:
    print(
        "| corpus seed | sound | wav2vec2 | vit | gte | sound+vit | sound+gte | vit+gte | all three | gain |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for corpus_seed in corpus_seeds:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder), seed=corpus_seed, test=0, sound_features=True)
            data = DataFolder(Path(folder) / "data")
            train, valid = (pool(data, Path(folder) / "features", split) for split in ("train", "valid"))
            truths = {
                split: data.read_labels(split).select(EMOTIONS).to_numpy() for split in ("train", "valid")
            }
        predictions = {
            "+".join(names): predict(names, train, truths["train"], valid)
            for names in (
                ("sound",), ("wav2vec2",), ("vit",), ("gte",),
                ("sound", "vit"), ("sound", "gte"), ("vit", "gte"), ("sound", "vit", "gte"),
            )
        }  # fmt: skip
        truth = truths["valid"]
        scores = {name: mean_pearson(truth, prediction) for name, prediction in predictions.items()}
        fused = predictions["sound+vit+gte"]
        best = max(("sound", "vit", "gte"), key=lambda name: scores[name])
        rows = np.random.default_rng(0).integers(len(truth), size=(resamples, len(truth)))
        gains = [
            mean_pearson(truth[r], fused[r]) - mean_pearson(truth[r], predictions[best][r]) for r in rows
        ]
        low, high = np.quantile(gains, (0.025, 0.975))
        cells = " | ".join(f"{score:.3f}" for score in scores.values())
        gain = scores["sound+vit+gte"] - scores[best]
        print(f"| {corpus_seed} | {cells} | {gain:+.3f} [{low:.3f}, {high:.3f}] |", flush=True)


def pool(data: DataFolder, features_folder: Path, split: Split) -> Features:
    """The pooled features of a split's clips: log-mel statistics, and the mean frame of each folder."""
    ids = data.ids(split)
    clips = read_clips(ids, data.files).clips
    features = {"sound": np.stack([log_mel_statistics(clip.waveform) for clip in clips])}
    for name in FOLDERS:
        files = find_features(data.root, features_folder, name)
        rows = {
            filename: read_array(files[filename]).mean(0, np.float64) for filename in ids if filename in files
        }
        nothing = np.full_like(next(iter(rows.values())), np.nan)
        features[name] = np.stack([rows.get(filename, nothing) for filename in ids])
    return features


def predict(
    names: tuple[str, ...], train: Features, intensities: NDArray[np.float64], valid: Features
) -> NDArray[np.float64]:
    """A ridge's predictions for valid on modalities side by side; means of train for what is missing."""
    features = np.concatenate([train[name] for name in names], axis=1)
    means = np.nanmean(features, axis=0)
    ridge = fit_ridge(np.where(np.isnan(features), means, features), intensities)
    features = np.concatenate([valid[name] for name in names], axis=1)
    return ridge.predict(np.where(np.isnan(features), means, features))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus_seeds", type=int, nargs="+")
    parser.add_argument("--modalities", action="store_true")
    arguments = parser.parse_args()
    (measure_modalities if arguments.modalities else measure_demo)(arguments.corpus_seeds)
