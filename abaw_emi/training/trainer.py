"""The training loop of one run: epochs, validation, early stopping, whole checkpoints.

What a step does is a pure function of the weights and of (seed, epoch, step, process), so a run that was
killed and continues from its last checkpoint ends as if it had not been: bitwise on a CPU, and on a GPU with
`training.deterministic`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import polars as pl

from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.batching.sampler import share_batch, sort_by_length
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.constants import FILENAME
from abaw_emi.core.errors import Problem
from abaw_emi.core.progress import Bar
from abaw_emi.core.signals import Interrupted, StopRequest, deferred_signals
from abaw_emi.evaluation.score import Score, score
from abaw_emi.inference.frozen_encoder import encode_examples, find_fixed_part
from abaw_emi.inference.predict import predict
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import Checkpoint, check_weights, read_checkpoint
from abaw_emi.training.data import TrainingData
from abaw_emi.training.log import MetricsLog, Times, format_epoch
from abaw_emi.training.optimisation.gradients import Place
from abaw_emi.training.optimisation.step import Outcome, TrainStep
from abaw_emi.training.plan import SAVE_MINUTES
from abaw_emi.training.saver import Saver

LOG_EVERY = 10
"""Steps between two lines in metrics.jsonl, and between two waits for a GPU."""


_FIRST_STEPS = 4
"""After which the length of a run is projected."""

_SHOWN_HOURS, _MANY_HOURS = 0.2, 12.0
"""A shorter run shows its length soon enough; a longer one on a CPU is warned of."""


class Training:
    """One run's weights and position; `train` continues from there.

    Args:
        model: with the weights to start from.
        config: how to train.
        data: what to train and validate on.
        run: the run folder.
        runtime: what to train with.
        save_minutes: between two saves inside an epoch.
    """

    def __init__(
        self,
        model: EmiModel,
        config: TrainingConfig,
        data: TrainingData,
        run: Run,
        runtime: Runtime,
        save_minutes: float = SAVE_MINUTES,
    ) -> None:
        self.model = model
        self.model.to(runtime.device)  # type: ignore[arg-type] # transformers wraps torch's signature wrongly
        self.config = config
        self.data = data
        self.run = run
        self.runtime = runtime
        self.reporter = runtime.reporter
        self.world = runtime.world
        self.save_seconds = 60 * save_minutes
        self.world.broadcast(model.state_dict().values())
        self.train_step = TrainStep(model, config, runtime)
        self.valid: Sequence[Example] = data.valid
        self.loader = Loader(
            examples=data.train,
            labels=data.intensities(config.clip_weights),
            model=model,
            config=config,
            rank=self.world.rank,
            size=self.world.size,
            pinned=runtime.device.type == "cuda",
        )
        self.log = MetricsLog(run.metrics_file, active=self.world.is_main)
        self.saver = Saver(run, model)
        self.at = Checkpoint()
        self.steps = len(self.loader.plan(0))
        self.saved_at = time.monotonic()

    def resume(self) -> bool:
        """Goes to the last whole checkpoint of the run; False if nothing was saved yet."""
        saved = read_checkpoint(self.run)
        if saved is None:
            self.log.cut(0, 0)  # lines of an attempt that saved nothing
            return False
        self.at, state, problems = saved
        self.saver.best_files = self.at.best_files
        self.reporter.warn(problems)
        self.train_step.load_state_dict(state)
        self.log.cut(self.at.epoch, self.at.step)
        return True

    def train(self) -> Times:
        """Trains to the last epoch, or until validation no longer gets better; returns what it took.

        Raises:
            TrainingError: an output is not a number; the clips are named.
            Interrupted: a signal asked for a stop; a whole checkpoint was saved first.
        """
        total = Times()
        if not self.config.augmentation.active:
            self._encode()
        encoder = self.model.encoder
        if self.config.compile and encoder is not None and encoder.is_large:
            encoder.compile_regions()
        efficiency = self.loader.padding_efficiency(self.at.epoch)
        self.reporter.say(
            f"{self.steps:,} step{'s' * (self.steps != 1)} an epoch; "
            f"{efficiency:.0%} of what is run is sound, not padding"
        )
        self.log.show(self.at.epoch * self.steps + self.at.step)
        with self.saver, deferred_signals() as stop:
            while self.at.epoch < self.config.epochs and not self._out_of_patience():
                took = Times()
                self._train_epoch(stop, took)
                loss = self.at.loss_sum / self.at.loss_clips
                self.at.loss_sum, self.at.loss_clips = 0.0, 0
                self.at.epoch += 1
                self.at.step = 0
                with self.train_step.averaged():
                    valid = self._validate(took)
                    self._keep(valid)
                if valid is not None:
                    self.train_step.note(valid.mean_pearson)
                self._report_epoch(loss, valid, took)
                self._save()
                total.training += took.training
                total.validation += took.validation
                if signum := self.world.most(stop.signum):
                    self._stop(signum, f"saved after epoch {self.at.epoch}")
        self.at.best_files = self.saver.best_files
        self.log.close()
        if self._out_of_patience() and self.at.epoch < self.config.epochs:
            self.reporter.say(
                f"stopped early: no better validation for {self.config.patience} epochs (training.patience)"
            )
        return total

    def _encode(self) -> None:
        """Runs what is fixed of the encoder once for all epochs, if the disk has room for what it makes."""
        fixed = find_fixed_part(self.model, training=True)
        if fixed is None:
            return
        examples = [*self.data.train, *self.data.valid]
        encoded = encode_examples(self.model, fixed, examples, self.runtime)
        if encoded is not None:
            count = len(self.data.train)
            self.loader, self.valid = replace(self.loader, examples=encoded[:count]), encoded[count:]

    def _train_epoch(self, stop: StopRequest, took: Times) -> None:
        """Trains what is left of the epoch, and notes what it took."""
        self.model.train()
        epoch = self.at.epoch
        plan = self.loader.plan(epoch)
        label = f"epoch {epoch + 1}/{self.config.epochs}"
        start, first, projected = time.monotonic(), self.at.step, self.at.epoch > 0
        outcomes: list[Outcome] = []
        with self.reporter.bar(label, len(plan), "steps", done=self.at.step) as bar:
            for step in self.loader.load(plan, epoch, self.at.step):
                number = self.at.step
                self.train_step.set_rate(epoch + number / len(plan))
                remake = partial(self.loader.make, plan[number], epoch, number)
                outcomes.append(self.train_step.run(step, Place(epoch, number), remake))
                took.clips += step.size
                self.at.step += 1
                took.training = time.monotonic() - start
                last = self.at.step == len(plan)
                signum = 0 if last else self.world.most(stop.signum)
                save = bool(signum) or time.monotonic() - self.saved_at >= self.save_seconds
                if self.runtime.device.type == "cpu" or last or save or self.at.step % LOG_EVERY == 0:
                    self._collect(outcomes, took, bar)
                    if not projected and self.at.step - first >= _FIRST_STEPS:
                        self._project(took.training / (self.at.step - first))
                        projected = True
                if save and not last:
                    self._save()
                if signum:
                    self._stop(signum, f"saved at {label}, step {self.at.step} of {len(plan)}")

    def _project(self, seconds: float) -> None:
        """Says how long the run will take at this many seconds a step; on a CPU that may be too long."""
        left = self.config.epochs * self.steps - self.at.epoch * self.steps - self.at.step
        hours = seconds * left / 3600
        if hours < _SHOWN_HOURS:
            return
        self.reporter.say(f"about {hours:.1f} h for {self.config.epochs} epochs, by the first steps")
        if self.runtime.device.type == "cpu" and hours > _MANY_HOURS:
            step = "use a GPU, --set model.freeze_encoder=true, or --preset tiny to try things out"
            self.reporter.warn([Problem(str(self.run.folder), f"{hours:.0f} h on a CPU", next_step=step)])

    def _collect(self, outcomes: list[Outcome], took: Times, bar: Bar) -> None:
        """Waits for the steps of `outcomes`, checks and counts them, and empties the list."""
        for outcome in outcomes:
            loss = outcome.check()
            self.at.loss_sum += loss * outcome.size
            self.at.loss_clips += outcome.size
        rate, learning_rate = took.clips_per_second, self.train_step.learning_rate
        bar.advance(len(outcomes), note=f"loss {loss:.4f}  lr {learning_rate:.1e}  {rate:,.0f} clips/s")
        if self.at.step % LOG_EVERY == 0:
            self.log.append(
                self.at.epoch * self.steps + self.at.step,
                epoch=self.at.epoch + 1,
                step=self.at.step,
                loss=loss,
                learning_rate=learning_rate,
                clips_per_second=rate,
            )
        outcomes.clear()

    def _validate(self, took: Times) -> Score | None:
        if not self.data.valid:
            return None
        start = time.monotonic()
        lengths = [example.samples for example in self.valid]
        ordered = sort_by_length(range(len(lengths)), lengths)
        share = share_batch(ordered, lengths, self.world.size)[self.world.rank]
        part = predict(
            self.model,
            [self.valid[index] for index in share],
            self.runtime,
            description="validating",
        )
        table = pl.concat(self.world.gather(part)).sort(FILENAME)
        took.validation = time.monotonic() - start
        truth = self.data.labels.join(table.select(FILENAME), on=FILENAME, how="semi", maintain_order="left")
        return score(truth, table, resamples=0)

    def _keep(self, valid: Score | None) -> None:
        """Keeps these weights where they are the run's: the best on valid; without validation the last."""
        if valid is None:
            kept = self.at.epoch == self.config.epochs
        else:
            kept = self.at.best is None or valid.mean_pearson > self.at.best
        if not kept:
            return
        check_weights(self.model)  # on every process: all of them end
        self.at.best_epoch = self.at.epoch
        if valid is not None:
            self.at.best, self.at.pearson = valid.mean_pearson, valid.pearson
        if self.world.is_main:
            self.saver.keep()

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(self.data.valid and patience and self.at.epoch - self.at.best_epoch >= patience)

    def _stop(self, signum: int, saved: str) -> NoReturn:
        self.saver.wait()
        stopped = Interrupted(signum, saved)
        if self.world.is_main:
            raise stopped
        raise SystemExit(stopped.exit_code)  # the first process says how to continue

    def _save(self) -> None:
        if self.world.is_main:
            self.saver.save(self.at, self.train_step.state_dict())
        self.saved_at = time.monotonic()

    def _report_epoch(self, loss: float, valid: Score | None, took: Times) -> None:
        line: dict[str, Any] = {
            "train_loss": loss,
            "learning_rate": self.train_step.learning_rate,
            "clips_per_second": took.clips_per_second,
            "padding_efficiency": self.loader.padding_efficiency(self.at.epoch - 1),
        }
        if valid is not None:
            line["valid"] = {"mean_pearson": valid.mean_pearson, "pearson": valid.pearson}
        self.log.append(self.at.epoch * self.steps, epoch=self.at.epoch, **line)
        seconds = took.training * len(self.data.train) / took.clips + took.validation
        left = timedelta(seconds=round((self.config.epochs - self.at.epoch) * seconds))
        text = format_epoch(self.at, self.config.epochs, loss, valid)
        self.reporter.say(f"{text}, {took.clips_per_second:,.0f} clips/s, about {left} left")
