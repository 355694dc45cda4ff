"""Prediction on a CPU with a process for each core: one thread each, so that none waits for another.

The processes map one file of weights, and so hold them in memory once. Each works on whole groups of clips,
as a single process does, and gives the same bits as that on one thread. Groups and results are files too,
and the pool's pipes carry paths: it waits for ever for the rest of what a killed process had begun to send.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import islice
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.core.constants import SAMPLE_RATE, Precision
from abaw_emi.core.errors import EmiError, Problem, TrainingError
from abaw_emi.core.signals import blocked_signals
from abaw_emi.inference.engine import Float32, Inference, Work
from abaw_emi.models.device import keep_memory
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoder import Wav2Vec2Encoder

WORTH_SECONDS = 600.0
"""Work of one thread from which on processes are started, which takes some 6 s on every core.

On two quiet cores two threads of one process are 1.94 times as fast as one, and two processes 1.96 times:
little to gain. Where another program had one of the cores, two threads took 2.5 to 5 times as long as one,
because each waits for the other all the time, and two processes 1.1 to 1.9 times (benchmarks/prediction.py).
"""

_COST = 1.1e-9
"""Seconds that one thread spends on a second of sound, for each weight of the encoder: the paper's runs at
5.6 times real time on an Intel core of 2.6 GHz (benchmarks/prediction.py)."""

_BF16_SHARE = 0.27
"""What the same costs with bfloat16 weights, on the same core."""


def choose_processes(model: EmiModel, clips: Sequence[Clip | EncodedClip], device: torch.device) -> int:
    """How many processes are to predict `clips`: 1 unless that is much work for a CPU of several cores."""
    if device.type != "cpu" or not isinstance(model.encoder, Wav2Vec2Encoder) or model.widths:
        return 1  # features would travel to the processes with the sound; nobody has needed it yet
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
        with closing(_run_in_processes(model, work, groups, precision, processes)) as results:
            for number, values in results:
                advance(len(groups[number]))
                yield number, values
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
) -> Generator[tuple[int, list[Float32]]]:
    with _started(model, precision, processes) as (folder, submit):
        numbers = iter(range(len(groups)))
        running: dict[Future[None], int] = {}
        while True:
            for number in islice(numbers, processes + 1 - len(running)):
                sounds = [clip for clip in groups[number] if isinstance(clip, Clip)]
                content = pickle.dumps([(clip.filename, clip.waveform) for clip in sounds])
                (folder / f"{number}").write_bytes(content)
                running[submit(_work, work, folder / f"{number}")] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                try:
                    future.result()
                except EmiError as error:  # its problems travel well, its text does not
                    raise type(error)(error.problems) from error
                yield number, pickle.loads((folder / f"{number}").read_bytes())
                (folder / f"{number}").unlink()


@contextmanager
def _started(
    model: EmiModel, precision: Precision, count: int
) -> Iterator[tuple[Path, Callable[..., Future[None]]]]:
    """A folder for files, and what submits work to a pool; on leaving, both are gone at once."""
    context = multiprocessing.get_context("spawn")
    started: set[BaseProcess] = set()
    with tempfile.TemporaryDirectory(prefix="abaw-emi-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        pool = ProcessPoolExecutor(count, context, _start, (folder,))

        def submit(*call: Any) -> Future[None]:
            with blocked_signals():
                others = set(multiprocessing.active_children())
                future = pool.submit(*call)
                started.update(set(multiprocessing.active_children()) - others)
            return future

        try:
            _save(model, precision, folder)
            yield folder, submit
        except BrokenProcessPool:
            advice = "if the memory was full, predict with fewer processes: OMP_NUM_THREADS=1 for one"
            found = "one of its processes was killed, or crashed"
            raise TrainingError(Problem("predicting", found, next_step=advice)) from None
        except OSError as error:
            advice = "set TMPDIR to a folder with room, or OMP_NUM_THREADS=1"
            found = f"other processes cannot be given their work there: {error.strerror or error}"
            raise TrainingError(Problem(name, found, next_step=advice)) from error
        finally:
            with blocked_signals():
                for process in started:  # Python 3.14 has pool.kill_workers(); shutdown alone waits for them
                    process.kill()
                pool.shutdown(cancel_futures=True)


def _save(model: EmiModel, precision: Precision, folder: Path) -> None:
    try:
        torch.save((model.config, precision, model.state_dict()), folder / "model")
    except RuntimeError as error:  # of torch's writer, which does not say why
        raise OSError("the weights cannot be written") from error


@cache
def _load(folder: Path) -> Inference:
    """The model on the file's memory, which starts each tensor at a multiple of 64 bytes, as allocations do.

    Where weights begin decides how vectors are cut, and so the last bit of sums.
    """
    config, precision, weights = torch.load(folder / "model", mmap=True, weights_only=False)
    with torch.device("meta"):
        model = EmiModel(config)
    model.load_state_dict(weights, assign=True)
    model.train(False)
    return Inference(model, device=torch.device("cpu"), precision=precision)


def _start(folder: Path) -> None:
    """The first that each process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where signals cannot be blocked
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    torch.set_num_threads(1)
    keep_memory()


def _end_with_parent(folder: Path) -> None:
    """Leaves nothing behind where the process that started this one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _work(work: Work, file: Path) -> None:
    """Puts in place of a group's sounds what is asked for of each."""
    group = [Clip.from_waveform(filename, waveform) for filename, waveform in pickle.loads(file.read_bytes())]
    (values,) = _load(file.parent).run(work, [group])
    file.write_bytes(pickle.dumps(values))
