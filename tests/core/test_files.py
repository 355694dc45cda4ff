"""A file is written whole or not at all, and an error names it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from abaw_emi.core.errors import TableError
from abaw_emi.core.files import drop_parts, open_whole, read_bytes, write_bytes


def test_a_file_is_there_when_the_block_has_ended_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with open_whole(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def write_half(path: Path, error: BaseException) -> None:
    with open_whole(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("x"), KeyboardInterrupt()])
def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        write_half(path, error)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)  # type: ignore[attr-defined]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full_when_the_file_is_closed_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: opened(Path("/dev/full"), mode, **more))
    with pytest.raises(TableError, match=r"/x: cannot be written: No space left on device"):
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


_WRITE = """
import sys
from pathlib import Path
from abaw_emi.core.files import write_bytes
path, letter = Path(sys.argv[1]), sys.argv[2].encode()
sys.stdin.readline()
for _ in range(40):
    write_bytes(path, letter * 100_000)
    content = path.read_bytes()
    assert content in (b"a" * 100_000, b"b" * 100_000), (len(content), set(content))
"""


def test_of_two_processes_that_write_one_file_each_writes_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    words = [sys.executable, "-c", _WRITE, str(path)]
    writers = [
        subprocess.Popen([*words, letter], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ends = [writer.communicate(timeout=60)[1] for writer in writers]
    assert ends == ["", ""]
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_deleted_and_what_others_write_now_is_not(tmp_path: Path) -> None:
    for name in ("x.1-ab.part", "x.2-cd.part"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "x.1-ab.part", (0, 0))
    drop_parts(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.2-cd.part"]


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(10))
    assert read_bytes(path, 10) == bytes(10)
    with pytest.raises(TableError, match=r"x: is too large to be read: 10 bytes; expected at most 9"):
        read_bytes(path, 9)
