"""`abaw-emi ARGUMENTS` in this process: what a shell would see of it, without the seconds of a new Python.

Tests of streams, signals, start-up and several processes start real ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from abaw_emi.cli import main


def run_command(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> CompletedProcess[str]:
    """Exit code, stdout and stderr of a command.

    Args:
        arguments: those after `abaw-emi`.
        cwd: the current folder of the command.
        env: all of its environment variables; None for those of the tests.
    """
    words = ["abaw-emi", *map(str, arguments)]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")]
    handlers = {number: signal.getsignal(number) for number in numbers}
    code = 0
    with (
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.object(sys, "argv", words),
        mock.patch.dict(os.environ, env or {}, clear=env is not None),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # with --debug
            traceback.print_exc()
            code = 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    texts = [stream.buffer.getvalue().decode() for stream in streams]  # type: ignore[attr-defined]
    return CompletedProcess(words, code, *texts)
