"""One process at a time has a run folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from abaw_emi.runs.lock import find_holder, lock_runs
from abaw_emi.runs.run import Run

ME = f"process {os.getpid()} on {socket.gethostname()}"

_HOLD = """
import sys
from contextlib import ExitStack
from pathlib import Path
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import Run
with ExitStack() as locks:
    held, warnings = lock_runs([Run(Path(sys.argv[1]))], locks)
    print("free" if not held else "held", flush=True)
    sys.stdin.read()
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that locks the run and holds it until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "free\n"
    return process


def test_the_holder_is_named_until_it_lets_go(tmp_path: Path) -> None:
    run = Run(tmp_path / "new" / "a")
    with ExitStack() as locks:
        assert lock_runs([run], locks) == ({}, [])
        assert find_holder(run) == ME
        with ExitStack() as others:
            held, warnings = lock_runs([run, Run(tmp_path / "new" / "b")], others)
        assert warnings == []
        assert [str(problem) for problem in held.values()] == [
            f"{run.folder}: in use by {ME}; wait for it, or end it"
        ]
        assert find_holder(run) == ME
    assert find_holder(run) == ""
    assert not run.folder.parent.exists()  # nothing was made in it
    with ExitStack() as locks:
        assert lock_runs([run], locks) == ({}, [])


def test_a_process_that_opened_the_lock_before_it_was_let_go_does_not_hold_a_deleted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "a")
    first, second = ExitStack(), ExitStack()
    lock_runs([run], first)
    flock = fcntl.flock

    def let_go_first(file: Any, kind: int) -> None:
        first.close()
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", let_go_first)
    with second:
        assert lock_runs([run], second) == ({}, [])
        monkeypatch.undo()
        assert find_holder(run) == ME
        with ExitStack() as third:
            assert lock_runs([run], third)[0]


_TAKE_TURNS = """
import sys
from contextlib import ExitStack
from pathlib import Path
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import Run
folder, turns = Path(sys.argv[1]), 0
sys.stdin.readline()
while turns < 300:
    with ExitStack() as locks:
        held, warnings = lock_runs([Run(folder / "a")], locks)
        assert not warnings, warnings
        if not held:
            (folder / "inside").open("x").close()  # fails if another process is inside
            (folder / "inside").unlink()
            turns += 1
"""


def test_never_two_hold_it_however_often_it_is_let_go(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _TAKE_TURNS, str(tmp_path)]
    processes = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert list(tmp_path.iterdir()) == []


def test_another_spelling_of_the_folder_is_the_same_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    (tmp_path / "link").symlink_to(run.folder)
    with ExitStack() as locks:
        lock_runs([run], locks)
        for other in (tmp_path / "link", tmp_path / "." / "a", tmp_path / "a" / ".." / "a"):
            assert find_holder(Run(other)) == ME


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    process = start(run.folder)
    assert find_holder(run).startswith(f"process {process.pid} on ")
    process.kill()
    process.communicate()
    assert find_holder(run) == ""  # although the file still names it
    start(run.folder).communicate()


def test_a_run_that_is_moved_away_stays_locked(tmp_path: Path) -> None:
    """As `--overwrite` does with the old one."""
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    with ExitStack() as locks:
        lock_runs([run], locks)
        run.remove()
        assert find_holder(run) == ME


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with ExitStack() as locks:
        held, warnings = lock_runs([Run(tmp_path / "a")], locks)
    assert held == {}
    assert "cannot be locked: Permission denied" in str(warnings[0])


def test_a_disk_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ExitStack() as locks:
        held, warnings = lock_runs([Run(tmp_path / "a")], locks)
    assert held == {}
    assert str(warnings[0]).startswith(f"{tmp_path / '.a.lock'}: cannot be locked: No locks available")
