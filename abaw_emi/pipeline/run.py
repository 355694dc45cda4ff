"""Audit, prepare, train, ensemble, score, submit, report: each step calls what its own command calls.

A step whose result is there is not repeated, because each of these commands continues where it stopped: the
same command, typed again, goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import polars as pl

from abaw_emi.audit.record import AUDIT, find_audit, write_audit
from abaw_emi.audit.run import audit_folder
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import EmiError, Problem, RunError, SubmissionError, collect_errors
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.provenance import read_prediction_file
from abaw_emi.ensembling.combine import write_ensemble
from abaw_emi.ensembling.fit import Recipe, find_recipe
from abaw_emi.evaluation.score import Score, score
from abaw_emi.inference.members import predict_runs
from abaw_emi.models.device import Runtime
from abaw_emi.pipeline.begun import check_begun
from abaw_emi.pipeline.models import check_models
from abaw_emi.pipeline.plan import PipelinePlan
from abaw_emi.pipeline.prepare import check_covered, prepare_data
from abaw_emi.report.page import write_report
from abaw_emi.report.sources import ReportSources
from abaw_emi.runs.lock import find_holder
from abaw_emi.runs.run import Run
from abaw_emi.submission.ledger import LEDGER, read_ledger
from abaw_emi.submission.validation_score import find_validation
from abaw_emi.submission.write import write_submission
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train, try_out

REPORT = Path("report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineResult:
    """What came of it.

    Attributes:
        members: the predictions that were combined, by split, in the order of presets and seeds.
        score: of the ensemble on valid, out of fold; of the runs on train.
        recipe: how the members were combined.
        submission: the archive; None without test clips.
        report: the page.
    """

    members: Mapping[Split, Sequence[pl.DataFrame]]
    score: Score
    recipe: Recipe
    submission: Path | None
    report: Path


def estimate(plan: PipelinePlan, data: DataFolder, reporter: Reporter, clips: int = 64) -> dict[str, float]:
    """Seconds that the training of each preset would take here, measured on an epoch of a few clips."""
    return {
        preset: try_out(replace(plan.training(preset), limit=clips), data, reporter)["run"]
        for preset in plan.configs
    }


def run_pipeline(plan: PipelinePlan, data: DataFolder, reporter: Reporter) -> PipelineResult:
    """Carries the plan out.

    Raises:
        EmiError: whatever prevents a step; before the first one, where a pretrained model is missing, or a
            run is there that was begun with other options; before training, where no test clip has what a
            preset reads.
        SubmissionError: the submission is refused; the report is written all the same.
        Interrupted: a signal asked for a stop; typed again, the command goes on.
    """
    check_begun(plan, data)
    check_models(plan.unfinished, plan.preparations)
    _audit(plan, data, reporter)
    reporter.say("prepare: what the presets read")
    prepare_data(
        plan.preparations,
        data,
        reporter,
        device=plan.device,
        precision=plan.precision,
        on_bad=plan.on_bad_clip,
    )
    data = DataFolder(data.root, data.features)  # with what was made
    if _has_test(data):
        check_covered(plan.configs, data, "test")
    runs, full_runs = _train(plan, data, reporter)
    reporter.say("ensemble: the runs on train, on valid, out of fold")
    recipe, labels = Recipe(), data.label_file("valid")
    if len(runs) > 1:
        files = {str(run.folder): run.valid_predictions for run in runs}
        recipe = find_recipe(labels, files)
        reporter.warn(recipe.warnings)
    members: dict[Split, Sequence[pl.DataFrame]] = {}
    valid, members["valid"] = _ensemble(plan, runs, data, "valid", recipe, reporter)
    found = score(labels, valid, names=(str(labels), str(valid)))
    reporter.warn(found.problems)
    reporter.say(f"score: mean Pearson {found.mean_pearson:.4f} on {found.n:,} clips of valid")
    submission, refused = None, list[Problem]()
    if _has_test(data):
        reporter.say(f"ensemble: {'the runs on train+val' if full_runs else 'the same runs'}, on test")
        # Weights were fitted to other runs than those on train+val, which have seen valid.
        fitted = Recipe() if full_runs else recipe
        test, members["test"] = _ensemble(plan, full_runs or runs, data, "test", fitted, reporter)
        with collect_errors(refused):
            submission = _submit(plan, test, data, reporter)
    page = plan.out / REPORT
    write_report(list_sources(plan.out, data), page, track=reporter.track)
    if refused:
        reporter.say(f"report: {page}, without a submission")
        raise SubmissionError(refused)
    return PipelineResult(members=members, score=found, recipe=recipe, submission=submission, report=page)


def _has_test(data: DataFolder) -> bool:
    labelled = {*data.ids("train"), *data.ids("valid")}
    return data.label_file("test").is_file() or not labelled.issuperset(data.files)


def list_sources(out: Path, data: DataFolder) -> ReportSources:
    """What the report of a pipeline in the folder `out` shows."""
    submissions = out / "submissions"
    return ReportSources(
        data=data.root,
        runs=[out / "runs"],
        predictions=sorted((out / "predictions").glob("ensemble-*.csv")),
        submissions=submissions if (submissions / LEDGER).is_file() else None,
        audits=out,
    )


def _train(plan: PipelinePlan, data: DataFolder, reporter: Reporter) -> tuple[list[Run], list[Run]]:
    """The runs on train, and those on train+val where they are asked for, by preset and seed.

    Raises:
        RunError: names the runs that other processes still hold, once all that are free are trained.
    """
    runs: dict[str, list[Run]] = {}
    for preset in plan.configs:
        reporter.say(f"train --preset {preset} --seeds {' '.join(map(str, plan.seeds))}")
        runs[preset] = _train_all(plan.training(preset), data, reporter)
    _check_finished(runs)
    full_runs: dict[str, list[Run]] = {}
    for preset in plan.configs if plan.train_plus_val else ():
        reference = runs[preset][0]
        reporter.say(f"train --preset {preset} --train-plus-val --epochs-from {reference.folder}")
        full_runs[preset] = _train_all(plan.full_training(preset, reference), data, reporter)
    _check_finished(full_runs)
    return list(chain(*runs.values())), list(chain(*full_runs.values()))


def _train_all(plan: Plan, data: DataFolder, reporter: Reporter) -> list[Run]:
    """All runs of a plan: finished, but for those that other processes hold."""
    train(plan, data, reporter)
    return [plan.run_of(seed) for seed in plan.seeds]


def _check_finished(runs: Mapping[str, Sequence[Run]]) -> None:
    """Passes where all runs are finished: an ensemble of some of them is not what was asked for.

    Raises:
        RunError: names those that are not, and the processes that hold them.
    """
    holders = {run: find_holder(run) for run in chain(*runs.values()) if not run.finished}
    if holders:
        step = "type the same command again when it is done"
        raise RunError(
            Problem(str(run.folder), f"in use by {holder}" if holder else "not finished", next_step=step)
            for run, holder in holders.items()
        )


def _audit(plan: PipelinePlan, data: DataFolder, reporter: Reporter) -> None:
    audit, _ = find_audit(data, plan.out)
    if audit is None:
        reporter.say("audit: the data folder")
        audit = audit_folder(data, track=reporter.track)
        write_audit(audit, plan.out / AUDIT)
    reporter.say(f"audit: {audit.describe_counts()}; abaw-emi audit --data {data.root} shows them")


def _ensemble(
    plan: PipelinePlan,
    runs: Sequence[Run],
    data: DataFolder,
    split: Split,
    recipe: Recipe,
    reporter: Reporter,
) -> tuple[Path, Sequence[pl.DataFrame]]:
    """The file of the combined predictions, and each run's own."""
    runtime = Runtime.for_prediction(plan.device, plan.precision, reporter)
    members = predict_runs(runs, data, split, runtime, on_bad=plan.on_bad_clip)
    path = plan.out / "predictions" / f"ensemble-{split}.csv"
    write_ensemble(
        members,
        path,
        split=split,
        command="abaw-emi pipeline",
        recipe=recipe,
        missing="others",
        out_of_fold=recipe.fitted and split == "valid",
    )
    return path, [member.table for member in members.members]


