"""Transcripts: what transformers gives by hand, of the whole clip, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

from abaw_emi.audio.clips import read_sound
from abaw_emi.core.errors import ClipError, FeatureError, UsageError, WeightsError
from abaw_emi.data.folder import DataFolder
from abaw_emi.extraction import whisper as whisper_room
from abaw_emi.extraction.transcribe import Transcription, transcribe
from abaw_emi.extraction.whisper import Decoding
from tests.media import tones, write_container, write_mp3
from tests.small_encoders import write_audio, write_whisper

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = {"00000": 2.0, "00001": 0.6, "00002": 68.0, "00003": 29.0, "00004": 3.0}
"""Seconds; 30 are all that Whisper reads at once."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four MP3s, and an MP4 with sound."""
    root = tmp_path_factory.mktemp("official") / "data"
    (root / "audio").mkdir(parents=True)
    (root / "raw").mkdir()
    noise = np.random.default_rng(0)
    for filename, seconds in LENGTHS.items():
        wave = tones(seconds) * np.linspace(0.2, 1, round(seconds * 16_000), dtype=np.float32)
        wave += (0.1 * noise.random() * noise.standard_normal(wave.size)).astype(np.float32)
        if filename == "00004":
            write_container(root / "raw" / f"{filename}.mp4", wave, 16_000)
        else:
            write_mp3(root / "audio" / f"{filename}.mp3", wave)
    return root


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture
def data(root: Path, tmp_path: Path) -> DataFolder:
    return DataFolder(root, tmp_path / "features")


def run(model: Path, data: DataFolder, **options: Any) -> Transcription:
    return transcribe(str(model), data, out=data.features / "text", **options)


def texts(data: DataFolder) -> dict[str, str]:
    return {
        path.stem: path.read_text(encoding="utf-8") for path in sorted((data.features / "text").glob("*.txt"))
    }


