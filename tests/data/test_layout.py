from pathlib import Path

import pytest

from abaw_emi.core.errors import CorpusError
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
    for name in ("Thumbs.db", ".00001.mp3", "0001.mp3", "000001.mp3", ARABIC_ONE, "00002.txt", "0000a.mp3"):
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


def test_a_dangling_link_stays_in_the_list(data: Path) -> None:
    (data / "audio" / "00001.mp3").symlink_to(data / "nowhere")
    assert find_clips(data)["00001"].audio == data / "audio" / "00001.mp3"


@pytest.mark.parametrize("is_file", [True, False])
def test_a_data_folder_that_is_none_says_how_to_name_one(tmp_path: Path, is_file: bool) -> None:
    if is_file:
        touch(tmp_path / "data")
    with pytest.raises(CorpusError, match=r"data: .*--data.*ABAW_EMI_DATA"):
        find_clips(tmp_path / "data")
