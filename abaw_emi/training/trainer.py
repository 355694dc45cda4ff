"""The training loop of one run: epochs, validation, early stopping, whole checkpoints.

What a step does is a pure function of the weights and of (seed, epoch, step, process), so a run that was
killed and goes on from its last checkpoint ends as if it had not been: bitwise on a CPU, and on a GPU with
`training.deterministic`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import polars as pl
import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.data import TrainingData
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.batching.loader import Loader
from abaw_emi.batching.sampler import (
    share_batch,
    sort_by_length,
)
from abaw_emi.config.run import Precision, TrainingConfig
from abaw_emi.core.constants import FILENAME
from abaw_emi.core.progress import Bar, Reporter
from abaw_emi.core.signals import Interrupted, StopRequest, deferred_signals
from abaw_emi.evaluation.score import Score, score
from abaw_emi.inference.frozen_encoder import encode_clips
from abaw_emi.inference.predict import predict
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoder import Wav2Vec2Encoder
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import (
    Checkpoint,
    best_folder,
    read_checkpoint,
    save_model,
    write_checkpoint,
)
from abaw_emi.training.distributed import World
from abaw_emi.training.log import MetricsLog
from abaw_emi.training.optim import rate_factor
from abaw_emi.training.plan import SAVE_MINUTES
from abaw_emi.training.step import Outcome, Place, Stepper

LOG_EVERY = 10
"""Steps between two lines in metrics.jsonl, and between two looks at what a GPU has done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended, and what this process spent on it; its weights are those of `best_epoch` (from 1)."""

    epochs: int
    best_epoch: int
    training_seconds: float
    validation_seconds: float


@dataclass(slots=True)
class _Times:
    """Seconds spent, and the clips trained on in them."""

    training: float = 0.0
    validation: float = 0.0
    clips: int = 0


class Training:
    """One run's weights and position; `train` goes on from wherever that is."""

    def __init__(
        self,
        model: EmiModel,
        config: TrainingConfig,
        data: TrainingData,
        run: Run,
        *,
        device: torch.device,
        precision: Precision,
        reporter: Reporter,
        world: World | None = None,
        save_minutes: float = SAVE_MINUTES,
    ) -> None:
        self.model = model
        self.model.to(device)  # type: ignore[arg-type] # transformers wraps torch's signature wrongly
        self.config = config
        self.data = data
        self.run = run
        self.device = device
        self.precision = precision
        self.reporter = reporter
        self.save_seconds = 60 * save_minutes
        self.world = world or World()
        self.world.broadcast(model.state_dict().values())
        self.stepper = Stepper(
            model, config, world=self.world, device=device, precision=precision, reporter=reporter
        )
        self.valid: Sequence[Clip] | Sequence[EncodedClip] = data.valid
        self.loader = Loader(
            clips=data.train,
            labels=data.intensities(),
            model=model,
            config=config,
            world=self.world,
            pinned=device.type == "cuda",
        )
        self.log = MetricsLog(run.metrics_file)
        self.at = Checkpoint()
        self.steps = len(self.loader.plan(0))
        self.saved_at = time.monotonic()

    def resume(self) -> bool:
        """Goes to the last whole checkpoint of the run; False where nothing was saved yet."""
        saved = read_checkpoint(self.run)
        if saved is None:
            if self.world.leads:
                self.log.cut(0, 0)  # lines of an attempt that saved nothing
            return False
        self.at, state, problems = saved
        self.reporter.warn(problems)
        self.stepper.load_state_dict(state)
        if self.world.leads:
            self.log.cut(self.at.epoch, self.at.step)
        return True

    def train(self) -> Result:
        """Trains to the last epoch, or until validation no longer gets better.

        Raises:
            TrainingError: an output is not a number; the clips are named.
            Interrupted: a signal asked for a stop; a whole checkpoint was saved first.
        """
        total = _Times()
        frozen = self.model.encoder is not None and self.model.config.freeze_encoder
        if frozen and not self.config.augmentation.active:
            self._encode()
        if self.config.compile and isinstance(self.model.encoder, Wav2Vec2Encoder):
            self.model.encoder.compile_regions()
        efficiency = self.loader.padding_efficiency(self.at.epoch)
        self.reporter.say(
            f"{self.steps:,} steps an epoch; {efficiency:.0%} of what is run is sound, not padding"
        )
        if self.world.leads:
            self.log.show(self.at.epoch * self.steps + self.at.step)
        with deferred_signals() as stop:
            while self.at.epoch < self.config.epochs and not self._out_of_patience():
                took = _Times()
                self._train_epoch(stop, took)
                loss = self.at.loss_sum / self.at.loss_clips
                self.at.loss_sum, self.at.loss_clips = 0.0, 0
                self.at.epoch += 1
                self.at.step = 0
                with self.stepper.averaged():
                    valid = self._validate(took)
                    self._keep(valid)
                self._report_epoch(loss, valid, took)
                self._save()
                total.training += took.training
                total.validation += took.validation
                if signum := self._asked_to_stop(stop):
                    self._stop(signum, f"saved after epoch {self.at.epoch}")
        self.log.close()
        return Result(
            epochs=self.at.epoch,
            best_epoch=self.at.best_epoch,
            training_seconds=total.training,
            validation_seconds=total.validation,
        )

    def _encode(self) -> None:
        """Runs a frozen encoder once for all epochs, where the disk has room for its frames."""
        encoded = encode_clips(
            self.model,
            [clip for clip in (*self.data.train, *self.data.valid) if isinstance(clip, Clip)],
            device=self.device,
            precision=self.precision,
            reporter=self.reporter,
        )
        if encoded is not None:
            count = len(self.data.train)
            self.loader, self.valid = replace(self.loader, clips=encoded[:count]), encoded[count:]

    def _train_epoch(self, stop: StopRequest, took: _Times) -> None:
        """Trains what is left of the epoch, and notes what it took."""
        self.model.train()
        epoch = self.at.epoch
        plan = self.loader.plan(epoch)
        label = f"epoch {epoch + 1}/{self.config.epochs}"
        start = time.monotonic()
        outcomes: list[Outcome] = []
        with self.reporter.bar(label, len(plan), "steps", done=self.at.step) as bar:
            for step in self.loader.load(plan, epoch, self.at.step):
                number = self.at.step
                factor = rate_factor(
                    epoch + number / len(plan), warmup=self.config.warmup_epochs, epochs=self.config.epochs
                )
                self.stepper.set_rate(factor)
                remake = partial(self.loader.make, plan[number], epoch, number)
                outcomes.append(self.stepper.step(step, Place(epoch, number), remake))
                took.clips += step.size
                self.at.step += 1
                took.training = time.monotonic() - start
                last = self.at.step == len(plan)
                signum = 0 if last else self._asked_to_stop(stop)
                save = bool(signum) or time.monotonic() - self.saved_at >= self.save_seconds
                if self.device.type == "cpu" or last or save or self.at.step % LOG_EVERY == 0:
                    self._look_at(outcomes, took, bar)
                if save and not last:
                    self._save()
                if signum:
                    self._stop(signum, f"saved at {label}, step {self.at.step} of {len(plan)}")

    def _look_at(self, outcomes: list[Outcome], took: _Times, bar: Bar) -> None:
        """Waits for the steps of `outcomes`, checks and counts them, and forgets them."""
        for outcome in outcomes:
            loss = outcome.check()
            self.at.loss_sum += loss * outcome.size
            self.at.loss_clips += outcome.size
        rate = took.clips / took.training
        learning_rate = self.stepper.learning_rate
        bar.advance(len(outcomes), note=f"loss {loss:.4f}  lr {learning_rate:.1e}  {rate:,.0f} clips/s")
        if self.world.leads and self.at.step % LOG_EVERY == 0:
            self.log.append(
                self.at.epoch * self.steps + self.at.step,
                epoch=self.at.epoch + 1,
                step=self.at.step,
                loss=loss,
                learning_rate=learning_rate,
                clips_per_second=rate,
            )
        outcomes.clear()

    def _validate(self, took: _Times) -> Score | None:
        if not self.data.valid:
            return None
        start = time.monotonic()
        lengths = [clip.samples for clip in self.valid]
        share = share_batch(sort_by_length(range(len(lengths)), lengths), self.world.rank, self.world.size)
        part = predict(
            self.model,
            [self.valid[index] for index in share],
            device=self.device,
            precision=self.precision,
            reporter=self.reporter,
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
        self.at.best_epoch = self.at.epoch
        if valid is not None:
            self.at.best, self.at.pearson = valid.mean_pearson, valid.pearson
        if self.world.leads:
            save_model(self.model, best_folder(self.run, self.at.best_epoch))

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(self.data.valid and patience and self.at.epoch - self.at.best_epoch >= patience)

    def _asked_to_stop(self, stop: StopRequest) -> int:
        """The signal that asked for a stop, on whatever process; 0 for none."""
        return self.world.most(stop.signum)

    def _stop(self, signum: int, saved: str) -> NoReturn:
        stopped = Interrupted(signum, saved)
        if self.world.leads:
            raise stopped
        raise SystemExit(stopped.exit_code)  # the first process says how to go on

    def _save(self) -> None:
        if self.world.leads:
            write_checkpoint(self.run, self.at, self.stepper.state_dict())
        self.saved_at = time.monotonic()

    def _report_epoch(self, loss: float, valid: Score | None, took: _Times) -> None:
        if not self.world.leads:
            return
        rate = took.clips / took.training
        line: dict[str, Any] = {
            "train_loss": loss,
            "learning_rate": self.stepper.learning_rate,
            "clips_per_second": rate,
            "padding_efficiency": self.loader.padding_efficiency(self.at.epoch - 1),
        }
        text = f"epoch {self.at.epoch}/{self.config.epochs}: loss {loss:.4f}"
        if valid is not None:
            line["valid"] = {"mean_pearson": valid.mean_pearson, "pearson": valid.pearson}
            text += f", valid mean Pearson {valid.mean_pearson:.4f}"
            text += " (best)" if self.at.best_epoch == self.at.epoch else f" (best {self.at.best:.4f})"
            if valid.undefined:
                text += f", undefined for {', '.join(valid.undefined)}"
        self.log.append(self.at.epoch * self.steps, epoch=self.at.epoch, **line)
        seconds = took.training * len(self.data.train) / took.clips + took.validation
        left = timedelta(seconds=round((self.config.epochs - self.at.epoch) * seconds))
        self.reporter.say(f"{text}, {rate:,.0f} clips/s, about {left} left")