def by_hand(model: Path, root: Path, filename: str, max_seconds: float = 1000.0, **settings: Any) -> str:
    """As transformers' documentation does it, for one clip: a single pass, or its long-form algorithm."""
    folder, suffix = ("raw", "mp4") if filename == "00004" else ("audio", "mp3")
    sound = read_sound(root / folder / f"{filename}.{suffix}", max_seconds).array
    extractor = AutoFeatureExtractor.from_pretrained(model)
    if len(sound) > 30 * 16_000:
        settings |= {"return_timestamps": True}
        inputs = extractor(
            sound, sampling_rate=16_000, return_tensors="pt", truncation=False, padding="longest",
            return_attention_mask=True,
        )  # fmt: skip
    else:
        inputs = extractor(sound, sampling_rate=16_000, return_tensors="pt")
    torch.manual_seed(0)
    loaded = WhisperForConditionalGeneration.from_pretrained(model).eval()
    tokens = loaded.generate(**inputs, **{"language": "en", "task": "transcribe", **settings})
    (text,) = AutoTokenizer.from_pretrained(model).batch_decode(tokens, skip_special_tokens=True)
    return f"{text.strip()}\n"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of the model had."""
    calls: list[int] = []
    work = whisper_room.Whisper._transcribe

    def count(self: Any, clips: Any) -> Any:
        calls.append(len(clips))
        return work(self, clips)

    monkeypatch.setattr(whisper_room.Whisper, "_transcribe", count)
    return calls


@pytest.mark.parametrize("batch", [1, 3])
def test_every_clip_is_transcribed_whole_as_transformers_does_it(
    batch: int, whisper: Path, data: DataFolder, counted: list[int]
) -> None:
    done = run(whisper, data, batch=batch)
    assert counted == ([1, 1, 1, 1, 1] if batch == 1 else [3, 1, 1])
    found = texts(data)
    assert found == {filename: by_hand(whisper, data.root, filename) for filename in LENGTHS}
    assert len(set(found.values())) == len(LENGTHS), "this model does not listen: a test of nothing"
    assert done.written == tuple(LENGTHS)
    assert done.empty == ()


def test_a_long_clip_is_more_than_its_first_segment_and_its_first_12_s(
    whisper: Path, data: DataFolder
) -> None:
    run(whisper, data)
    found = texts(data)["00002"]
    assert len(found) > 1.5 * len(by_hand(whisper, data.root, "00002", 30.0, return_timestamps=True))
    assert found != by_hand(whisper, data.root, "00002", 12.0)


def test_twice_is_the_same_and_the_language_is_a_setting(whisper: Path, data: DataFolder) -> None:
    run(whisper, data)
    first = texts(data)
    run(whisper, data, overwrite=True)
    assert texts(data) == first
    with pytest.raises(FeatureError, match=r"made by .*language en; expected .*language de; .*--overwrite"):
        run(whisper, data, decoding=Decoding(language="German"))
    run(whisper, data, decoding=Decoding(language="de"), overwrite=True)
    assert texts(data)["00000"] == by_hand(whisper, data.root, "00000", language="de") != first["00000"]


def test_a_clip_of_no_speech_is_an_empty_file(whisper: Path, data: DataFolder) -> None:
    every = Decoding(no_speech=0.0, logprob=-0.001)
    done = run(whisper, data, decoding=every)
    assert texts(data) == dict.fromkeys(LENGTHS, "")
    assert done.empty == tuple(LENGTHS)
    assert run(whisper, data, decoding=every).kept == tuple(LENGTHS)


def test_a_run_that_was_stopped_goes_on(
    whisper: Path, data: DataFolder, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(whisper, data)
    whole = texts(data)
    counted.clear()
    with monkeypatch.context() as patch:
        read = whisper_room.read_sounds

        def stop(group: Any) -> Any:
            if len(counted) == 2:
                raise KeyboardInterrupt
            return read(group)

        patch.setattr(whisper_room, "read_sounds", stop)
        with pytest.raises(KeyboardInterrupt):
            run(whisper, data, overwrite=True)
    done_before = len(texts(data))
    assert 0 < done_before < len(LENGTHS)
    counted.clear()
    done = run(whisper, data)
    assert sum(counted) == len(LENGTHS) - done_before == len(done.written)
    assert texts(data) == whole


def test_bad_clips_are_all_named_before_the_model_runs(whisper: Path, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    (data.root / "audio").mkdir(parents=True)
    write_mp3(data.root / "audio" / "00000.mp3", tones(0.5))
    whole = write_mp3(data.root / "audio" / "00001.mp3", tones(20.0)).read_bytes()
    # It breaks off after the 12 s that a model of the challenge hears.
    (data.root / "audio" / "00001.mp3").write_bytes(whole[: len(whole) * 3 // 4])
    (data.root / "audio" / "00002.mp3").write_bytes(b"")
    with pytest.raises(ClipError) as caught:
        run(whisper, data)
    assert len(caught.value.problems) == 2
    assert not data.features.exists()
    assert run(whisper, data, on_bad="skip").skipped == ("00001", "00002")
    assert list(texts(data)) == ["00000"]


def test_models_and_languages_that_do_not_fit_are_refused(
    whisper: Path, data: DataFolder, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="model_type is 'wav2vec2'; expected one of whisper"):
        run(write_audio(tmp_path / "wav2vec2", "wav2vec2"), data)
    with pytest.raises(UsageError, match="--language: 'klingon'; expected auto or one of de, en"):
        run(whisper, data, decoding=Decoding(language="klingon"))
    with pytest.raises(UsageError, match="lies in the data folder"):
        transcribe(str(whisper), data, out=data.root / "text")
    english = write_whisper(tmp_path / "english", english=True)
    with pytest.raises(UsageError, match="knows English alone"):
        run(english, data, decoding=Decoding(language="de"))
    assert not data.features.exists()
    run(english, data)
    assert list(texts(data)) == list(LENGTHS)


def test_the_language_can_be_asked_of_the_model(whisper: Path, data: DataFolder) -> None:
    run(whisper, data, decoding=Decoding(language="auto"))
    found = texts(data)["00001"]
    assert found in {by_hand(whisper, data.root, "00001", language=language) for language in ("en", "de")}
