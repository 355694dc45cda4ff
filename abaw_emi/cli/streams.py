"""Standard output and error that never end a command.

Their reader may be gone, the disk that they go to full, the terminal closed or not able to show a character.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO


class _Sink(io.FileIO):
    """A descriptor. What cannot be written is dropped, with all that follows; `failure` says why."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        """Writes a part of the content and returns how long that is; all of it where it is dropped."""
        while self.failure is None:
            try:
                written = super().write(content)
            except OSError as error:
                self.failure = error
                break
            if written is not None:
                return written
            select.select([], [self], [])  # another program has set the terminal to non-blocking
        return len(content)


_sinks: dict[str, _Sink] = {}


def guard_streams() -> None:
    """Replaces `sys.stdout` and `sys.stderr`, unless somebody has replaced them before."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # it was closed (`>&-`): a file that is opened later would be written into by what is printed
    os.close(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            _sinks[name] = _Sink(number, "w", closefd=False)
            setattr(sys, name, _open(_sinks[name], stream))


def _open(sink: _Sink, before: TextIO | None) -> TextIO:
    """The stream in the place of `before`, which is None where the descriptor was closed."""
    kept = before if isinstance(before, io.TextIOWrapper) else None
    return io.TextIOWrapper(
        io.BufferedWriter(sink),
        encoding=kept.encoding if kept else "utf-8",
        errors="backslashreplace",
        line_buffering=kept is None or kept.line_buffering or kept.write_through,
    )


def lost_output() -> str:
    """Why what was printed on stdout did not arrive; "" if it did, or if its reader wanted no more of it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    failure = _sinks["stdout"].failure if "stdout" in _sinks else None
    return "" if failure is None or failure.errno == errno.EPIPE else str(failure.strerror)
