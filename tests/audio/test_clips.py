import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from abaw_emi.audio.clips import read_clip, read_clips
from abaw_emi.audio.formats import sniff
from abaw_emi.core.errors import ClipError
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles, find_clips
from tests.media import (
    PITCH,
    peak_hz,
    tones,
    write_container,
    write_mp3,
    write_untold_mp3,
)


def audio_clip(path: Path) -> ClipFiles:
    return ClipFiles(filename=path.stem, audio=path)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_sound_of_any_rate_comes_out_at_16_khz_with_its_length_and_pitch(
    tmp_path: Path, rate: int, suffix: str
) -> None:
    path = tmp_path / f"00001{suffix}"
    (write_mp3 if suffix == ".mp3" else soundfile.write)(path, tones(2, rate), rate)
    clip = read_clip(audio_clip(path))
    assert (clip.filename, clip.source, clip.warnings) == ("00001", path, ())
    assert clip.waveform.shape == (32_000,)
    assert clip.waveform.dtype == np.float32
    assert peak_hz(clip.waveform) == pytest.approx(PITCH, abs=1)
    # The whole signal, not its pitch alone; LAME lowers the level by 5 %.
    middle = slice(1_600, -1_600)
    assert clip.waveform[middle] == pytest.approx(tones(2)[middle], abs=0.025)


@pytest.mark.parametrize(
    ("suffix", "video", "audio", "rate"),
    [
        (".mp4", "libx264", "aac", 44_100),
        (".mp4", "libx264", "aac", 48_000),
        (".webm", "libvpx", "libopus", 48_000),
        (".m4a", None, "aac", 16_000),
        (".mkv", "libx264", "pcm_s16le", 44_100),
        (".mov", "libx264", "pcm_u8", 16_000),
    ],
)
def test_stereo_sound_tracks_are_averaged_with_a_gain_of_one(
    tmp_path: Path, suffix: str, video: str | None, audio: str, rate: int
) -> None:
    mono = tones(2, rate)
    path = write_container(
        tmp_path / f"00001{suffix}", np.stack([mono, mono], 1), rate, video=video, audio=audio
    )
    clip = read_clip(ClipFiles(filename="00001", video=path))
    assert clip.waveform.size == pytest.approx(32_000, abs=1_000)  # AAC fills up its last frame
    heard = clip.waveform[3_200:28_800]
    assert peak_hz(heard) == pytest.approx(PITCH, abs=1)
    assert heard.std() / tones(2)[3_200:28_800].std() == pytest.approx(1, abs=0.03)


def test_the_downmix_is_the_mean_of_unlike_channels(tmp_path: Path) -> None:
    left, right = tones(1), np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
    soundfile.write(tmp_path / "00001.wav", np.stack([left, right], 1), 16_000, subtype="FLOAT")
    clip = read_clip(audio_clip(tmp_path / "00001.wav"))
    assert clip.waveform == pytest.approx((left + right) / 2, abs=1e-6)


@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".flac"])
def test_a_long_clip_is_cut_and_its_later_part_is_not_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"00001{suffix}"
    (write_mp3 if suffix == ".mp3" else soundfile.write)(path, tones(40), 16_000)
    whole = path.read_bytes()
    keep = len(whole) // 2
    path.write_bytes(whole[:keep] + np.random.default_rng(0).bytes(1_000))
    clip = read_clip(audio_clip(path))
    assert clip.waveform.shape == (192_000,)
    assert clip.waveform.base is None
    assert read_clip(audio_clip(path), 0.5).waveform.shape == (8_000,)
    with pytest.raises(ClipError, match="00001"):  # so the later part is indeed broken
        read_clip(audio_clip(path), 40)


