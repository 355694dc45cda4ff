"""What is the machine's and not the program's fault is named, with how to go on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from abaw_emi.cli.failures import describe_error
from abaw_emi.core.errors import Problem, TableError
from tests.cli.conftest import environment, problems

TRAIN = ["train", "--seeds", "1", "2"]
GO_ON = "go on with: abaw-emi train --seeds 1 2 --resume"


class SafetensorError(Exception):
    """As that of safetensors, which tells the cause in its text only."""


class DistBackendError(RuntimeError):
    """As that of torch.distributed."""


def full_disk(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (full_disk("runs/a/x.pt"), "runs/a/x.pt: No space left on device: the disk is full"),
        (full_disk("/dev/shm/x"), "/dev/shm/x: No space left on device: too little shared memory"),
        (full_disk("/torch_12_3"), "/torch_12_3: No space left on device: too little shared memory"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "a"), "a: Disk quota exceeded: the quota"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "a"), "a: Read-only file system: the disk cannot be"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "a"), "a: Input/output error: the disk fails"),
        (
            SafetensorError(
                'I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'
            ),
            "abaw-emi: I/O error: Os { code: 28, kind: StorageFull",
        ),
        (MemoryError(), "abaw-emi: MemoryError: too little memory"),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            "abaw-emi: cuDNN error: CUDNN_STATUS_ALLOC_FAILED: the device's memory is too small",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "abaw-emi: DefaultCPUAlloc"),
        (BrokenProcessPool("A process in the pool was terminated"), "abaw-emi: A process in the pool was"),
        (DistBackendError("NCCL error"), "abaw-emi: NCCL error: a process of torchrun is lost"),
        (
            RuntimeError("[pair.cc:534] Connection closed by peer"),
            "abaw-emi: [pair.cc:534] Connection closed",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value),
)
def test_the_line_has_path_cause_and_how_to_go_on(error: Exception, expected: str) -> None:
    (line,) = describe_error(error, TRAIN)
    assert line.startswith(expected)
    assert line.endswith(GO_ON)


def test_the_cause_of_a_cause_counts() -> None:
    wrapped = RuntimeError("PytorchStreamWriter failed writing file data/0")
    wrapped.__context__ = full_disk("runs/a/x.pt")
    assert describe_error(wrapped, TRAIN)[0].startswith("runs/a/x.pt: No space left on device: the disk")
    known = TableError(Problem("runs/a/run.toml", "cannot be written: No space left on device"))
    known.__cause__ = full_disk()
    assert describe_error(known, TRAIN) == [f"{known}; {GO_ON}"]


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("mat1 and mat2 shapes cannot be multiplied")])
def test_any_other_error_is_still_a_fault(error: Exception) -> None:
    (line,) = describe_error(error, TRAIN)
    assert line.endswith("this is a fault of abaw-emi, --debug shows where")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--overwrite"], "start again with: abaw-emi train --overwrite"),
        (["train", "--limit", "4"], "start again with: abaw-emi train --limit 4"),
        (["train", "--resume"], "go on with: abaw-emi train --resume"),
        (["tables", "--table", "1"], "go on with: abaw-emi tables --table 1"),
        (["extract", "x", "--overwrite"], "go on with: abaw-emi extract x"),
        (["submit", "--name", "a b"], "start again with: abaw-emi submit --name 'a b'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_there_is_continued(arguments: list[str], expected: str) -> None:
    assert describe_error(MemoryError(), arguments)[0].endswith(expected)


def test_a_command_that_ends_for_lack_of_memory_exits_1() -> None:
    code = """
import sys
import abaw_emi.data.provenance
from abaw_emi.cli import main

def fail(*arguments, **settings):
    raise MemoryError

abaw_emi.data.provenance.read_prediction_file = fail
sys.argv = ["abaw-emi", "score", "a.csv", "b.csv"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    (line,) = problems(done, 1)
    assert line.endswith("end other programs, and start again with: abaw-emi score a.csv b.csv")


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        ("Interrupted(2, 'saved after epoch 3')", 130, "saved after epoch 3; go on with: abaw-emi sweep"),
        ("OSError(5, 'Input/output error', 'a')", 1, "a: Input/output error: the disk fails"),
    ],
)
def test_another_ctrl_c_while_a_command_ends_changes_nothing(failure: str, code: int, line: str) -> None:
    """One comes while the line is written, one while Python ends."""
    text = f"""
import atexit, io, os, signal, sys
import abaw_emi.cli.app as module
from abaw_emi.core.signals import Interrupted

class Pressed(io.TextIOWrapper):
    def write(self, text):
        os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)

def fail():
    raise {failure}

sys.stderr = Pressed(sys.stderr.buffer, write_through=True)
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
module.app = fail
sys.argv = ["abaw-emi", "sweep"]
module.main()
"""
    done = subprocess.run([sys.executable, "-c", text], env=environment(), capture_output=True, text=True)
    (found,) = problems(done, code)
    assert found.startswith(line)


def test_ctrl_c_after_the_work_is_done_leaves_it_done() -> None:
    text = """
import atexit, os, signal, sys
from abaw_emi.cli import main

atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["abaw-emi", "--version"]
main()
"""
    done = subprocess.run([sys.executable, "-c", text], env=environment(), capture_output=True, text=True)
    assert problems(done, 0) == []
