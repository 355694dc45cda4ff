"""Why a command ended before its work was done, and with which command line to go on."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator, Sequence

from abaw_emi.core.errors import EmiError, shorten_error

_FULL = r"No space left|StorageFull|os error 28\b"

_CAUSES = {
    r"/dev/shm|/torch_\d|shared memory|shm_open": "too little shared memory; enlarge /dev/shm",
    _FULL: "the disk is full; free some room",
    r"quota exceeded|os error 122\b": "the quota of the disk is used up; free some of it",
    r"Read-only file system|os error 30\b": "the disk cannot be written; use another folder",
    r"Input/output error|os error 5\b": "the disk fails; save what is on it, and use another",
    r"^OutOfMemory|_STATUS_ALLOC_FAILED|CUDA(\w| )*error: out of memory": "the device's memory is too small; "
    "end other programs on it, or train fewer layers with --set model.tuning.train_layers=N",
    r"^\w*MemoryError|allocate memory|bad_alloc": "too little memory; end other programs",
    r"^BrokenProcessPool": "a helping process was killed, probably for lack of memory; end other programs",
    r"^Dist\w+Error|\b(gloo|nccl)\b|Connection (closed|reset) by": "a process of torchrun is lost; see above",
}
"""What the text of an error holds where the machine is to blame, and what that means."""


def describe_error(error: Exception, arguments: Sequence[str]) -> list[str]:
    """What is wrong, a line for each problem; and how to go on, where the machine is to blame."""
    if isinstance(error, EmiError):
        lines = list(map(str, error.problems))
        full = any(
            getattr(each, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or re.search(_FULL, str(each))
            for each in _chain(error)
        )
        return [*lines[:-1], f"{lines[-1]}; {suggest(arguments)}"] if full else lines
    for each in _chain(error):
        text = f"{type(each).__name__}: {each}"
        for pattern, meaning in _CAUSES.items():
            if re.search(pattern, text):
                return [f"{_describe(each)}: {meaning}, and {suggest(arguments)}"]
    if isinstance(error, OSError):
        return [_describe(error)]
    found = f"{type(error).__name__}: {error}"
    return [f"abaw-emi: {found}; this is a fault of abaw-emi, --debug shows where"]


_GO_ON = [
    ["tables"],
    ["faces"],
    ["extract"],
    ["transcribe"],
    ["prepare"],
    ["pipeline"],
    ["sweep"],
    ["search"],
]
"""Commands that, typed again, go on with what is not done."""


def suggest(arguments: Sequence[str], *, saved: bool = False) -> str:
    """The command line that continues the one that was stopped, or starts again.

    Args:
        arguments: of the command.
        saved: whether the run that it trained is known to be there.
    """
    program, again = "abaw-emi", [word for word in arguments if word != "--overwrite"]
    if arguments[:1] == ["train"] and _can_resume(arguments, saved):
        again = [*(word for word in again if word != "--resume"), "--resume"]
        if several := os.environ.get("LOCAL_WORLD_SIZE"):  # torchrun's
            program = f"torchrun --nproc-per-node {several} -m abaw_emi"
    elif arguments[:1] not in _GO_ON:
        return f"start again with: abaw-emi {shlex.join(arguments)}"
    return f"go on with: {program} {shlex.join(again)}"


def _can_resume(arguments: Sequence[str], saved: bool) -> bool:
    trial = any(word == "--verify-resume" or word.startswith("--limit") for word in arguments)
    fresh = "--overwrite" in arguments and not saved  # nothing of the new run may be there
    return not trial and not fresh


def _describe(error: Exception) -> str:
    """The file and what happened to it."""
    if isinstance(error, OSError):
        return f"{error.filename or 'abaw-emi'}: {error.strerror or error}"
    return f"abaw-emi: {shorten_error(error)}"


def _chain(error: Exception) -> Iterator[Exception]:
    """The error, what it was raised from, and so on."""
    seen: BaseException | None = error
    while isinstance(seen, Exception):
        yield seen
        seen = seen.__cause__ or seen.__context__
