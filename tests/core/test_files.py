"""A file is written whole or not at all, and an error names it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from abaw_emi.core.errors import TableError
from abaw_emi.core.files import open_whole, read_bytes, write_bytes


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
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: opened(Path("/dev/full"), mode, **more))
    with pytest.raises(TableError, match=r"/x: cannot be written: No space left on device"):
        write_bytes(tmp_path / "x", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(10))
    assert read_bytes(path, 10) == bytes(10)
    with pytest.raises(TableError, match=r"x: is too large to be read: 10 bytes; expected at most 9"):
        read_bytes(path, 9)
