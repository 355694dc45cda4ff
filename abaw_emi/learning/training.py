"""The training loop of one run: steps, validation, early stopping, whole checkpoints.

PAPER, section 4 and CODE (see `challenge.facts`): AdamW, cosine after a linear warm-up counted in steps,
mean squared error over the batch. Every step seeds its own randomness with (seed, epoch, step), so on a
CPU a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from abaw_emi.challenge.facts import FILENAME
from abaw_emi.challenge.scoring import Score, score
from abaw_emi.config import Precision, TrainingConfig
from abaw_emi.errors import Problem, TrainingError
from abaw_emi.interruption import Interrupted, StopRequest, deferred_signals
from abaw_emi.learning.batches import Batch, make_batch, plan_epoch
from abaw_emi.learning.checkpoints import (
    Checkpoint,
    best_folder,
    read_checkpoint,
    save_model,
    write_checkpoint,
)
from abaw_emi.learning.data import TrainingData
from abaw_emi.learning.devices import autocast
from abaw_emi.learning.metrics import append_metrics, cut_metrics
from abaw_emi.learning.model import EmiModel
from abaw_emi.learning.prediction import predict
from abaw_emi.learning.runs import Run
from abaw_emi.progress import Reporter

LOG_EVERY = 10
"""Steps between two lines in metrics.jsonl."""

_FP16_SCALE = 2.0**10  # CODE: the loss scaler's first scale


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
    """One run's model, optimiser and position; `train` goes on from wherever that is."""

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
    ) -> None:
        self.model = model
        self.model.to(device)  # type: ignore[arg-type] # transformers wraps torch's signature wrongly
        self.config = config
        self.data = data
        self.run = run
        self.device = device
        self.precision = precision
        self.reporter = reporter
        self.intensities = data.intensities()
        self.lengths = [clip.samples for clip in data.train]
        steps = len(self._plan(0))
        self.optimizer = torch.optim.AdamW(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.schedule = get_cosine_schedule_with_warmup(
            self.optimizer, round(config.warmup_epochs * steps), config.epochs * steps
        )
        self.scaler = torch.amp.GradScaler(device.type, init_scale=_FP16_SCALE, enabled=precision == "fp16")
        self.at = Checkpoint()

    def resume(self) -> bool:
        """Goes to the last whole checkpoint of the run; False where nothing was saved yet."""
        saved = read_checkpoint(self.run)
        if saved is None:
            return False
        self.at, states = saved
        self.model.load_state_dict(states["model"])
        self.optimizer.load_state_dict(states["optimizer"])
        self.schedule.load_state_dict(states["schedule"])
        self.scaler.load_state_dict(states["scaler"])
        cut_metrics(self.run.metrics_file, self.at.epoch, self.at.step)
        return True

    def train(self) -> Result:
        """Trains to the last epoch, or until validation no longer gets better.

        Raises:
            TrainingError: the loss is not a number; the clips are named.
            Interrupted: a signal asked for a stop; a whole checkpoint was saved first.
        """
        total = _Times()
        with deferred_signals() as stop:
            while self.at.epoch < self.config.epochs and not self._out_of_patience():
                took = _Times()
                loss = self._train_epoch(stop, took)
                valid = self._validate(took)
                self.at.epoch += 1
                self.at.step = 0
                if self._is_to_be_kept(valid):
                    self.at.best_epoch = self.at.epoch
                    if valid is not None:
                        self.at.best, self.at.pearson = valid.mean_pearson, valid.pearson
                    save_model(self.model, best_folder(self.run, self.at.best_epoch))
                self._report_epoch(loss, valid, took)
                self._save()
                total.training += took.training
                total.validation += took.validation
                if stop:
                    raise Interrupted(stop.signum, f"saved after epoch {self.at.epoch}")
        return Result(
            epochs=self.at.epoch,
            best_epoch=self.at.best_epoch,
            training_seconds=total.training,
            validation_seconds=total.validation,
        )

    def _train_epoch(self, stop: StopRequest, took: _Times) -> float:
        """Trains what is left of the epoch, notes what it took, and returns the epoch's mean loss."""
        self.model.train()
        plan = self._plan(self.at.epoch)
        label = f"epoch {self.at.epoch + 1}/{self.config.epochs}"
        start = time.monotonic()
        with self.reporter.bar(label, len(plan), "steps", done=self.at.step) as bar:
            for groups in plan[self.at.step :]:
                if stop:
                    self._save()
                    raise Interrupted(
                        stop.signum, f"saved at epoch {self.at.epoch + 1}, step {self.at.step} of {len(plan)}"
                    )
                batches = [make_batch([self.data.train[i] for i in g], self.intensities) for g in groups]
                loss = self._step(batches)
                size = sum(len(batch.filenames) for batch in batches)
                took.clips += size
                self.at.loss_sum += loss * size
                self.at.loss_clips += size
                self.at.step += 1
                took.training = time.monotonic() - start
                rate = took.clips / took.training
                learning_rate = self.schedule.get_last_lr()[0]
                bar.advance(note=f"loss {loss:.4f}  lr {learning_rate:.1e}  {rate:,.0f} clips/s")
                if self.at.step % LOG_EVERY == 0:
                    append_metrics(
                        self.run.metrics_file,
                        epoch=self.at.epoch + 1,
                        step=self.at.step,
                        loss=loss,
                        learning_rate=learning_rate,
                        clips_per_second=rate,
                    )
        mean = self.at.loss_sum / self.at.loss_clips
        self.at.loss_sum, self.at.loss_clips = 0.0, 0
        return mean

    def _step(self, batches: Sequence[Batch]) -> float:
        """One optimiser step on the groups of one batch; returns the batch's loss."""
        self._seed_step()
        size = sum(len(batch.filenames) for batch in batches)
        self.optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        for batch in batches:
            on_device = batch.to(self.device)
            with autocast(self.precision, self.device):
                output = self.model(on_device.waveforms, on_device.lengths)
            assert on_device.intensities is not None
            error = (output - on_device.intensities).square().mean(dim=1)  # (B,)
            self.scaler.scale(error.sum() / size).backward()
            losses.append(error.detach())
        per_clip = torch.cat(losses).tolist()
        broken = [
            filename
            for filename, value in zip((f for b in batches for f in b.filenames), per_clip, strict=True)
            if not np.isfinite(value)
        ]
        if broken:
            raise TrainingError(
                Problem(
                    f"epoch {self.at.epoch + 1}, step {self.at.step + 1}",
                    f"the loss is not finite for {len(broken)} of {size} clips: {', '.join(broken[:10])}",
                    next_step="lower training.learning_rate or use --precision fp32; the last whole "
                    "checkpoint is kept",
                )
            )
        self.scaler.unscale_(self.optimizer)
        if self.config.clip_grad_value:
            torch.nn.utils.clip_grad_value_(self.model.parameters(), self.config.clip_grad_value)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return float(np.mean(per_clip))

    def _validate(self, took: _Times) -> Score | None:
        if not self.data.valid:
            return None
        start = time.monotonic()
        table = predict(
            self.model,
            self.data.valid,
            device=self.device,
            precision=self.precision,
            reporter=self.reporter,
            description="validating",
        )
        took.validation = time.monotonic() - start
        truth = self.data.labels.join(table.select(FILENAME), on=FILENAME, how="semi", maintain_order="left")
        return score(truth, table, resamples=0)

    def _is_to_be_kept(self, valid: Score | None) -> bool:
        """Whether these are the run's weights: the best on valid; without validation the last."""
        if valid is None:
            return self.at.epoch == self.config.epochs
        return self.at.best is None or valid.mean_pearson > self.at.best

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(self.data.valid and patience and self.at.epoch - self.at.best_epoch >= patience)

    def _plan(self, epoch: int) -> list[list[list[int]]]:
        return plan_epoch(
            self.lengths,
            batch_size=self.config.batch_size,
            group_size=self.config.group_size,
            seed=self.config.seed,
            epoch=epoch,
        )

    def _seed_step(self) -> None:
        # transformers draws SpecAugment from numpy's global generator, everything else is torch's.
        state = np.random.SeedSequence([self.config.seed, self.at.epoch, self.at.step]).generate_state(2)
        torch.manual_seed(int(state[0]))
        np.random.seed(int(state[1]))

    def _save(self) -> None:
        write_checkpoint(
            self.run,
            self.at,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
            },
        )

    def _report_epoch(self, loss: float, valid: Score | None, took: _Times) -> None:
        learning_rate = self.schedule.get_last_lr()[0]
        rate = took.clips / took.training
        line: dict[str, Any] = {"train_loss": loss, "learning_rate": learning_rate, "clips_per_second": rate}
        text = f"epoch {self.at.epoch}/{self.config.epochs}: loss {loss:.4f}"
        if valid is not None:
            line["valid"] = {"mean_pearson": valid.mean_pearson, "pearson": valid.pearson}
            text += f", valid mean Pearson {valid.mean_pearson:.4f}"
            text += " (best)" if self.at.best_epoch == self.at.epoch else f" (best {self.at.best:.4f})"
            if valid.undefined:
                text += f", undefined for {', '.join(valid.undefined)}"
        append_metrics(self.run.metrics_file, epoch=self.at.epoch, **line)
        seconds = took.training * len(self.data.train) / took.clips + took.validation
        left = timedelta(seconds=round((self.config.epochs - self.at.epoch) * seconds))
        self.reporter.say(f"{text}, {rate:,.0f} clips/s, about {left} left")
