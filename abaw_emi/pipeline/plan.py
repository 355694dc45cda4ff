"""What `pipeline` is asked for, and the runs that it makes of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import Fill, OnBadClip, Precision
from abaw_emi.core.errors import Problem, UsageError, collect_errors
from abaw_emi.pipeline.prepare import Preparation
from abaw_emi.runs.run import Run
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat
from abaw_emi.training.plan import Plan


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
        fill: what stands in for test clips without a prediction; None for nothing, which refuses them.
    """

    configs: Mapping[str, RunConfig]
    seeds: Sequence[int]
    train_plus_val: bool = False
    preparations: Sequence[Preparation] = ()
    out: Path = Path()
    profile: SubmissionFormat = DEFAULT_PROFILE
    name: str = ""
    fill: Fill | None = None
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
