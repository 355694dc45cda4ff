import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from abaw_emi.core import constants
from abaw_emi.demo.baseline import describe_sound, fit_ridge, log_mel_statistics
from abaw_emi.demo.corpus import speak, write_corpus
from abaw_emi.demo.modalities import (
    describe_face,
    describe_words,
    draw_face,
    encode_jpeg,
    move_face,
    transcribe,
)
from abaw_emi.demo.plan import DemoClip, plan_corpus
from abaw_emi.evaluation.score import mean_pearson
from abaw_emi.features.files import find_features, read_array

COUNTS = {"train": 6, "valid": 3, "test": 3}
CLIPS = {clip.name: clip for clip in plan_corpus(seed=5, **COUNTS)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_corpus(folder, seed=5, **COUNTS, sound_features=True)
    return folder


def home(folder: Path, clip: DemoClip) -> Path:
    return folder / "data" / "test_data" if clip.split == "test" else folder / "data"


def stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def test_a_file_for_each_clip_that_has_the_modality_and_none_for_another(small: Path) -> None:
    for is_test in (False, True):
        clips = [clip for clip in CLIPS.values() if (clip.split == "test") == is_test]
        data = home(small, clips[0])
        assert stems(data / "vit") == {clip.name for clip in clips if clip.is_seen}
        assert stems(data / "wav2vec2") == {clip.name for clip in clips}
        assert stems(data / "face_images") == {clip.name for clip in clips if clip.has_pictures}
    features = small / "features"
    assert stems(features / "gte") == {clip.name for clip in CLIPS.values() if clip.is_said}
    assert stems(features / "text") == set(CLIPS)
    for clip in CLIPS.values():
        assert bool((features / "text" / f"{clip.name}.txt").read_bytes()) == clip.is_said


def test_some_clips_of_every_split_lack_a_modality_and_of_large_ones_both() -> None:
    for split in constants.SPLITS:
        small_clips = [clip for clip in CLIPS.values() if clip.split == split]
        assert any(not clip.is_seen for clip in small_clips)
        assert any(not clip.is_said for clip in small_clips)
    clips = list(plan_corpus(seed=1, train=400, valid=80, test=80))
    for split in constants.SPLITS:
        lacks = [(clip.is_seen, clip.is_said) for clip in clips if clip.split == split]
        assert (False, False) in lacks
        assert 0.8 < lacks.count((True, True)) / len(lacks) < 0.95


def test_features_have_the_official_shapes_and_are_read_as_the_organisers_files_are(small: Path) -> None:
    widths = {
        "vit": constants.FEATURE_WIDTHS["vit"],
        "wav2vec2": constants.FEATURE_WIDTHS["wav2vec2"],
        "gte": 64,
    }
    for folder, width in widths.items():
        files = find_features(small / "data", small / "features", folder)
        assert len(files) >= 9
        for name, path in files.items():
            seconds = CLIPS[name].seconds
            samples = round(seconds * constants.SAMPLE_RATE)
            array = read_array(path)
            assert array.shape[1] == width
            if folder == "vit":
                assert len(array) == max(1, round(6.4 * seconds))
            elif folder == "wav2vec2":
                assert len(array) == (samples - constants.MIN_SAMPLES) // constants.HOP_SAMPLES + 1
            else:
                words = (small / "features" / "text" / f"{name}.txt").read_text().split()
                assert len(array) == 1 + len(words)


@pytest.mark.parametrize(("folder", "dtype"), [("vit", np.float32), ("wav2vec2", np.float16)])
def test_pickles_hold_a_plain_array(small: Path, folder: str, dtype: type) -> None:
    for path in (small / "data" / folder).iterdir():
        content = path.read_bytes()
        names = {
            str(value) for code, value, _ in pickletools.genops(content) if code.name == "SHORT_BINUNICODE"
        }
        assert {name.split(".")[0] for name in names if "." in name} == {"numpy"}
        array = pickle.loads(content)
        assert type(array) is np.ndarray
        assert array.dtype == dtype


def test_pictures_are_numbered_one_a_frame_beside_what_is_no_picture(small: Path) -> None:
    for clip in filter(lambda clip: clip.has_pictures, CLIPS.values()):
        folder = home(small, clip) / "face_images" / clip.name
        if not clip.is_seen:
            assert not list(folder.iterdir())
            continue
        frames = max(1, round(6.4 * clip.seconds))
        names = {path.name for path in folder.iterdir()}
        assert names == {f"{number}.jpg" for number in range(frames)} | {"Thumbs.db"}
        with av.open(str(folder / "0.jpg")) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        assert picture.shape == (64, 64, 3)
    folders = (small / "data" / "face_images").iterdir()
    assert any(len(list(folder.iterdir())) > 11 for folder in folders)  # 10.jpg comes after 9.jpg


def test_a_smile_turns_the_corners_of_the_mouth_up() -> None:
    def height(movements: list[float], columns: slice) -> float:
        """Mean row of what is red in a decoded picture's columns."""
        content = encode_jpeg(draw_face(np.array(movements)))
        codec = av.CodecContext.create("mjpeg", "r")
        (frame,) = codec.decode(av.Packet(content))
        picture = frame.to_ndarray(format="rgb24").astype(int)[:, columns]
        rows, _ = np.nonzero((picture[..., 0] > 110) & (picture[..., 1] < 80))
        return float(rows.mean())

    corner, middle = slice(21, 24), slice(30, 34)
    assert height([1.5, 0, 0, 0], corner) < height([1.5, 0, 0, 0], middle)
    assert height([-1.5, 0, 0, 0], corner) > height([-1.5, 0, 0, 0], middle)


def test_a_picture_and_a_frame_of_features_show_the_same_face() -> None:
    clip = CLIPS["00005"]
    assert len(describe_face(move_face(clip, seed=5), clip, seed=5)) == len(move_face(clip, seed=5))
    merry = replace(clip, latent=np.array([0, 0, 0, 0, 0, 0.9]))
    calm = replace(clip, latent=np.zeros(6))
    change = move_face(merry, seed=5) - move_face(calm, seed=5)
    assert (change[:, 0] > 0).all()
    assert np.allclose(change[:, 1:], 0)


def test_an_emotion_is_put_into_its_own_words() -> None:
    clip = replace(CLIPS["00005"], seconds=6.0)
    sorry = replace(clip, latent=np.array([0, 0, 0, 0.9, 0, 0]))
    assert any(word in transcribe(sorry, seed=5).lower() for word in ("hurt", "sorry", "awful", "poor"))
    silent = transcribe(replace(clip, latent=np.zeros(6)), seed=5).lower()
    assert not any(word in silent for word in ("hurt", "sorry", "awful", "poor", "wonderful", "give up"))


def test_sound_features_do_not_depend_on_loudness() -> None:
    waveform = speak(CLIPS["00005"], seed=5)
    np.testing.assert_allclose(describe_sound(waveform), describe_sound(4 * waveform), atol=5e-3)


def pooled(clips: Sequence[DemoClip], seed: int) -> dict[str, NDArray[np.float64]]:
    """One row (D,) a clip for each modality, NaN where the clip lacks it."""

    def mean(features: NDArray[Any]) -> NDArray[np.float64]:
        return features.astype(np.float64).mean(0)

    said = [transcribe(clip, seed=seed) for clip in clips]
    return {
        "sound": np.stack([log_mel_statistics(speak(clip, seed=seed)) for clip in clips]),
        "vit": np.stack(
            [
                mean(describe_face(move_face(clip, seed=seed), clip, seed=seed))
                if clip.is_seen
                else np.full(384, np.nan)
                for clip in clips
            ]
        ),
        "gte": np.stack(
            [
                mean(describe_words(words, clip, seed=seed)) if words else np.full(64, np.nan)
                for clip, words in zip(clips, said, strict=True)
            ]
        ),
    }


@pytest.mark.exact
def test_no_modality_has_it_all_and_together_they_have_more() -> None:
    count = 200
    clips = list(plan_corpus(seed=1, train=count, valid=100, test=0))
    truth = np.stack([clip.intensities for clip in clips])
    modalities = pooled(clips, seed=1)

    def predict(features: NDArray[np.float64]) -> NDArray[np.float64]:
        filled = np.where(np.isnan(features), np.nanmean(features[:count], axis=0), features)
        return fit_ridge(filled[:count], truth[:count]).predict(filled[count:])

    alone = {name: predict(features) for name, features in modalities.items()}
    scores = {name: mean_pearson(truth[count:], prediction) for name, prediction in alone.items()}
    together = mean_pearson(truth[count:], predict(np.concatenate(list(modalities.values()), axis=1)))
    assert all(0.25 < score < together - 0.06 for score in scores.values()), (scores, together)  # was .13

    def pearson(prediction: NDArray[np.float64], emotions: tuple[str, ...]) -> float:
        columns = [constants.EMOTIONS.index(emotion) for emotion in emotions]
        return float(
            np.mean([np.corrcoef(truth[count:, column], prediction[:, column])[0, 1] for column in columns])
        )

    seen, said = ("Amusement", "Excitement", "Joy"), ("Admiration", "Determination", "Empathic Pain")
    assert pearson(alone["vit"], seen) > pearson(alone["vit"], said) + 0.15
    assert pearson(alone["gte"], said) > pearson(alone["gte"], seen) + 0.15