def test_a_long_video_is_cut_and_its_later_part_is_not_read(tmp_path: Path) -> None:
    path = write_container(tmp_path / "00001.mp4", tones(40, 48_000), options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    files = ClipFiles(filename="00001", video=path)
    assert read_clip(files).waveform.shape == (192_000,)
    with pytest.raises(ClipError, match="00001"):
        read_clip(files, 40)


def test_a_variable_rate_mp3_that_does_not_tell_its_length_is_read_whole(tmp_path: Path) -> None:
    quiet_then_loud = tones(20) * np.repeat(np.float32([0.01, 1]), 160_000)
    path = write_untold_mp3(tmp_path / "00001.mp3", quiet_then_loud)
    # libsndfile trusts an estimate here; the encoder adds up to three frames of padding.
    assert read_clip(audio_clip(path), 30).waveform.size == pytest.approx(320_000, abs=3 * 1_152)


@pytest.mark.parametrize(
    ("samples", "rate", "enough"),
    [(399, 16_000, False), (400, 16_000, True), (399, 44_100, False), (1_103, 44_100, True)],
)
def test_a_clip_must_hold_400_samples_after_resampling(
    tmp_path: Path, samples: int, rate: int, enough: bool
) -> None:
    path = tmp_path / "00001.wav"
    soundfile.write(path, tones(1, rate)[:samples], rate)
    if enough:
        assert read_clip(audio_clip(path)).waveform.size == 400
    else:
        with pytest.raises(ClipError, match=r"00001\.wav: is too short: \d+ samples at 16000 Hz"):
            read_clip(audio_clip(path))


def test_the_shortest_official_clip_of_64_ms_is_read(tmp_path: Path) -> None:
    path = write_mp3(tmp_path / "00001.mp3", tones(0.064))
    assert read_clip(audio_clip(path)).waveform.size == 1_024


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_a_constant_waveform_is_silent_with_a_warning(tmp_path: Path, level: float) -> None:
    path = tmp_path / "00001.wav"
    soundfile.write(path, np.full(16_000, level), 16_000)
    clip = read_clip(audio_clip(path))
    assert clip.silent
    assert [str(warning) for warning in clip.warnings] == [f"{path}: is silent"]


def test_a_missing_sound_file_is_replaced_by_the_video_with_a_warning(data: Path, good_mp4: bytes) -> None:
    (data / "raw" / "00001.mp4").write_bytes(good_mp4)
    clip = read_clip(find_clips(data)["00001"])
    assert clip.fallback == "missing"
    assert clip.waveform.size == pytest.approx(48_000, abs=1_000)
    (warning,) = read_clips(["00001"], find_clips(data)).warnings
    assert warning.where == "1 clips"
    assert warning.found == "no sound file, read from their videos: 00001"


@pytest.mark.parametrize("broken", ["empty", "too short"])
def test_a_broken_sound_file_is_replaced_by_the_video_and_named(
    data: Path, good_mp4: bytes, broken: str
) -> None:
    audio = data / "audio" / "00001.wav"
    if broken == "empty":
        audio.touch()
    else:
        soundfile.write(audio, tones(0.01), 16_000)
    (data / "raw" / "00001.mp4").write_bytes(good_mp4)
    clip = read_clip(find_clips(data)["00001"])
    assert clip.fallback == "broken"
    (warning,) = clip.warnings
    assert warning.where == str(audio)
    assert broken in warning.found


def test_when_sound_file_and_video_fail_both_are_named(data: Path) -> None:
    audio, video = data / "audio" / "00001.mp3", data / "raw" / "00001.mp4"
    audio.touch()
    video.write_text("<!DOCTYPE html><html>Please sign in</html>")
    with pytest.raises(ClipError) as caught:
        read_clip(find_clips(data)["00001"])
    assert [problem.where for problem in caught.value.problems] == [str(audio), str(video)]


@pytest.fixture
def mixed(data: Path, good_mp3: bytes, good_mp4: bytes) -> Path:
    """Clip 1 and 5 are good, 2 is broken, 3 has a video only, 4 has nothing."""
    for filename, content in (("00001", good_mp3), ("00002", b""), ("00005", good_mp3)):
        (data / "audio" / f"{filename}.mp3").write_bytes(content)
    (data / "raw" / "00003.mp4").write_bytes(good_mp4)
    return data


IDS = ("00005", "00004", "00003", "00002", "00001")


def test_reading_many_names_every_bad_clip_at_once(mixed: Path) -> None:
    assert [problem.where for problem in read_clips(IDS, find_clips(mixed)).problems] == [
        "clip 00004",
        str(mixed / "audio" / "00002.mp3"),
    ]


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_wrong_with_a_whole_folder_is_one_line(data: Path, missing: bool) -> None:
    ids = [f"{number:05}" for number in range(300)]
    for filename in [] if missing else ids:
        (data / "audio" / f"{filename}.mp3").write_text("version https://git-lfs.github.com/spec/v1")
    read = read_clips(ids, find_clips(data))
    (problem,) = read.problems
    assert re.match(r"300 clips, as .*00000.*: 00000-00299", str(problem))
    assert len(read.skipped) == 300


def test_a_file_that_vanishes_while_it_is_read_is_a_problem_of_its_clip(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(path: Path) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("abaw_emi.audio.clips.hash_file", vanish)
    (problem,) = read_clips(["00001"], find_clips(mixed)).problems
    assert re.search(r"00001\.mp3: cannot be decoded \(FileNotFoundError", str(problem))


def test_a_file_of_a_suffix_that_is_not_read_is_named(data: Path) -> None:
    (data / "audio" / "00001.xyz").write_bytes(b"x")
    (problem,) = read_clips(["00001"], DataFolder(data).find_files(["00001"])).problems
    assert "00001.xyz: the suffix '.xyz' is not read; expected sound or video, such as .mp3" in str(problem)


def test_a_mistyped_suffix_is_suggested() -> None:
    with pytest.raises(ClipError, match=r"'.flacc' is not read.*did you mean .flac\?$"):
        sniff(Path("00001.flacc"))
    with pytest.raises(ClipError) as caught:
        sniff(Path("00001.jpg"))
    assert "did you mean" not in str(caught.value)


def test_skipping_leaves_bad_clips_out_and_counts_the_others(mixed: Path) -> None:
    shown: list[str] = []

    def progress(filenames: Iterable[str]) -> Iterator[str]:
        for filename in filenames:
            shown.append(filename)
            yield filename

    clips = read_clips(IDS, find_clips(mixed), progress=progress)
    assert [clip.filename for clip in clips.clips] == ["00005", "00003", "00001"]
    assert list(clips.skipped) == ["00004", "00002"]
    assert len(clips.problems) == 2
    assert (len(clips.fallbacks("missing")), clips.fallbacks("broken"), clips.silent) == (1, [], 0)
    assert len(clips.warnings) == 1
    assert tuple(shown) == IDS


def test_reading_many_cuts_each(mixed: Path) -> None:
    clips = read_clips(["00001", "00003"], find_clips(mixed), max_seconds=0.5)
    assert [clip.waveform.size for clip in clips.clips] == [8_000, 8_000]
