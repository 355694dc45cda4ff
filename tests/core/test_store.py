from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abaw_emi.core import store as store_room
from abaw_emi.core.arrays import Float32
from abaw_emi.core.store import ArrayStore

ARRAYS = {
    f"key {number}": np.random.default_rng(number).standard_normal(100 + number, "f4") for number in range(6)
}
RECORDS = {key: {"number": number, "half": number / 2} for number, key in enumerate(ARRAYS)}


def fill(folder: Path, arrays: dict[str, Float32] | None = None) -> ArrayStore:
    store = ArrayStore(folder, "noise")
    with store.writing():
        for key, array in (ARRAYS if arrays is None else arrays).items():
            if store.get(key) is None:
                store.add(key, array, RECORDS.get(key))
    return store


def check_whole(store: ArrayStore, keys: list[str] | None = None) -> None:
    for key in list(ARRAYS) if keys is None else keys:
        found = store.get(key)
        assert found is not None, key
        np.testing.assert_array_equal(found.read(), ARRAYS[key])
        assert found.record == RECORDS[key]


def data_file(store: ArrayStore) -> Path:
    (path,) = store.folder.glob("*.bin")
    return path


def manifest_file(store: ArrayStore) -> Path:
    return store.folder / "manifest.json"


def test_what_was_added_is_there_at_once_and_in_another_store(tmp_path: Path) -> None:
    check_whole(fill(tmp_path))
    again = ArrayStore(tmp_path, "noise")
    check_whole(again)
    assert (len(again), again.problems, again.get("another key")) == (len(ARRAYS), [], None)
    assert len(ArrayStore(tmp_path, "other")) == 0


def test_an_array_of_any_shape_is_read_into_memory_that_is_there(tmp_path: Path) -> None:
    frames = np.arange(12, dtype=np.float32).reshape(3, 4)
    fill(tmp_path, {"frames": frames, "none": np.empty((0, 4), np.float32)})
    store = ArrayStore(tmp_path, "noise")
    stored, none = store.get("frames"), store.get("none")
    assert stored is not None
    assert none is not None
    assert none.read().shape == (0, 4)
    rows = np.zeros((2, 3, 4), np.float32)
    stored.read_into(rows[1])
    np.testing.assert_array_equal(rows, [np.zeros((3, 4)), frames])
    for wrong in (np.empty(12, np.float32), np.empty((3, 4), np.float64)):
        with pytest.raises(ValueError, match="cannot hold"):
            stored.read_into(wrong)


def test_where_there_is_no_preadv_arrays_are_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.delattr(os, "preadv")
    check_whole(ArrayStore(tmp_path, "noise"))


def test_a_read_that_returns_less_than_asked_for_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: real(fd, [buffers[0][:7]], at))
    check_whole(ArrayStore(tmp_path, "noise"))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("position", range(0, 2_500, 250))
def test_a_flipped_bit_of_the_data_loses_that_entry_alone(tmp_path: Path, position: int) -> None:
    flip(data_file(fill(tmp_path)), position)
    store = ArrayStore(tmp_path, "noise")
    lost = [key for key in ARRAYS if store.get(key) is None]
    assert len(lost) == 1
    check_whole(store, [key for key in ARRAYS if key not in lost])
    (problem,) = store.problems
    assert str(problem) == f"{store.folder}: 1 damaged entries; they are made anew"
    check_whole(fill(tmp_path))
    assert ArrayStore(tmp_path, "noise").problems == []


def test_a_flipped_bit_of_the_manifest_never_gives_other_values(tmp_path: Path) -> None:
    whole = manifest_file(fill(tmp_path)).read_bytes()
    for position in range(0, len(whole), 3):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / f"noise-v{store_room.FORMAT}", copy / f"noise-v{store_room.FORMAT}")
        store = ArrayStore(copy, "noise")
        flip(manifest_file(store), position)
        damaged = ArrayStore(copy, "noise")
        check_whole(damaged, [key for key in ARRAYS if damaged.get(key) is not None])
        check_whole(fill(copy))
        shutil.rmtree(copy)


