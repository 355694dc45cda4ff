"""Arrays on disk: made once, by any number of processes; never other values, whatever happens."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from abaw_emi.core import cache as cache_module
from abaw_emi.core.cache import Cache, CachedArray, cache_folder
from abaw_emi.core.progress import Reporter

pytest.importorskip("xxhash", reason="caches are of the extra [train]")

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "noise": np.random.default_rng(0).standard_normal(1_000, "f4"),
    "frames": np.arange(12, dtype=np.float32).reshape(3, 4),
    "nothing": np.empty((0, 4), np.float32),
    "numbers": np.arange(5, dtype=np.uint32),
}
RECORDS = {key: {"number": number, "half": number / 2} for number, key in enumerate(ARRAYS)}


class Listening(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def warned(self) -> list[str]:
        return [str(problem) for problem in self.warnings]


class Maker:
    """Makes the arrays, and counts."""

    def __init__(self, folder: Path) -> None:
        self.reporter = Listening()
        self.cache = Cache("noise", self.reporter, folder)
        self.made: list[str] = []

    def cached(self, key: str) -> CachedArray:
        def make() -> tuple[npt.NDArray[Any], dict[str, Any]]:
            self.made.append(key)
            return ARRAYS[key], RECORDS[key]

        return self.cache.cached(key, make)

    def check(self, found: dict[str, CachedArray] | None = None) -> None:
        """Every array is what it should be; those that are not given are asked for."""
        for key, array in (found or {key: self.cached(key) for key in ARRAYS}).items():
            assert array.record == RECORDS[key]
            read = array.read()
            np.testing.assert_array_equal(read, ARRAYS[key], strict=True)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("noise-v*/*.array"))


def test_an_array_is_made_once_and_read_back_by_others(tmp_path: Path) -> None:
    first, second = Maker(tmp_path), Maker(tmp_path)
    first.check()
    first.check()
    second.check()
    assert (first.made, second.made) == (list(ARRAYS), [])
    assert first.reporter.warnings == second.reporter.warnings == []
    other = Cache("other", folder=tmp_path)
    assert other.find("noise") is None
    assert other.get("noise") is None


def test_whole_entries_are_kept_and_got(tmp_path: Path) -> None:
    cache = Cache("noise", folder=tmp_path)
    for key, array in ARRAYS.items():
        assert cache.find(key) is None
        assert cache.keep(key, array, RECORDS[key])
        assert cache.find(key) is not None
        got = cache.get(key)
        assert got is not None
        np.testing.assert_array_equal(got[0], array, strict=True)
        assert got[1] == RECORDS[key]


def test_an_array_is_read_into_memory_that_is_there(tmp_path: Path) -> None:
    frames = Maker(tmp_path).cached("frames")
    rows = np.zeros((2, 3, 4), np.float32)
    frames.read_into(rows[1])
    np.testing.assert_array_equal(rows, [np.zeros((3, 4)), ARRAYS["frames"]])
    for wrong in (np.empty(12, np.float32), np.empty((3, 4), np.float64)):
        with pytest.raises(ValueError, match="cannot hold"):
            frames.read_into(wrong)


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_is_reported_and_never_gives_other_values(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.cached("frames")
    (file,) = files(tmp_path)
    for position in range(file.stat().st_size):
        damage(file, position)
        again = Maker(tmp_path)
        again.check({"frames": again.cached("frames")})
        assert again.made == ["frames"]
        (warning,) = again.reporter.warned
        assert warning == f"{file.parent}: a damaged entry, {file.name}; it is made again"
        damage(file, position)  # of the new one: an entry that is open is verified, too
        again.check({"frames": again.cached("frames")})


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "empty": lambda file: os.truncate(file, 0),
    "foreign": lambda file: file.write_bytes(bytes(range(256))),
    "another entry": lambda file: shutil.copy(next(o for o in files(file.parents[1]) if o != file), file),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("is_open", [False, True])
def test_whatever_happens_to_an_entry_it_is_made_again(tmp_path: Path, kind: str, is_open: bool) -> None:
    maker = Maker(tmp_path)
    maker.check()
    opened = {key: maker.cached(key) for key in ARRAYS}
    file = maker.cache._path("noise")
    DAMAGES[kind](file)
    maker.made.clear()
    again = maker if is_open else Maker(tmp_path)
    again.check(opened if is_open else None)
    assert again.made == ["noise"]
    assert any("damaged" in warning for warning in again.reporter.warned) == (kind != "gone")
    if kind != "a folder":
        last = Maker(tmp_path)
        last.check()
        assert (last.made, last.reporter.warnings) == ([], [])


def test_many_damaged_entries_are_few_warnings(tmp_path: Path) -> None:
    cache = Cache("noise", folder=tmp_path)
    for number in range(25):
        cache.keep(f"{number}", ARRAYS["frames"])
    for file in files(tmp_path):
        os.truncate(file, 10)
    reporter = Listening()
    cache = Cache("noise", reporter, tmp_path)
    for _ in range(2):
        assert not any(cache.find(f"{number}") for number in range(25))
    assert len(reporter.warned) == 2
    assert "damaged entries: 10" in reporter.warned[1]


def test_a_cache_that_is_deleted_while_in_use_is_made_again(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    opened = {key: maker.cached(key) for key in ARRAYS}
    shutil.rmtree(tmp_path)
    maker.check(opened)
    assert maker.made == 2 * list(ARRAYS)
    Maker(tmp_path).check()
    assert len(files(tmp_path)) == len(ARRAYS)
    assert maker.reporter.warnings == []


def test_an_error_of_what_makes_an_array_is_passed_on_and_nothing_is_kept(tmp_path: Path) -> None:
    cache = Cache("noise", folder=tmp_path)
    sources = [np.zeros(3)]
    array = cache.cached("once", lambda: (sources.pop(), {}))
    shutil.rmtree(tmp_path)
    with pytest.raises(IndexError):
        array.read()
    with pytest.raises(IndexError):
        cache.cached("never", lambda: (sources.pop(), {}))
    assert files(tmp_path) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from tests.core.test_cache import *

real = Path.replace
def replace(path, target):
    if target == maker.cache._path("numbers"):
        os.kill(os.getpid(), signal.SIGKILL)  # after it was written, before it has its name
    return real(path, target)
Path.replace = replace
maker = Maker(Path(sys.argv[1]))
maker.check()
"""


