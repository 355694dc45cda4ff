"""Whatever a file holds, reading it gives a `ClipError` that names it, or the right sound."""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.audio.decode import decode
from abaw_emi.core.errors import ClipError, UsageError
from tests.media import tones, write_container, write_mp3, write_untold_mp3

RANDOM = np.random.default_rng(7).bytes(20_000)


@cache
def good(suffix: str) -> bytes:
    """A whole file of 3 s of `tones`, mono, at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"00000{suffix}"
        match suffix:
            case ".mp3":
                write_mp3(path, tones(3))
            case ".webm":
                write_container(path, tones(3, 48_000), video="libvpx", audio="libopus")
            case ".mp4":
                write_container(path, tones(3, 16_000), 16_000)
            case ".m4a":
                write_container(path, tones(3, 16_000), 16_000, video=None)
            case _:
                soundfile.write(path, tones(3), 16_000)
        return path.read_bytes()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def spoilt(content: bytes) -> bytes:
    """The content with 2,000 random bytes in its middle."""
    middle = len(content) // 2
    return content[:middle] + RANDOM[:2_000] + content[middle + 2_000 :]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "an empty MP3": (".mp3", lambda: b"", "is empty"),
    "an empty video": (".mp4", lambda: b"", "is empty"),
    "text": (".mp3", lambda: "not a sound, naïvely".encode(), "is text, beginning 'not a sound"),
    "a Git LFS pointer": (".mp3", lambda: LFS, "Git LFS pointer.*git lfs pull"),
    "a saved web page": (".mp4", lambda: b"\n<!DOCTYPE html><html></html>", "saved web page"),
    "a zip": (".mp3", lambda: b"PK\x03\x04" + RANDOM, "zip archive"),
    "zeros": (".mp3", lambda: bytes(5_000), "nothing but zero bytes"),
    "random bytes": (".mp3", lambda: b"\x01" + RANDOM, "unknown bytes 01"),
    "random bytes as a video": (".mp4", lambda: b"\x01" + RANDOM, "unknown bytes 01"),
    "an ID3 tag and nothing else": (".mp3", lambda: b"ID3\x03\0\0\0\0\0\x40" + bytes(64), "cannot be opened"),
    "100 bytes of an MP3": (".mp3", lambda: good(".mp3")[:100], "truncated"),
    "half an MP3": (".mp3", lambda: half(good(".mp3")), r"yields 1\.\d+ s; expected 3\.00 s"),
    "an MP3 spoilt in the middle": (".mp3", lambda: spoilt(good(".mp3")), r"damaged after 1\.\d+ s"),
    "a WAV header": (".wav", lambda: good(".wav")[:44], "holds no samples"),
    "half a WAV header": (".wav", lambda: good(".wav")[:20], "cannot be opened"),
    "half a WAV": (".wav", lambda: half(good(".wav")), r"truncated or damaged: it yields 1\.50 s"),
    "half a FLAC": (".flac", lambda: half(good(".flac")), "damaged"),
    "a FLAC spoilt in the middle": (".flac", lambda: spoilt(good(".flac")), "damaged"),
    "half an Ogg": (".ogg", lambda: half(good(".ogg")), "truncated"),
    "half an MP4": (".mp4", lambda: half(good(".mp4")), "cannot be opened"),
    "an MP4 spoilt in the middle": (".m4a", lambda: spoilt(good(".m4a")), "damaged after"),
    "half a WebM": (".webm", lambda: half(good(".webm")), r"truncated or damaged.*expected 3\.\d+ s"),
    "an MP4 named .mp3": (".mp3", lambda: good(".mp4"), "holds MP4 data; expected MP3 data"),
    "a WAV named .mp3": (".mp3", lambda: good(".wav"), "holds WAV data; expected MP3 data"),
    "an MP3 named .mp4": (".mp4", lambda: good(".mp3"), "holds MP3 data; expected MP4 data"),
    "a WebM named .mp4": (".mp4", lambda: good(".webm"), "holds WebM or Matroska data; expected MP4"),
    "a FLAC named .wav": (".wav", lambda: good(".flac"), "holds FLAC data; expected WAV data"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_what_is_wrong_with_it(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    suffix, content, message = BAD[name]
    path = tmp_path / f"00001{suffix}"
    path.write_bytes(content())
    with pytest.raises(ClipError, match=message) as caught:
        decode(path, 12)
    assert [problem.where for problem in caught.value.problems] == [str(path)]
    assert capfd.readouterr() == ("", "")  # no decoder writes past Python


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"00001\.mp3: does not exist"):
        decode(tmp_path / "00001.mp3", 12)


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "00001.mp3").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ClipError, match=r"00001\.mp3: is a link to nothing"):
        decode(tmp_path / "00001.mp3", 12)


def test_a_folder_with_the_name_of_a_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "00001.mp3").mkdir()
    with pytest.raises(ClipError, match=r"00001\.mp3: is not a file"):
        decode(tmp_path / "00001.mp3", 12)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "00001.mp3")
    with pytest.raises(ClipError, match=r"00001\.mp3: is not a file"):
        decode(tmp_path / "00001.mp3", 12)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write_mp3(tmp_path / "00001.mp3", tones(1))
    path.chmod(0)
    with pytest.raises(ClipError, match=r"00001\.mp3: cannot be read \(Permission denied\)"):
        decode(path, 12)


def test_a_suffix_that_is_not_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"00001\.txt: the suffix '\.txt'"):
        decode(tmp_path / "00001.txt", 12)


def test_a_video_without_sound_is_named(tmp_path: Path) -> None:
    path = write_container(tmp_path / "00001.mp4", None)
    with pytest.raises(ClipError, match=r"00001\.mp4: has no sound track"):
        decode(path, 12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers_are_counted_and_placed(tmp_path: Path, value: float) -> None:
    wave = tones(1)
    wave[[100, 200]] = value
    soundfile.write(tmp_path / "00001.wav", wave, 16_000, subtype="FLOAT")
    with pytest.raises(ClipError, match=r"00001\.wav: 2 samples are not numbers.*sample 100"):
        decode(tmp_path / "00001.wav", 12)


def test_lost_pages_of_an_ogg_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "00001.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 160_000), 16_000)
    path.write_bytes(spoilt(path.read_bytes()))
    decoded = decode(path, 12)
    assert decoded.waveform.size < 160_000 - 4_000
    assert [problem.where for problem in decoded.warnings] == [str(path)]


@pytest.mark.parametrize("tag", ["ID3v1", "ID3v2 with a picture", "APE"])
@pytest.mark.parametrize("writer", [write_mp3, write_untold_mp3])
def test_tags_around_an_mp3_are_not_sound(tmp_path: Path, tag: str, writer: Callable[..., Path]) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    plain = decode(path, 12).waveform
    content = path.read_bytes()
    match tag:
        case "ID3v1":
            content += b"TAG" + b"x" * 125
        case "APE":
            header = b"APETAGEX" + (2_000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(16)
            content += header
        case _:
            content = b"ID3\x03\0\0" + bytes([0, 2, 0, 0]) + b"\x89PNG" * 8_192 + content
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path, 12).waveform, plain)


@pytest.mark.parametrize("max_seconds", [0, -1, float("nan"), float("inf")])
def test_the_length_asked_for_must_be_a_positive_number(tmp_path: Path, max_seconds: float) -> None:
    with pytest.raises(UsageError, match="max_seconds"):
        decode(write_mp3(tmp_path / "00001.mp3", tones(1)), max_seconds)


SUFFIXES = st.sampled_from([".mp3", ".wav", ".flac", ".ogg", ".mp4", ".m4a", ".webm"])
WHERE = st.floats(0, 1, exclude_max=True)


def seconds_or_error(suffix: str, content: bytes) -> float | None:
    """Length of what is read of a file of 3 s, or None for a `ClipError` that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"00001{suffix}"
        path.write_bytes(content)
        try:
            decoded = decode(path, 2)
        except ClipError as error:
            if {problem.where for problem in error.problems} != {str(path)}:
                raise AssertionError(f"{error} does not name {path}") from error
            return None
        assert decoded.waveform.dtype == np.float32
        assert np.isfinite(decoded.waveform).all()
        if decoded.warnings:
            return None
        return decoded.waveform.size / decoded.sample_rate


@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".flac", ".ogg", ".mp4", ".m4a", ".webm"])
def test_the_files_that_are_spoilt_here_are_read_when_whole(suffix: str) -> None:
    assert seconds_or_error(suffix, good(suffix)) == 2


@settings(max_examples=150, deadline=None)
@given(SUFFIXES, WHERE)
def test_a_file_cut_anywhere_gives_an_error_or_all_that_was_asked_for(suffix: str, where: float) -> None:
    content = good(suffix)
    seconds = seconds_or_error(suffix, content[: int(where * len(content))])
    assert seconds is None or seconds == pytest.approx(2, abs=0.3)


@settings(max_examples=200, deadline=None)
@given(SUFFIXES, WHERE, st.binary(min_size=1, max_size=3_000))
def test_a_file_overwritten_anywhere_raises_nothing_but_clip_errors(
    suffix: str, where: float, block: bytes
) -> None:
    content = good(suffix)
    at = int(where * len(content))
    seconds = seconds_or_error(suffix, (content[:at] + block + content[at + len(block) :])[: len(content)])
    assert seconds is None or seconds >= 0
