from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import soundfile

from abaw_emi.audio.cache import ClipCache
from abaw_emi.audio.clips import Clip, Clips, read_clips
from abaw_emi.core.errors import ClipError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.layout import find_clips
from tests.media import tones, write_container, write_mp3

BAD = "00006"


@pytest.fixture
def mixed(data: Path, good_mp4: bytes) -> Path:
    """Every way in which a clip is read: as it should be, quiet, short, silent, from video, not at all."""
    audio, raw = data / "audio", data / "raw"
    write_mp3(audio / "00000.mp3", tones(2))
    soundfile.write(audio / "00001.wav", 0.01 * tones(1.3, 44_100), 44_100, subtype="FLOAT")
    soundfile.write(audio / "00002.wav", np.zeros(8_000), 16_000)
    soundfile.write(audio / "00003.wav", tones(1)[:400], 16_000, subtype="FLOAT")
    (raw / "00004.mp4").write_bytes(good_mp4)
    (audio / "00005.mp3").write_bytes(write_mp3(data / "x.mp3", tones(2)).read_bytes()[:3_000])
    write_container(raw / "00005.mp4", tones(1.5, 48_000))
    (audio / f"{BAD}.mp3").write_bytes(b"")
    (data / "x.mp3").unlink()
    settle(data)
    return data


def settle(folder: Path) -> None:
    """Makes the files a minute older, so that their hashes are remembered."""
    for path in folder.rglob("*.*"):
        os.utime(path, (time.time() - 60,) * 2)


IDS = [f"{number:05}" for number in range(7)]


class Watched(ClipCache):
    """A cache whose warnings are kept, and whose bars are shown by `track`."""

    def __init__(self, folder: Path, track: Callable[..., Iterator[str]] | None = None) -> None:
        self.reporter = Reporter(quiet=True)
        if track is not None:
            self.reporter.track = track  # type: ignore[method-assign]
        super().__init__(self.reporter, folder)

    @property
    def warnings(self) -> list[str]:
        return [str(warning) for warning in self.reporter.warnings]

    @property
    def folder(self) -> Path:
        return self._cache.folder


def read(data: Path, cache: ClipCache, ids: list[str] = IDS, **options: float) -> Clips:
    return cache.read_clips(ids, find_clips(data), **options)  # type: ignore[arg-type]


def check_equal(found: Clips, expected: Clips) -> None:
    assert len(found.clips) == len(expected.clips)
    for clip, other in zip(found.clips, expected.clips, strict=True):
        assert describe(clip) == describe(other)
    assert found.warnings == expected.warnings
    assert dict(found.skipped) == dict(expected.skipped)


def describe(clip: Clip) -> list[object]:
    out = np.full(clip.samples, np.nan, np.float32)
    clip.read_into(out)
    assert out.tobytes() == clip.waveform.tobytes()
    plain = (clip.filename, clip.samples, clip.source, clip.content_hash, clip.fallback, clip.silent)
    warnings = [astuple(warning) for warning in clip.warnings]
    return [*plain, warnings, out.tobytes(), *(moment.tobytes() for moment in clip.moments)]


def uncached(data: Path, ids: list[str] = IDS, **options: float) -> Clips:
    return read_clips(ids, find_clips(data), **options)  # type: ignore[arg-type]


def test_cold_warm_and_without_a_cache_everything_is_the_same(mixed: Path, tmp_path: Path) -> None:
    expected = uncached(mixed)
    assert [clip.filename for clip in expected.clips] == IDS[:-1]
    assert (expected.fallbacks("missing"), expected.fallbacks("broken")) == (["00004"], ["00005"])
    assert expected.silent == 1
    for decoded in (6, 0, 0):
        cache = Watched(tmp_path / "cache")
        check_equal(read(mixed, cache), expected)
        assert (cache.decoded, cache.warnings) == (decoded, [])


def test_nothing_is_ever_written_into_the_data_folder(mixed: Path, tmp_path: Path) -> None:
    before = sorted(mixed.rglob("*"))
    read(mixed, Watched(tmp_path / "cache"))
    assert sorted(mixed.rglob("*")) == before


def test_a_clip_that_cannot_be_read_is_reported_each_time(mixed: Path, tmp_path: Path) -> None:
    for _ in range(2):
        (problem,) = read(mixed, Watched(tmp_path / "cache")).problems
        assert f"{BAD}.mp3: is empty" in str(problem)
    cache = Watched(tmp_path / "cache")
    assert len(read(mixed, cache).clips) == 6
    assert cache.decoded == 0  # an error does not undo what was decoded