DAMAGES: dict[str, Callable[[ArrayStore], object]] = {
    "data cut": lambda store: os.truncate(data_file(store), 1_000),
    "data empty": lambda store: os.truncate(data_file(store), 0),
    "data gone": lambda store: data_file(store).unlink(),
    "data foreign": lambda store: data_file(store).write_bytes(bytes(10_000)),
    "manifest empty": lambda store: manifest_file(store).write_bytes(b""),
    "manifest cut": lambda store: os.truncate(manifest_file(store), 200),
    "manifest gone": lambda store: manifest_file(store).unlink(),
    "manifest foreign": lambda store: manifest_file(store).write_text('{"name": "something else"}'),
    "manifest binary": lambda store: manifest_file(store).write_bytes(bytes(range(256))),
    "manifest of names outside": lambda store: manifest_file(store).write_text(
        json.dumps({"data": "../../precious.bin", "entries": {}})
    ),
    "entries of impossible places": lambda store: manifest_file(store).write_text(
        json.dumps({"data": data_file(store).name, "entries": {"key 0": [10**17, [10**9, 10**9], 1, {}]}})
    ),
    "entries swapped": lambda store: manifest_file(store).write_text(
        manifest_file(store)
        .read_text()
        .replace("key 1", "x")
        .replace("key 2", "key 1")
        .replace('"x"', '"key 2"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    precious = tmp_path / "precious.bin"
    precious.write_bytes(b"precious")
    DAMAGES[damage](fill(tmp_path / "a" / "b"))
    store = ArrayStore(tmp_path / "a" / "b", "noise")
    check_whole(store, [key for key in ARRAYS if store.get(key) is not None])
    assert bool(store.problems) == (damage != "manifest gone")
    check_whole(fill(tmp_path / "a" / "b"))
    again = ArrayStore(tmp_path / "a" / "b", "noise")
    check_whole(again)
    assert again.problems == []
    assert precious.read_bytes() == b"precious"


_KILLED = """
import os, signal, sys
import numpy as np
from abaw_emi.core import store as room
from tests.core.test_store import ARRAYS, RECORDS, ArrayStore
from pathlib import Path

room.SAVE_SECONDS = 0  # the manifest is saved before each array is added
store = ArrayStore(Path(sys.argv[1]), "noise")
with store.writing():
    for number, (key, array) in enumerate(ARRAYS.items()):
        store.add(key, array, RECORDS[key])
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_what_it_had_not_saved_and_the_next_goes_on(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert done.returncode < 0
    store = ArrayStore(tmp_path, "noise")
    check_whole(store, list(ARRAYS)[:3])
    assert (len(store), store.problems) == (3, [])
    assert data_file(store).stat().st_size == 4 * sum(array.size for array in list(ARRAYS.values())[:4])
    check_whole(fill(tmp_path))
    assert data_file(store).stat().st_size == 4 * sum(array.size for array in ARRAYS.values())
    check_whole(store, list(ARRAYS)[:3])  # and who had it open still reads the same


def test_an_error_in_the_middle_keeps_what_was_added(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path, "noise")
    with pytest.raises(KeyboardInterrupt), store.writing():  # noqa: PT012
        store.add("key 0", ARRAYS["key 0"], RECORDS["key 0"])
        raise KeyboardInterrupt
    check_whole(ArrayStore(tmp_path, "noise"), ["key 0"])


def test_a_store_that_is_deleted_is_still_read_and_written_by_who_has_it_open(tmp_path: Path) -> None:
    store = ArrayStore(tmp_path, "noise")
    with store.writing():
        store.add("key 0", ARRAYS["key 0"], RECORDS["key 0"])
        shutil.rmtree(store.folder)
        store.add("key 1", ARRAYS["key 1"], RECORDS["key 1"])
    check_whole(fill(tmp_path))  # another begins anew
    check_whole(store, ["key 0", "key 1"])
    check_whole(ArrayStore(tmp_path, "noise"))


def test_what_could_not_be_saved_is_not_lost_when_others_write_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"key 0": ARRAYS["key 0"]})
    store = ArrayStore(tmp_path, "noise")
    with monkeypatch.context() as patch:

        def fail(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(store_room, "write_manifest", fail)
        with pytest.raises(OSError, match="No space left"), store.writing():  # noqa: PT012
            store.add("key 1", ARRAYS["key 1"], RECORDS["key 1"])
            store.add("key 2", ARRAYS["key 2"], RECORDS["key 2"])
    fill(tmp_path, {f"other {number}": np.zeros(90, np.float32) for number in range(5)})
    check_whole(store, ["key 0", "key 1", "key 2"])


def test_the_last_gigabytes_of_a_disk_are_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_room, "RESERVE_BYTES", 2**60)
    with pytest.raises(OSError, match="are free"):
        fill(tmp_path)
    assert len(ArrayStore(tmp_path, "noise")) == 0


def test_another_process_that_writes_is_waited_for_and_then_found(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.core.test_store import *\n"
        "store = ArrayStore(Path(sys.argv[1]), 'noise')\n"
        "with store.writing():\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(1)\n"
        "    for key in ARRAYS: store.add(key, ARRAYS[key], RECORDS[key])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        waited: list[str] = []
        store = ArrayStore(tmp_path, "noise")
        assert len(store) == 0
        with store.writing(lambda: waited.append("waited")):
            check_whole(store)
        assert waited == ["waited"]
    assert other.returncode == 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_what_was_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    block = np.zeros(500_000, np.float32)
    fill(tmp_path, {f"{number}": block + number for number in range(60)})
    out = np.empty_like(block)
    store = ArrayStore(tmp_path, "noise")
    before = resident()
    for number in range(60):
        stored = store.get(f"{number}")
        assert stored is not None
        stored.read_into(out)
        assert out[0] == out[-1] == number
    assert resident() - before < 12e6  # of 120 MB
