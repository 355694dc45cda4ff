"""Audit, prepare, train, ensemble, score, submit, report: each step calls what its own command calls.

A step whose result is there is not repeated, because each of these commands continues where it stopped: the
same command, typed again, goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from abaw_emi.audit.record import AUDIT, find_audit, write_audit
from abaw_emi.audit.run import audit_folder
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import OnBadClip, Precision, Split
from abaw_emi.core.errors import EmiError, Problem, UsageError, collect_errors
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
from abaw_emi.pipeline.prepare import Preparation, prepare
from abaw_emi.report.page import write_report
from abaw_emi.report.sources import Sources
from abaw_emi.runs.run import Run
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat
from abaw_emi.submission.ledger import read_ledger
from abaw_emi.submission.validation_score import find_validation
from abaw_emi.submission.write import write_submission
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train, try_out

REPORT = Path("report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePlan:
    """What the pipeline is asked for.

    Attributes:
        configs: of each preset, by its name.
        seeds: one run of each preset for each.
        train_plus_val: whether runs on train+val follow, as long as the best epoch of those on train, and are
            what is submitted.
        preparations: what is made before training (`prepare.plan_preparation`).
        out: the folder of runs/, predictions/, submissions/, audit.json and report.html.
        profile: the form of the submission.
        name: of the submission; "" for one that is made up.
    """

    configs: Mapping[str, RunConfig]
    seeds: Sequence[int]
    train_plus_val: bool = False
    preparations: Sequence[Preparation] = ()
    out: Path = Path()
    profile: SubmissionFormat = DEFAULT_PROFILE
    name: str = ""
    device: str = "auto"
    precision: Precision = "auto"
    on_bad_clip: OnBadClip = "error"

    def __post_init__(self) -> None:
        if self.train_plus_val:
            problems: list[Problem] = []
            for preset in self.configs:  # hours before they are trained
                with collect_errors(problems):
                    replace(self.training(preset), train_plus_val=True)
            if problems:
                raise UsageError(problems)

    @property
    def unfinished(self) -> list[RunConfig]:
        """The configs of presets that have runs on train to be made or continued."""
        plans = map(self.training, self.configs)
        return [plan.config for plan in plans if not all(plan.run_of(seed).finished for seed in plan.seeds)]

    def training(self, preset: str) -> Plan:
        """The runs of a preset on train."""
        return Plan(
            config=self.configs[preset],
            preset=preset,
            seeds=list(self.seeds),
            out=self.out / "runs",
            if_there="resume",
            on_bad_clip=self.on_bad_clip,
            device=self.device,
            precision=self.precision,
        )

    def full_training(self, preset: str, reference: Run) -> Plan:
        """The runs of a preset on train+val, as long as a run on train was best."""
        plan = self.training(preset)
        settings = replace(
            plan.config.training,
            epochs=reference.best_epoch,
            schedule_epochs=plan.config.training.cosine_epochs,
        )
        return replace(
            plan,
            config=replace(plan.config, training=settings),
            train_plus_val=True,
            epochs_from=str(reference.folder),
        )


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
            run is there that was begun with other options.
        Interrupted: a signal asked for a stop; typed again, the command goes on.
    """
    check_begun(plan, data)
    check_models(plan.unfinished, plan.preparations)
    _audit(plan, data, reporter)
    reporter.say("prepare: what the presets read")
    prepare(
        plan.preparations,
        data,
        reporter,
        device=plan.device,
        precision=plan.precision,
        on_bad=plan.on_bad_clip,
    )
    data = DataFolder(data.root, data.features)  # with what was made
    runs, full_runs = [], []
    for preset in plan.configs:
        reporter.say(f"train --preset {preset} --seeds {' '.join(map(str, plan.seeds))}")
        runs += train(plan.training(preset), data, reporter)
    if plan.train_plus_val:
        for place, preset in enumerate(plan.configs):
            reference = runs[place * len(plan.seeds)]
            reporter.say(f"train --preset {preset} --train-plus-val --epochs-from {reference.folder}")
            full_runs += train(plan.full_training(preset, reference), data, reporter)
    reporter.say("ensemble: the runs on train, on valid, out of fold")
    recipe = Recipe()
    if len(runs) > 1:
        files = {str(run.folder): run.valid_predictions for run in runs}
        recipe = find_recipe(data.label_file("valid"), files)
        reporter.warn(recipe.warnings)
    members: dict[Split, Sequence[pl.DataFrame]] = {}
    valid, members["valid"] = _ensemble(plan, runs, data, "valid", recipe, reporter)
    found = score(data.label_file("valid"), valid)
    reporter.say(f"score: mean Pearson {found.mean_pearson:.4f} on valid")
    submission = None
    if data.label_file("test").is_file() or set(data.files) - set(data.ids("train")) - set(data.ids("valid")):
        reporter.say(f"ensemble: {'the runs on train+val' if full_runs else 'the same runs'}, on test")
        # Weights were fitted to other runs than those on train+val, which have seen valid.
        fitted = Recipe() if full_runs else recipe
        test, members["test"] = _ensemble(plan, full_runs or runs, data, "test", fitted, reporter)
        submission = _submit(plan, test, data, reporter)
    page = plan.out / REPORT
    write_report(list_sources(plan.out, data), page, track=reporter.track)
    return PipelineResult(members=members, score=found, recipe=recipe, submission=submission, report=page)


def list_sources(out: Path, data: DataFolder) -> Sources:
    """What the report of a pipeline in the folder `out` shows."""
    return Sources(
        data=data.root,
        runs=[out / "runs"],
        predictions=sorted((out / "predictions").glob("ensemble-*.csv")),
        submissions=out / "submissions",
        audits=out,
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