def test_a_data_folder_that_moved_is_found_and_its_warnings_name_the_new_place(
    mixed: Path, tmp_path: Path
) -> None:
    read(mixed, Watched(tmp_path / "cache"))
    moved = mixed.rename(tmp_path / "moved")
    cache = Watched(tmp_path / "cache")
    found = read(moved, cache)
    check_equal(found, uncached(moved))
    assert cache.decoded == 0
    assert any(str(moved / "audio" / "00002.wav") in str(warning) for warning in found.warnings)


@pytest.mark.parametrize("sly", [False, True])
def test_a_source_of_the_same_size_and_other_bytes_is_decoded_anew_and_no_other(
    mixed: Path, tmp_path: Path, sly: bool
) -> None:
    read(mixed, Watched(tmp_path / "cache"))
    path = mixed / "audio" / "00003.wav"
    before = path.stat()
    soundfile.write(path, 0.5 * tones(1)[:400], 16_000, subtype="FLOAT")
    assert path.stat().st_size == before.st_size
    if sly:  # the time of the change is put back: its ctime cannot be
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for decoded in (1, 0):
        cache = Watched(tmp_path / "cache")
        check_equal(read(mixed, cache), uncached(mixed))
        assert cache.decoded == decoded


def test_an_unchanged_file_is_hashed_once(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Watched(tmp_path / "cache")
    time.sleep(2.1)  # a file that changed just now might change again within its time stamp
    read(mixed, cache)

    def fail(path: Path) -> str:
        raise AssertionError(f"{path} is hashed again")

    monkeypatch.setattr("abaw_emi.core.hashing.hash_file", fail)
    cache = Watched(tmp_path / "cache")
    assert len(read(mixed, cache, IDS[:4]).clips) == 4
    (cache.folder / "files.json").write_text('{"x": [[1')
    with pytest.raises(AssertionError, match="hashed again"):
        read(mixed, Watched(tmp_path / "cache"), IDS[:4])


def test_a_repaired_sound_file_takes_the_place_of_the_video(mixed: Path, tmp_path: Path) -> None:
    read(mixed, Watched(tmp_path / "cache"))
    write_mp3(mixed / "audio" / "00005.mp3", tones(1))
    cache = Watched(tmp_path / "cache")
    found = read(mixed, cache)
    check_equal(found, uncached(mixed))
    assert (cache.decoded, found.fallbacks("broken")) == (1, [])


def test_a_changed_video_behind_a_broken_sound_file_is_decoded_anew(mixed: Path, tmp_path: Path) -> None:
    read(mixed, Watched(tmp_path / "cache"))
    write_container(mixed / "raw" / "00005.mp4", tones(1.2, 48_000))
    cache = Watched(tmp_path / "cache")
    found = read(mixed, cache)
    check_equal(found, uncached(mixed))
    assert (cache.decoded, found.fallbacks("broken")) == (1, ["00005"])


def test_the_same_bytes_under_another_suffix_are_refused_as_without_a_cache(
    mixed: Path, tmp_path: Path
) -> None:
    read(mixed, Watched(tmp_path / "cache"))
    (mixed / "audio" / "00001.wav").rename(mixed / "audio" / "00001.mp3")
    found = read(mixed, Watched(tmp_path / "cache"))
    check_equal(found, uncached(mixed))
    assert "00001" in found.skipped


def test_each_length_has_entries_of_its_own(mixed: Path, tmp_path: Path) -> None:
    for seconds, decoded in ((12.0, 6), (0.5, 6), (12, 0), (0.5, 0)):
        cache = Watched(tmp_path / "cache")
        check_equal(read(mixed, cache, max_seconds=seconds), uncached(mixed, max_seconds=seconds))
        assert cache.decoded == decoded


def entry(cache: Watched) -> Path:
    return max(cache.folder.glob("*.array"), key=lambda path: path.stat().st_size)


DAMAGES: dict[str, Callable[[Watched], object]] = {
    "one bit": lambda cache: overwrite(entry(cache), 5_000, b"\x00"),
    "cut": lambda cache: os.truncate(entry(cache), 10_000),
    "hashes": lambda cache: (cache.folder / "files.json").write_bytes(b"garbage"),
}


def overwrite(path: Path, position: int, content: bytes) -> None:
    whole = path.read_bytes()
    assert whole[position : position + len(content)] != content
    path.write_bytes(whole[:position] + content + whole[position + len(content) :])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_mended_with_a_warning(mixed: Path, tmp_path: Path, damage: str) -> None:
    cache = Watched(tmp_path / "cache")
    read(mixed, cache)
    DAMAGES[damage](cache)
    expected = uncached(mixed)
    mended = Watched(tmp_path / "cache")
    check_equal(read(mixed, mended), expected)
    assert bool(mended.decoded) == bool(mended.warnings) == (damage != "hashes")
    after = Watched(tmp_path / "cache")
    check_equal(read(mixed, after), expected)
    assert (after.decoded, after.warnings) == (0, [])


def test_a_cache_that_is_no_folder_is_done_without_and_says_how_to_have_one(
    mixed: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    cache = Watched(tmp_path / "file")
    check_equal(read(mixed, cache), uncached(mixed))
    (warning,) = cache.warnings
    assert "cannot be written" in warning
    assert "set $ABAW_EMI_CACHE" in warning


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_only_be_read_serves_what_it_holds(mixed: Path, tmp_path: Path) -> None:
    cache = Watched(tmp_path / "cache")
    read(mixed, cache, IDS[:3])
    for path in (cache.folder, *cache.folder.iterdir()):
        path.chmod(0o500)
    try:
        cache = Watched(tmp_path / "cache")
        check_equal(read(mixed, cache, IDS[:3]), uncached(mixed, IDS[:3]))
        assert cache.warnings == []
        check_equal(read(mixed, cache), uncached(mixed))
        assert "cannot be written" in cache.warnings[0]
    finally:
        cache.folder.chmod(0o700)


_FULL = """
import resource, sys
from pathlib import Path
from tests.audio.test_cache import *

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a write across it ends in the middle
cache = Watched(Path(sys.argv[2]))
ids = IDS[::-1]  # the first is the longest
check_equal(read(Path(sys.argv[1]), cache, ids), uncached(Path(sys.argv[1]), ids))
(warning,) = cache.warnings
assert "cannot be written (File too large)" in warning
print(cache.decoded)
"""


def test_a_disk_that_is_full_in_the_middle_stops_nothing(mixed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(mixed), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
    cache = Watched(tmp_path / "cache")
    check_equal(read(mixed, cache), uncached(mixed))
    assert 0 < cache.decoded < 6
    assert cache.warnings == []


def test_a_cache_that_is_deleted_while_in_use_is_still_read(mixed: Path, tmp_path: Path) -> None:
    found = read(mixed, Watched(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache")
    check_equal(found, uncached(mixed))
    check_equal(read(mixed, Watched(tmp_path / "cache")), uncached(mixed))
    check_equal(found, uncached(mixed))


def test_an_interrupted_build_goes_on_where_it_was(mixed: Path, tmp_path: Path) -> None:
    def interrupt(items: Iterable[str], description: str, total: int) -> Iterator[str]:
        for number, item in enumerate(items):
            if number == 3:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        Watched(tmp_path / "cache", interrupt).read_clips(IDS, find_clips(mixed))
    cache = Watched(tmp_path / "cache")
    check_equal(read(mixed, cache), uncached(mixed))
    assert cache.decoded == 3


_BUILD = """
import sys, time
from pathlib import Path
from tests.audio.test_cache import *

def slowly(items, description, total):
    for item in items:
        time.sleep(0.2)
        yield item

cache = Watched(Path(sys.argv[2]), slowly)
found = read(Path(sys.argv[1]), cache)
check_equal(found, uncached(Path(sys.argv[1])))
print(cache.decoded)
"""


def test_processes_that_begin_together_decode_nothing_twice(mixed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BUILD, str(mixed), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    decoded = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(decoded) == 6


def test_a_source_that_changed_is_not_taken_for_an_entry_that_is_gone(mixed: Path, tmp_path: Path) -> None:
    found = read(mixed, Watched(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache")
    write_mp3(mixed / "audio" / "00000.mp3", tones(1))
    with pytest.raises(ClipError, match=r"00000\.mp3: changed while it was in use; start again"):
        found.clips[0].read_into(np.empty(found.clips[0].samples, np.float32))