def _submit(plan: PipelinePlan, path: Path, data: DataFolder, reporter: Reporter) -> Path:
    """The archive of the submission; the one that holds these predictions already, if there is one."""
    folder = plan.out / "submissions"
    digest = hash_file(path)
    for entry in read_ledger(folder).entries:
        if entry.record.get("source", {}).get("sha256") == digest:
            archive = folder / entry.name / plan.profile.name_zip(entry.name)
            if archive.is_file():
                reporter.say(f"submit: {archive} holds these predictions already")
                return archive
    file, problems = read_prediction_file(path)
    if problems:
        raise EmiError(problems)
    known = find_validation(file.record, None, plan.out / "runs", data, plan.profile.range)
    reporter.warn([*file.warnings, *known.warnings])
    submission = write_submission(
        file.table,
        data.ids("test"),
        folder,
        name=plan.name,
        harmed=known.harmed,
        fill=data.read_labels("train") if plan.fill else None,
        source={"file": path.name, "sha256": file.sha256},
        provenance=file.record,
        where=str(path),
        profile=plan.profile,
        val=known.score,
    )
    reporter.warn(submission.warnings)
    for line in submission.describe_changes():
        reporter.say(f"submit: {line}")
    reporter.say(f"submit: {submission.archive}, written, read back and checked")
    return submission.archive
