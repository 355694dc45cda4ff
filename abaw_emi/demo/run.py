"""The demo, end to end: make a corpus, audit, train, ensemble, score, submit, check, report.

Each step calls what the command of the same name calls, and says that command, so that a reader can
repeat any of them by hand.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from abaw_emi.audio.cache import ClipCache
from abaw_emi.audit.record import AUDIT, write_audit
from abaw_emi.audit.run import audit_folder
from abaw_emi.config.presets import find_preset
from abaw_emi.core.constants import EMOTIONS, FILENAME, SPLITS, Split
from abaw_emi.core.errors import SEVERITIES, SubmissionError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.provenance import read_provenance
from abaw_emi.data.tables import read_labels, read_predictions
from abaw_emi.demo.baseline import fit_ridge, log_mel_statistics
from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.encoders import write_encoders
from abaw_emi.demo.folder import REPORT, prepare_folder
from abaw_emi.ensembling.combine import write_ensemble
from abaw_emi.evaluation.score import Score, score
from abaw_emi.inference.members import predict_runs
from abaw_emi.models.device import Runtime
from abaw_emi.report.page import write_report
from abaw_emi.report.sources import Sources
from abaw_emi.runs.run import Run
from abaw_emi.submission.check import check_path
from abaw_emi.submission.ledger import amend
from abaw_emi.submission.validation_score import find_validation_score
from abaw_emi.submission.write import Submission, write_submission
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train

SEEDS = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo found: scores by system and split, and the submission.

    Attributes:
        scores: "ridge", "seed 1" to "seed 3" and "ensemble", each on "valid" and "test".
    """

    scores: dict[str, dict[Split, Score]]
    submission: Submission
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

    reporter.say("1. a corpus in the official layout: synthetic speech, six intensities, no common speaker")
    with reporter.bar("making clips", 1) as bar:
        write_corpus(out, seed=seed, progress=lambda done, total: bar.set(done, total))
    write_encoders(out / "encoders")
    counts = [f"{len(data.ids(split)):,} {split}" for split in SPLITS]
    reporter.say(f"   {data.root}: {', '.join(counts)} clips")

    reporter.say(f"2. abaw-emi audit --data {data.root}")
    audit = audit_folder(data, track=reporter.track)
    write_audit(audit, out / AUDIT)
    reporter.say(f"   {', '.join(f'{audit.count(severity)} {severity}s' for severity in SEVERITIES)}")

    seeds = " ".join(map(str, SEEDS))
    reporter.say(f"3. abaw-emi train --preset tiny --seeds {seeds} --data {data.root} --runs {out / 'runs'}")
    plan = Plan(config=find_preset("tiny"), preset="tiny", seeds=SEEDS, out=out / "runs", device="cpu")
    runs = train(plan, data, reporter)

    names = " ".join(str(run.folder) for run in runs)
    tables: dict[Split, dict[str, pl.DataFrame]] = {}
    for number, split in enumerate(SPLITS[1:], start=4):
        reporter.say(f"{number}. abaw-emi ensemble --ckpts {names} --split {split} --data {data.root}")
        tables[split] = _ensemble(runs, data, split, out / "predictions", reporter)
    reporter.say("6. a ridge on log-mel statistics, for comparison")
    for split, table in _ridge(data).items():
        tables[split]["ridge"] = table

    reporter.say("7. abaw-emi score: against valid and, since here it is known, against the test truth")
    truth: dict[Split, pl.DataFrame] = {
        "valid": data.read_labels("valid"),
        "test": read_labels(out / "truth" / "test_labels.csv"),
    }
    systems = ("ridge", *(f"seed {seed}" for seed in SEEDS), "ensemble")
    scores = {
        system: {split: score(truth[split], tables[split][system]) for split in truth} for system in systems
    }
    reporter.say(
        f"8. abaw-emi submit --submissions {out / 'submissions'}; abaw-emi check; abaw-emi ledger set"
    )
    submission = _submit(out, data, scores["ensemble"]["test"].clipped_mean_pearson)
    reporter.say(f"9. abaw-emi report --data {data.root} --out {out / REPORT}")
    write_report(
        Sources(
            data=data.root,
            runs=[out / "runs"],
            predictions=sorted((out / "predictions").glob("*.csv")),
            submissions=out / "submissions",
            audits=out,
        ),
        out / REPORT,
        title="A demo on synthetic speech",
        track=reporter.track,
    )
    return DemoResult(scores=scores, submission=submission, seconds=time.monotonic() - start)


def _ensemble(
    runs: Sequence[Run], data: DataFolder, split: Split, out: Path, reporter: Reporter
) -> dict[str, pl.DataFrame]:
    """Each seed's predictions and their mean, which is also written to `ensemble-<split>.csv`."""
    predicted = predict_runs(runs, data, split, Runtime.for_prediction("cpu", "fp32", reporter))
    path = out / f"ensemble-{split}.csv"
    write_ensemble(predicted, path, split=split, command="abaw-emi demo")
    singles = {f"seed {seed}": member.table for seed, member in zip(SEEDS, predicted.members, strict=True)}
    return {**singles, "ensemble": read_predictions(path)}


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


def _submit(out: Path, data: DataFolder, test_score: float) -> Submission:
    """Packs and checks the ensemble's predictions of test, and enters their score on the test truth."""
    path, submissions = out / "predictions" / "ensemble-test.csv", out / "submissions"
    record, _ = read_provenance(path)
    val, _ = find_validation_score(record, None, out / "runs", data)
    submission = write_submission(
        read_predictions(path),
        data.ids("test"),
        submissions,
        name="demo",
        source={"file": path.name},
        provenance=record,
        val=val,
    )
    finding = check_path(submission.archive, data.ids("test"))
    if finding.problems:
        raise SubmissionError(finding.problems)
    amend(submissions, submission.folder.name, test_score=test_score)
    return submission
