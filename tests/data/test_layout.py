from pathlib import Path

import pytest

from abaw_emi.core.errors import ClipError, CorpusError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import find_clips

ARABIC_ONE = "\u0660\u0660\u0660\u0660\u0661.mp3"


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_clips_of_all_packages_are_found_in_the_order_of_their_ids(data: Path) -> None:
    test_audio = touch(data / "test_data" / "audio" / "00003.wav")
    renamed = touch(data / "test" / "raw" / "00002.webm")
    audio, video = touch(data / "audio" / "00001.MP3"), touch(data / "raw" / "00001.mp4")
    clips = find_clips(data)
    assert list(clips) == ["00001", "00002", "00003"]
    assert (clips["00001"].audio, clips["00001"].video) == (audio, video)
    assert (clips["00002"].audio, clips["00002"].video) == (None, renamed)
    assert (clips["00003"].audio, clips["00003"].video) == (test_audio, None)
    assert all(clip.filename == filename for filename, clip in clips.items())


def test_what_is_no_clip_is_not_listed(data: Path) -> None:
    for name in (
        "Thumbs.db",
        ".00001.mp3",
        "000001b.mp3",
        "123456.mp3",
        ARABIC_ONE,
        "00002.txt",
        "0000a.mp3",
    ):
        touch(data / "audio" / name)
    (data / "audio" / "00003.mp3").mkdir()
    touch(data / "00004.mp3")
    assert find_clips(data) == {}


def test_of_several_files_the_first_suffix_then_the_first_package_wins(data: Path) -> None:
    for name in ("00001.ogg", "00001.wav", "00001.flac"):
        touch(data / "audio" / name)
    touch(data / "test_data" / "audio" / "00001.mp3")
    touch(data / "test" / "audio" / "00002.mp3")
    touch(data / "test_data" / "audio" / "00002.wav")
    clips = find_clips(data)
    assert clips["00001"].audio == data / "audio" / "00001.wav"
    assert clips["00002"].audio == data / "test_data" / "audio" / "00002.wav"


@pytest.mark.parametrize("suffix", [".opus", ".M4A", ".aac", ".wma", ".mka", ".mp4", ".caf", ".amr", ".sph"])
def test_every_suffix_that_is_read_is_found_under_audio_and_raw(data: Path, suffix: str) -> None:
    audio, video = touch(data / "audio" / f"00001{suffix}"), touch(data / "raw" / f"00002{suffix}")
    clips = find_clips(data)
    assert (clips["00001"].audio, clips["00001"].video) == (audio, None)
    assert (clips["00002"].audio, clips["00002"].video) == (None, video)


def test_sound_is_preferred_under_audio_and_video_under_raw(data: Path) -> None:
    for folder in ("audio", "raw"):
        for name in ("00001.webm", "00001.opus"):
            touch(data / folder / name)
    clip = find_clips(data)["00001"]
    assert (clip.audio, clip.video) == (data / "audio" / "00001.opus", data / "raw" / "00001.webm")


def test_ids_are_read_in_any_form_and_five_digits_come_first(data: Path) -> None:
    short, long = touch(data / "audio" / "12.mp3"), touch(data / "audio" / "0000013.mp3")
    touch(data / "audio" / "7.mp3")
    exact = touch(data / "audio" / "00007.mp3")
    clips = find_clips(data)
    assert {filename: clip.audio for filename, clip in clips.items()} == {
        "00007": exact,
        "00012": short,
        "00013": long,
    }


@pytest.mark.parametrize("folder", ["audio", "raw", "test_data/audio"])
def test_clips_one_folder_too_deep_are_said_in_one_line(data: Path, folder: str) -> None:
    for number in range(50):
        touch(data / folder / "audio" / f"{number:05}.mp3")
    with pytest.raises(
        CorpusError, match=r"holds no clip, but audio/ in it holds 50; expected .*; move them up"
    ) as caught:
        find_clips(data)
    assert [problem.where for problem in caught.value.problems] == [str(data / folder)]


def test_every_folder_that_is_one_too_deep_is_named(data: Path) -> None:
    for number, part in enumerate(("a", "a", "b")):
        touch(data / "audio" / part / f"{number:05}.mp3")
    with pytest.raises(CorpusError, match=r"holds no clip, but a/ in it holds 2, b/ in it holds 1; expected"):
        find_clips(data)


def test_clips_in_a_folder_beside_others_are_said_where_clips_are_missing(data: Path) -> None:
    pytest.importorskip("av")
    from abaw_emi.audio.cache import read_split_clips

    touch(data / "audio" / "00001.mp3")
    for number in (1, 2, 3):
        touch(data / "audio" / "b" / f"{number:05}.mp3")
    folder, ids = DataFolder(data), ["00001", "00002", "00004"]
    assert [str(found) for found in folder.find_misplaced(ids)] == [
        f"{data}/audio/b/: holds 2 clips; expected them in {data}/audio/; move them up"
    ]
    assert folder.find_misplaced(["00001", "00004"]) == []
    with pytest.raises(ClipError) as caught:
        read_split_clips(folder, ids[1:], 12, "error", Reporter(quiet=True))
    missing, _, nested = map(str, caught.value.problems)
    assert missing == (
        "clip 00002: has neither a sound file nor a video; expected one of the two; "
        "copy it into audio/ or raw/ of the data folder; --on-bad-clip skip leaves such clips out"
    )
    assert nested.endswith("move them up")


def test_the_folder_of_the_split_files_is_named_where_one_beside_it_is_given(data: Path) -> None:
    touch(data / "audio" / "00001.mp3")
    touch(data / "train_split.csv")
    for wrong in (data.parent, data / "audio"):
        for ask in (lambda folder: folder.files, lambda folder: folder.read_labels("train")):
            with pytest.raises(CorpusError) as caught:
                ask(DataFolder(wrong))
            (problem,) = caught.value.problems
            assert str(problem) == (
                f"{wrong}: no split file, such as train_split.csv; did you mean --data {data}?"
            )


def test_a_folder_beside_clips_is_nobodys_business(data: Path) -> None:
    touch(data / "audio" / "00001.mp3")
    touch(data / "audio" / "old" / "00002.mp3")
    assert list(find_clips(data)) == ["00001"]


def test_a_file_of_a_suffix_that_is_not_read_stands_for_its_clip_if_there_is_no_other(data: Path) -> None:
    unread = touch(data / "audio" / "00001.xyz")
    touch(data / "audio" / "00002.xyz")
    good = touch(data / "raw" / "00002.mp4")
    folder = DataFolder(data)
    assert list(folder.files) == ["00002"]
    files = folder.find_files(["00001", "00002", "00003"])
    assert files["00001"].audio == unread
    assert (files["00002"].audio, files["00002"].video) == (None, good)
    assert "00003" not in files


def test_a_dangling_link_stays_in_the_list(data: Path) -> None:
    (data / "audio" / "00001.mp3").symlink_to(data / "nowhere")
    assert find_clips(data)["00001"].audio == data / "audio" / "00001.mp3"


@pytest.mark.parametrize("is_file", [True, False])
def test_a_data_folder_that_is_none_says_how_to_name_one(tmp_path: Path, is_file: bool) -> None:
    if is_file:
        touch(tmp_path / "data")
    with pytest.raises(CorpusError, match=r"data: .*--data.*ABAW_EMI_DATA"):
        find_clips(tmp_path / "data")
