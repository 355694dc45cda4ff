"""Prediction on a CPU with a process for each core: one thread each, so that none waits for another.

The processes hold the weights in memory once (`shared_weights`). Each works on whole groups of clips, as a
single process does, and returns the same bits as that on one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from abaw_emi.challenge.facts import SAMPLE_RATE
from abaw_emi.config import Precision
from abaw_emi.corpus.clips import Clip
from abaw_emi.errors import EmiError, Problem, TrainingError
from abaw_emi.learning.devices import keep_memory
from abaw_emi.learning.encoders import Wav2Vec2Encoder
from abaw_emi.learning.frames import EncodedClip
from abaw_emi.learning.inference import Float32, Inference, Work
from abaw_emi.learning.model import EmiModel
from abaw_emi.learning.shared_weights import SharedWeights

WORTH_SECONDS = 120.0
"""Work of one thread from which on processes are started: they take some 6 s to start, on every core,
and one process has several threads, which gain less than processes but something."""

_COST = 1.1e-9
"""Seconds that one thread spends on a second of sound, for each weight of the encoder: the paper's runs at
5.6 times real time on an Intel core of 2.6 GHz (benchmarks/prediction.py)."""

_BF16_SHARE = 0.27
"""What the same costs with bfloat16 weights, on the same core."""


def choose_processes(model: EmiModel, clips: Sequence[Clip | EncodedClip], device: torch.device) -> int:
    """How many processes are to predict `clips`: 1 unless that is much work for a CPU of several cores."""
    if device.type != "cpu" or not isinstance(model.encoder, Wav2Vec2Encoder):
        return 1
    seconds = sum(clip.samples for clip in clips if isinstance(clip, Clip)) / SAMPLE_RATE
    weights = [weight.numel() for weight in model.encoder.parameters()]
    work = seconds * sum(weights) * _COST
    if next(model.encoder.parameters()).dtype == torch.bfloat16:
        work *= _BF16_SHARE
    return count_cores() if work >= WORTH_SECONDS else 1


def count_cores() -> int:
    """The cores that this process may use: what OMP_NUM_THREADS, its affinity and its container allow."""
    cores = torch.get_num_threads()
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):  # no cgroup of version 2, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) // int(period))
    return max(1, cores)


@dataclass(frozen=True, slots=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection


@dataclass(frozen=True, slots=True)
class _Ready:
    """The weights are mapped."""


@dataclass(frozen=True, slots=True)
class _Advanced:
    clips: int


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception | None
    problems: tuple[type[EmiError], tuple[Problem, ...]] | None = None


def run_groups(
    model: EmiModel,
    work: Work,
    groups: Sequence[Sequence[Clip | EncodedClip]],
    *,
    device: torch.device,
    precision: Precision,
    processes: int = 1,
    advance: Callable[[int], object] = lambda clips: None,
) -> Generator[tuple[int, list[Float32]]]:
    """What `Inference.run` yields for each group, with the group's place, in the order in which they end.

    The model is left as it was. Close the iteration where it may break off: that ends the processes at once.

    Args:
        model: it runs in evaluation mode.
        work: what is asked for.
        groups: as `inference.plan_groups` makes them.
        device: where the model is.
        precision: of the arithmetic.
        processes: at most so many, on a CPU; 1 is this one.
        advance: told how many clips more are done.

    Raises:
        EmiError: what a process raised; TrainingError where one was killed, or the weights find no room.
    """
    if processes > 1 and len(groups) > 1:
        yield from _run_in_processes(model, work, groups, precision, processes, advance)
        return
    was_training = model.training
    model.train(False)
    try:
        inference = Inference(model, device=device, precision=precision)
        yield from enumerate(inference.run(work, groups, advance))
    finally:
        model.train(was_training)


def _run_in_processes(
    model: EmiModel,
    work: Work,
    groups: Sequence[Sequence[Clip | EncodedClip]],
    precision: Precision,
    processes: int,
    advance: Callable[[int], object],
) -> Generator[tuple[int, list[Float32]]]:
    waiting = iter(range(len(groups)))
    running: dict[Connection, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix="abaw-emi-", ignore_cleanup_errors=True) as folder,
        _started(model, Path(folder), precision, work, min(processes, len(groups))) as workers,
    ):
        unready = len(workers)
        while workers:
            for pipe in wait(list(workers)):
                assert isinstance(pipe, Connection)
                match _receive(workers[pipe]):
                    case _Failed(error, problems):
                        if problems is not None:
                            raise problems[0](problems[1])
                        assert error is not None
                        raise error
                    case _Advanced(clips):
                        advance(clips)
                        continue
                    case _Ready():
                        unready -= 1
                        if not unready:  # the file lives on as memory, and goes with the last process
                            with suppress(OSError):  # Windows
                                (Path(folder) / "weights").unlink()
                    case values:
                        yield running.pop(pipe), values
                place = next(waiting, None)
                if place is None:
                    workers.pop(pipe).process.kill()
                else:
                    running[pipe] = place
                    sounds = [clip for clip in groups[place] if isinstance(clip, Clip)]
                    _send(workers[pipe], [(clip.filename, clip.waveform) for clip in sounds])


@contextmanager
def _started(
    model: EmiModel, folder: Path, precision: Precision, work: Work, count: int
) -> Iterator[dict[Connection, _Worker]]:
    try:
        weights = SharedWeights.write(model, folder / "weights")
    except OSError as error:
        advice = "set TMPDIR to a folder with room, or OMP_NUM_THREADS=1"
        found = f"the weights cannot be laid there for other processes: {error.strerror}"
        raise TrainingError(Problem(str(folder), found, next_step=advice)) from error
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        with _blocked_signals():
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, weights, precision, work), daemon=True)
                process.start()
                theirs.close()  # so that the end of the process ends the pipe
                workers.append(_Worker(process, ours))
        yield {worker.pipe: worker for worker in workers}
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Starts processes that Ctrl-C and SIGTERM do not reach, from their first moment: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(worker: _Worker) -> Any:
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        raise _died(worker) from None


def _send(worker: _Worker, group: Sequence[tuple[str, Float32]]) -> None:
    try:
        worker.pipe.send(group)
    except OSError:
        raise _died(worker) from None


def _died(worker: _Worker) -> TrainingError:
    worker.process.join(1)
    code = worker.process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    advice = "if the memory was full, predict with fewer processes: OMP_NUM_THREADS=1 for one"
    return TrainingError(Problem("predicting", f"process {worker.process.pid} {how}", next_step=advice))


def _work(pipe: Connection, weights: SharedWeights, precision: Precision, work: Work) -> None:
    """What each process does, until it is killed or the one that started it is gone."""
    with suppress(EOFError, OSError):
        try:
            torch.set_num_threads(1)
            keep_memory()
            inference = Inference(weights.read(), device=torch.device("cpu"), precision=precision)
            pipe.send(_Ready())
            while True:
                group = [Clip.from_waveform(filename, waveform) for filename, waveform in pipe.recv()]
                (values,) = inference.run(work, [group], lambda clips: pipe.send(_Advanced(clips)))
                pipe.send(values)
        except EmiError as error:  # its problems travel, its text is made of them
            pipe.send(_Failed(None, (type(error), error.problems)))
        except (EOFError, OSError):
            raise
        except Exception as error:
            error.add_note(f"in a process that predicts:\n{traceback.format_exc()}")
            pipe.send(_Failed(error))
