"""The demo: a corpus is made, `pipeline` does the rest, and what it made is scored against the test truth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from abaw_emi.audio.cache import ClipCache
from abaw_emi.config.presets import find_preset
from abaw_emi.core.constants import EMOTIONS, FILENAME, SPLITS, Split
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.tables import read_labels, read_predictions
from abaw_emi.demo.baseline import fit_ridge, log_mel_statistics
from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.encoders import write_encoders
from abaw_emi.demo.folder import prepare_folder
from abaw_emi.evaluation.score import Score, mean_pearson, score
from abaw_emi.pipeline.plan import PipelinePlan
from abaw_emi.pipeline.run import list_sources, run_pipeline
from abaw_emi.report.page import write_report
from abaw_emi.submission.ledger import amend

SEEDS = (1, 2, 3)

NAME = "demo"
"""Of the submission."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo found: scores by system and split, and the submission.

    Attributes:
        scores: "ridge", "seed 1" to "seed 3" and "ensemble", each on "valid" and "test".
        archive: the submission.
    """

    scores: dict[str, dict[Split, Score]]
    archive: Path
    seconds: float

    def mean_of_seeds(self, split: Split) -> float:
        """The mean of the single seeds' mean Pearson."""
        return float(np.mean([self.scores[f"seed {seed}"][split].mean_pearson for seed in SEEDS]))


def run_demo(out: Path, reporter: Reporter, *, seed: int = 1) -> DemoResult:
    """Runs the demo in the folder `out`, which is replaced if an earlier demo made it.

    Raises:
        RunError: `out` holds something that no demo made.
    """
    start = time.monotonic()
    # One thread: the same bytes on every machine, and no slower than two for a model this small.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(out, reporter, seed, start)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path, reporter: Reporter, seed: int, start: float) -> DemoResult:
    prepare_folder(out)
    data = DataFolder(out / "data")
    reporter.say("a corpus in the official layout: synthetic speech, six intensities, no common speaker")
    with reporter.bar("making clips", 1) as bar:
        write_corpus(out, seed=seed, progress=lambda done, total: bar.set(done, total))
    write_encoders(out / "encoders")
    counts = [f"{len(data.ids(split)):,} {split}" for split in SPLITS]
    reporter.say(f"{data.root}: {', '.join(counts)} clips")

    seeds = " ".join(map(str, SEEDS))
    reporter.say(f"abaw-emi pipeline --presets tiny --seeds {seeds} --data {data.root} --out {out}")
    plan = PipelinePlan(configs={"tiny": find_preset("tiny")}, seeds=SEEDS, out=out, name=NAME, device="cpu")
    made = run_pipeline(plan, data, reporter)
    assert made.submission is not None, "the corpus has test clips"

    reporter.say("a ridge on log-mel statistics, for comparison; scores on test, whose truth is known here")
    truth: dict[Split, pl.DataFrame] = {
        "valid": data.read_labels("valid"),
        "test": read_labels(out / "truth" / "test_labels.csv"),
    }
    tables: dict[Split, dict[str, pl.DataFrame]] = {}
    for split, ridge in _ridge(data).items():
        singles = {f"seed {seed}": table for seed, table in zip(SEEDS, made.members[split], strict=True)}
        ensemble = read_predictions(out / "predictions" / f"ensemble-{split}.csv")
        tables[split] = {"ridge": ridge, **singles, "ensemble": ensemble}
    systems = ("ridge", *(f"seed {seed}" for seed in SEEDS), "ensemble")
    scores = {
        system: {split: score(truth[split], tables[split][system]) for split in truth} for system in systems
    }
    sent = read_predictions(made.submission.parent / plan.profile.csv_name)
    amend(out / "submissions", NAME, test_score=mean_pearson(truth["test"], sent))
    write_report(
        list_sources(out, data), made.report, title="A demo on synthetic speech", track=reporter.track
    )
    return DemoResult(scores=scores, archive=made.submission, seconds=time.monotonic() - start)


def _ridge(data: DataFolder) -> dict[Split, pl.DataFrame]:
    """The ridge's predictions for valid and test, fitted on train alone."""
    labels = data.read_labels("train")
    cache = ClipCache()
    features: dict[Split, NDArray[np.float64]] = {}
    for split in SPLITS:
        clips = cache.read_clips(data.ids(split), data.files).clips
        features[split] = np.stack([log_mel_statistics(clip.waveform) for clip in clips])
    ridge = fit_ridge(features["train"], labels.select(EMOTIONS).to_numpy())
    tables: dict[Split, pl.DataFrame] = {}
    for split in SPLITS[1:]:
        values = ridge.predict(features[split])  # (N, 6)
        columns: dict[str, Any] = dict(zip(EMOTIONS, values.T, strict=True))
        tables[split] = pl.DataFrame({FILENAME: data.ids(split), **columns})
    return tables
