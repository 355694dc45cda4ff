import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from abaw_emi.core import constants
from abaw_emi.demo.corpus import speak, write_corpus
from abaw_emi.demo.plan import plan_corpus


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[list[str]]:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert tuple(header.split(",")) == constants.COLUMNS
    return [line.split(",") for line in lines]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_corpus(folder, seed=5, train=6, valid=3, test=3)
    return folder


def test_layout_is_the_official_one(small: Path) -> None:
    train = rows(small / "data" / "train_split.csv")
    valid = rows(small / "data" / "valid_split.csv")
    test = rows(small / "truth" / "test_labels.csv")
    assert [row[0] for row in train + valid + test] == [f"{number:05d}" for number in range(12)]
    for split, home in ((train + valid, small / "data"), (test, small / "data" / "test_data")):
        for name, *_ in split:
            assert (home / "audio" / f"{name}.mp3").is_file() != (home / "raw" / f"{name}.mp4").is_file()
    assert not list((small / "data").rglob("*test*.csv"))


def test_odd_clips_are_there(small: Path) -> None:
    audio = small / "data" / "audio"
    assert soundfile.info(audio / "00001.mp3").frames == 1_024
    assert soundfile.info(audio / "00002.mp3").duration > 12
    assert (soundfile.info(audio / "00003.mp3").samplerate, soundfile.info(audio / "00003.mp3").channels) == (
        44_100,
        2,
    )
    assert (small / "data" / "raw" / "00000.mp4").is_file()


def test_same_arguments_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path, seed=5, train=6, valid=3, test=3)
    assert contents(tmp_path) == contents(small)


def test_sound_and_labels_are_what_they_were_before_there_were_faces_and_words(small: Path) -> None:
    hashes = {
        "data/train_split.csv": "b7888a3c04ecec2ae22a0ae703c9ff88d57f9f6da0fca4b2050099953e84af55",
        "data/valid_split.csv": "7db830befe25db5c23048ece7ed58b37dfebb0f38d31e7ba995e7cebe96f2d9d",
        "truth/test_labels.csv": "8c1f0f68ba58056f7a796c05d199a0142d66e10bc48760135d71ac323e8cce84",
    }
    assert {name: hashlib.sha256((small / name).read_bytes()).hexdigest() for name in hashes} == hashes
    # Samples, not the bytes of an mp3, which belong to an encoder's version.
    clip = next(plan_corpus(seed=5, train=6, valid=3, test=3))
    samples = [0.000101, 0.207958, -0.006481, 0.264979, 0.039186, 0.091451, 0.000444, 0.000357, 0.171114]
    assert speak(clip, seed=5)[4_000:40_000:4_000].tolist() == pytest.approx(samples, abs=1e-5)


def test_a_clip_does_not_depend_on_those_before_it() -> None:
    clips = list(plan_corpus(seed=2, train=4, valid=1, test=1))
    alone = speak(clips[3], seed=2)
    in_turn = [speak(clip, seed=2) for clip in clips]
    assert alone.tobytes() == in_turn[3].tobytes()


def test_labels_are_shares_of_votes_with_many_zeros_and_speakers_stay_in_their_split() -> None:
    clips = list(plan_corpus(seed=1, train=400, valid=80, test=80))
    intensities = np.stack([clip.intensities for clip in clips])
    assert intensities.min() == 0.0
    assert intensities.sum(1).max() <= 1 + 1e-12
    assert all(0.4 < share < 0.6 for share in (intensities == 0).mean(0))
    for value in intensities.ravel():
        assert abs(float(Fraction(value).limit_denominator(20)) - value) < 1e-12
    casts = [{clip.speaker for clip in clips if clip.split == split} for split in constants.SPLITS]
    assert sum(map(len, casts)) == len(set.union(*casts)) >= 30


def test_loudness_carries_nothing() -> None:
    clips = [clip for clip in plan_corpus(seed=1, train=150, valid=0, test=0) if clip.form == "plain"]
    levels = [np.log(np.sqrt(np.mean(speak(clip, seed=1).astype(float) ** 2))) for clip in clips]
    for column in np.stack([clip.intensities for clip in clips]).T:
        assert abs(np.corrcoef(levels, column)[0, 1]) < 0.3  # 3.4 standard errors of 130 clips