def test_a_killed_process_loses_what_it_was_writing_and_blocks_nobody(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    maker = Maker(tmp_path)
    maker.check()
    assert (maker.made, maker.reporter.warnings) == (["numbers"], [])


_TOGETHER = """
import sys, time
from pathlib import Path
from tests.core.test_cache import *

cache, made = Cache("noise", folder=Path(sys.argv[1])), 0
def make(number):
    global made
    made += 1
    time.sleep(0.005)
    return np.full(1_000, number, np.float32), {"number": number}
arrays = [cache.cached(str(number), lambda number=number: make(number)) for number in range(40)]
for number, array in enumerate(arrays):
    assert array.record == {"number": number}
    assert (array.read() == number).all()
print(made)
"""


def test_processes_that_run_together_make_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TOGETHER, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(made) == 40
    assert not list(tmp_path.rglob("*.part"))


def test_who_waits_for_another_says_so_once_and_finds_what_was_made(tmp_path: Path) -> None:
    other, maker = Maker(tmp_path), Maker(tmp_path)
    with other.cache.lock():
        thread = threading.Thread(target=maker.check)
        thread.start()
        while not maker.reporter.said:
            time.sleep(0.01)
        other.check()
    thread.join()
    assert maker.made == []
    assert maker.reporter.said == [f"waiting for another process that fills {maker.cache.folder}"]


def check_unwritable(maker: Maker, why: str) -> None:
    """All is as it would be otherwise, with a single warning."""
    found = {key: maker.cached(key) for key in ARRAYS}
    maker.check(found)
    maker.check()
    assert not maker.cache.keep("more", ARRAYS["noise"])
    assert not maker.cache.has_room(1)
    (warning,) = maker.reporter.warned
    assert re.search(rf"cannot be written \({why}", warning)
    assert "set $ABAW_EMI_CACHE to a writable folder with room" in warning


def test_a_cache_that_is_no_folder_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_unwritable(Maker(tmp_path / "file"), "Not a directory")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_serves_what_it_holds(tmp_path: Path) -> None:
    Maker(tmp_path).cached("noise")
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o500)
    try:
        maker = Maker(tmp_path)
        maker.check({"noise": maker.cached("noise")})
        assert (maker.made, maker.reporter.warnings) == ([], [])
        check_unwritable(maker, "Permission denied")
    finally:
        folder.chmod(0o700)


