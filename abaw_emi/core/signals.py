"""Signals that ask for a stop: finish the step, save, say how to continue.

They are Ctrl-C, SIGTERM (pre-emption), SIGHUP (a closed terminal), SIGUSR1 and SIGUSR2 (Slurm's `--signal`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def _stop_signals() -> list[signal.Signals]:
    """The signals that ask for a stop; not SIGHUP where it is ignored (`nohup`), nor what Windows lacks."""
    wanted = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGUSR1"):
        wanted += [signal.SIGUSR1, signal.SIGUSR2]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)
    return wanted


class Interrupted(BaseException):
    """A signal asked this process to stop; `exit_code` is what the shell expects: 128 and the signal."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class StopRequest:
    """Whether a signal has asked for a stop."""

    def __init__(self) -> None:
        self.signum = 0

    def __bool__(self) -> bool:
        return self.signum != 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler: records the first request; a second Ctrl-C stops immediately.

        Schedulers send SIGTERM more than once, and torchrun both signals: the process still saves first.
        """
        if self and signum == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise Interrupted(signum)
        self.signum = signum


@contextmanager
def deferred_signals() -> Iterator[StopRequest]:
    """Defers the signals that ask for a stop: the block checks the request, at points where it can stop."""
    request = StopRequest()
    before = {number: signal.signal(number, request) for number in _stop_signals()}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_on_signals() -> None:
    """Makes a signal that asks for a stop raise `Interrupted`, so that nothing half-written is left."""

    def handler(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    for number in _stop_signals():
        signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignores what asks for a stop from now on: this process is ending, and is to do so in order."""
    for number in _stop_signals():
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Blocks what asks for a stop; processes started in the block ignore it: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
