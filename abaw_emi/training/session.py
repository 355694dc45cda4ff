"""One run, from its start to a finished folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abaw_emi.core.errors import Problem, RunError
from abaw_emi.core.records import timestamp
from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.inference.frozen_encoder import name_top
from abaw_emi.inference.predict import describe_files, describe_run, load_run, predict
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.card import write_card
from abaw_emi.runs.preprocessor import write_preprocessor
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import install_best
from abaw_emi.training.data import TrainingData
from abaw_emi.training.initial_weights import InitialWeights
from abaw_emi.training.log import Times
from abaw_emi.training.plan import Plan
from abaw_emi.training.record import compare_origin, describe_origin
from abaw_emi.training.trainer import Training


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a plan, from its start to a finished folder."""

    plan: Plan
    seed: int
    run: Run
    start: InitialWeights
    data: TrainingData
    runtime: Runtime
    replaced: Sequence[Run] = ()
    """Runs that are removed: all that are overwritten go when the first can start, so that one that is
    resumed later is never an old one."""

    def train(self) -> Times:
        """Trains the run, or continues it, and finishes its folder."""
        config, world, reporter = self.plan.config_of(self.seed), self.runtime.world, self.runtime.reporter
        model = self.start.make_model(config, self.data.widths, reporter)
        reporter.say(_describe_model(model, self.start))
        if model.encoder is not None and model.parts.tuning.keep_lower:
            changed = "; ".join(model.encoder.changed) or "nothing is left out there"
            reporter.say(f"what lies below {name_top(model)} runs once for each clip: {changed}")
        training = Training(model, config.training, self.data, self.run, self.runtime, self.plan.save_minutes)
        record = world.run_first(self._open)
        if training.resume():
            reporter.say(f"going on after epoch {training.at.epoch}, step {training.at.step}")
        else:
            self.start.prepare(model, self.data.train, self.runtime)
        places = world.gather((training.at.epoch, training.at.step, self.data.fingerprint()))
        if len(set(places)) > 1:
            found = f"the processes read different runs or data: {places}"
            raise RunError(Problem(str(self.run.folder), found, "files that all processes share"))
        took = training.train()
        world.run_first(lambda: self._close(record, training))
        best = training.at.best
        scored = f", valid mean Pearson {best:.4f} (selected on it)" if best is not None else ""
        reporter.say(f"{self.run.folder}: done, epoch {training.at.best_epoch}{scored}")
        return took

    def _open(self) -> dict[str, Any]:
        """Makes the run folder, or checks that it is the one that was started; returns its record."""
        world, reporter = self.runtime.world, self.runtime.reporter
        origin = describe_origin(self.data, self.start, self.plan.config.model.revision, self.runtime)
        for run in self.replaced:
            run.remove()
        if before := self.run.read_provenance():
            if problems := compare_origin(self.run, before, origin, self.data):
                raise RunError(problems)
            if before.get("world_size", 1) != world.size:
                found = f"{world.size} processes now, {before.get('world_size', 1)} when it was started"
                reporter.warn([Problem(str(self.run.folder), f"{found}: not bitwise the same run")])
            return before
        record = {
            "preset": self.plan.preset,
            "seed": self.seed,
            "train_plus_val": self.plan.train_plus_val,
            "fold": self.plan.config.data.fold or None,
            "epochs_from": self.plan.epochs_from,
            "world_size": world.size,
            **origin,
        }
        self.run.drop_state()  # without a record, nothing says what it belongs to
        self.run.metrics_file.unlink(missing_ok=True)
        self.run.write_config(self.plan.config_of(self.seed))
        if self.start.tokenizer is not None:
            self.start.tokenizer.save_pretrained(self.run.folder)
        self.run.write_data(self.data.describe())
        self.run.write_provenance(record)
        return record

    def _close(self, record: dict[str, Any], training: Training) -> None:
        """Installs the best weights, predicts with them what was held out, and marks the run as done."""
        run, at = self.run, training.at
        install_best(run, at)
        record |= {
            "epochs": at.epoch,
            "best_epoch": at.best_epoch,
            "valid": {"mean_pearson": at.best, "pearson": at.pearson} if self.data.valid else None,
            **describe_files(run),
        }
        run.write_provenance(record)
        model = load_run(run, self.runtime.device)  # as whoever uses the run will; NaN and holes end here
        if model.encoder is not None:
            write_preprocessor(run, standardises=model.standardises)
        if self.data.valid:
            runtime = self.runtime
            table = predict(model, training.valid, runtime)
            provenance = Provenance(
                command="abaw-emi train",
                split=self.plan.held_out,
                members=[describe_run(run, runtime)],
                trained_on=run.trained_on or frozenset(),
                trained_on_complete=run.trained_on_complete,
                skipped=self.data.skipped,
                read_from_video=self.data.read_from_video,
            )
            write_with_provenance(table, run.valid_predictions, provenance)
        if found := write_card(run, self.data.labels if self.data.valid else None):
            record["valid"]["clipped_mean_pearson"] = found.clipped_mean_pearson
        run.write_provenance({**record, "finished": timestamp()})
        run.drop_state()


def _describe_model(model: EmiModel, start: InitialWeights) -> str:
    """The size of a model, and what its weights come from."""
    total = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    sources = [each.name for each in (start.backbone, start.text) if each is not None]
    sources += [str(run.folder) for run in start.runs]
    origin = f", from {', '.join(sources)}" if sources else ""
    share = "" if trained == total else f", {trained / 1e6:.2f} M of them trained"
    return f"{total / 1e6:.2f} M parameters{share}{origin}"