def test_the_last_gigabytes_of_a_disk_are_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Maker(tmp_path).cached("noise")
    monkeypatch.setattr(cache_module, "RESERVE_BYTES", 2**60)
    maker = Maker(tmp_path)
    check_unwritable(maker, r"0\.0 GiB, with 1073741824 GiB to spare, are not free")
    assert "noise" not in maker.made
    assert len(files(tmp_path)) == 1


_FULL = """
import resource, sys
from pathlib import Path
from tests.core.test_cache import *

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))  # a write across it ends in the middle
check_unwritable(Maker(Path(sys.argv[1])), "File too large")
"""


def test_a_disk_that_is_full_in_the_middle_stops_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True)
    assert not files(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    Maker(tmp_path).check()


def age(folder: Path) -> None:
    old = time.time() - (cache_module.UNUSED_DAYS + 1) * 86_400
    os.utime(folder, (old, old))


def kill_writer(path: Path) -> None:
    """Leaves what a process leaves that is killed while it writes a file whole."""
    code = (
        "import os,pathlib,sys; from abaw_emi.core.files import open_whole\n"
        "with open_whole(pathlib.Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert len(list(path.parent.glob("files.json.*.part"))) == 1


def test_a_cache_that_nobody_uses_is_deleted_and_nothing_else_is(tmp_path: Path) -> None:
    for kind in ("noise", "unused", "used"):
        Cache(kind, folder=tmp_path).keep("key", ARRAYS["noise"])
    kill_writer(Cache("unused", folder=tmp_path).folder / "files.json")
    mine = tmp_path / "model-v2"
    mine.mkdir()
    (mine / "weights").touch()
    for folder in tmp_path.iterdir():
        age(folder)
    Cache("used", folder=tmp_path)  # whoever opens it, uses it
    maker = Maker(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4  # reading deletes nothing
    maker.cached("frames")
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"noise", "used", "model"}
    (line,) = maker.reporter.said
    assert re.fullmatch(r"deleted .*unused-v\d+: not used for 91 days", line)


def test_a_cache_of_another_version_is_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Maker(tmp_path).check()
    monkeypatch.setattr(cache_module, "VERSION", cache_module.VERSION + 1)
    maker = Maker(tmp_path)
    maker.check()
    assert (maker.made, maker.reporter.warnings) == (list(ARRAYS), [])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_what_was_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )

    cache = Cache("noise", folder=tmp_path)
    block = np.zeros(500_000, np.float32)
    arrays = [cache.cached(f"{number}", lambda number=number: (block + number, {})) for number in range(60)]
    out = np.empty_like(block)
    before = resident()
    for number, array in enumerate(arrays):
        array.read_into(out)
        assert out[0] == out[-1] == number
    assert resident() - before < 12e6  # of 120 MB


def test_caches_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABAW_EMI_CACHE", "/scratch/cache")
    assert cache_folder() == Path("/scratch/cache")
    monkeypatch.setenv("ABAW_EMI_CACHE", "")
    assert cache_folder().name == "abaw-emi"
