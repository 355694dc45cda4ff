"""Features from published encoders: what transformers gives by hand, once, whatever is beside a clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoTokenizer

from abaw_emi.audio.clips import read_sound
from abaw_emi.core.errors import ClipError, CorpusError, EmiError, FeatureError, UsageError, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.shard import Shard
from abaw_emi.extraction import audio, vision
from abaw_emi.extraction import extract as extraction
from abaw_emi.extraction.extract import Extraction, extract
from abaw_emi.features.faces import read_face
from abaw_emi.features.files import find_features, read_array
from tests.foreign_data import write_data
from tests.media import tones, write_container, write_mp3
from tests.small_encoders import (
    VISION_ENCODERS,
    WAVEFORM_ENCODERS,
    write_audio,
    write_text,
    write_vision,
    write_whisper,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = 2e-5
"""Most that a number, of some 1, may differ between a clip alone and the same in company."""

LENGTHS = {"00000": 1.5, "00001": 0.4, "00002": 2.2, "00003": 1.1}

FACES = {"00000": 3, "00001": 12, "00002": 1}

TEXTS = {"00000": "I am so happy\n", "00001": "we did it", "00002": " \n", "00005": "ha " * 20}


def write_face(path: Path, seed: int, size: int = 40) -> Path:
    """A JPEG of coarse noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width = encoder.height = size
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = 1  # type: ignore[assignment]
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(packet) for packet in packets))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four clips: three MP3s and an MP4; faces of three; words in two, one of them without a sound file."""
    root = tmp_path_factory.mktemp("official") / "data"
    (root / "audio").mkdir(parents=True)
    (root / "raw").mkdir()
    noise = np.random.default_rng(0)
    for filename, seconds in LENGTHS.items():
        rate = 48_000 if filename == "00003" else 16_000
        wave = tones(seconds, rate)
        wave += 0.05 * noise.standard_normal(wave.size).astype(np.float32)
        if filename == "00003":
            write_container(root / "raw" / f"{filename}.mp4", wave, rate)
        else:
            write_mp3(root / "audio" / f"{filename}.mp3", wave)
    for filename, count in FACES.items():
        for number in range(count):
            write_face(root / "face_images" / filename / f"{number}.jpg", seed=100 * int(filename) + number)
    (root / "text").mkdir()
    for filename, text in TEXTS.items():
        (root / "text" / f"{filename}.txt").write_text(text, encoding="utf-8")
    before = sorted(root.rglob("*"))
    yield root
    assert sorted(root.rglob("*")) == before, "something was written into the data folder"


@pytest.fixture
def data(root: Path, tmp_path: Path) -> DataFolder:
    return DataFolder(root, tmp_path / "features")


def run(encoder: Path, data: DataFolder, **options: Any) -> Extraction:
    return extract(str(encoder), data, out=data.features, **options)


def read_all(done: Extraction) -> dict[str, np.ndarray]:
    """As training finds and reads them."""
    files = find_features(done.folder.parent / "no data", done.folder.parent, done.folder.name)
    arrays = {filename: np.load(path) for filename, path in files.items()}
    for filename, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, read_array(files[filename]))
    return arrays


def waveform(root: Path, filename: str) -> np.ndarray:
    folder, suffix = ("raw", "mp4") if filename == "00003" else ("audio", "mp3")
    array = read_sound(root / folder / f"{filename}.{suffix}", 12.0).array
    assert isinstance(array, np.ndarray)
    return array


def by_hand(encoder: Path, inputs: Any, layer: int | None = None) -> np.ndarray:
    """What transformers gives, for one clip alone, as its documentation says."""
    model = AutoModel.from_pretrained(encoder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    states = output.last_hidden_state if layer is None else output.hidden_states[layer]
    return states[0].numpy()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips each call of an audio encoder had."""
    calls: list[int] = []
    encode = audio.AudioEncoder.encode

    def count(self: Any, prepared: Any) -> Any:
        calls.append(len(prepared.lengths))
        return encode(self, prepared)

    monkeypatch.setattr(audio.AudioEncoder, "encode", count)
    return calls


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("kind", WAVEFORM_ENCODERS)
def test_sound_gives_what_transformers_gives_each_clip_alone(
    kind: str, layer: int | None, data: DataFolder, tmp_path: Path, counted: list[int]
) -> None:
    encoder = write_audio(tmp_path / kind, kind)
    done = run(encoder, data, layer=layer, batch=3)
    assert (done.kind, done.width, done.rows) == ("audio", 32, "frames")
    assert counted == ([3, 1] if kind in ("wav2vec2", "hubert", "wavlm") else [1, 1, 1, 1])
    found = read_all(done)
    assert list(found) == sorted(LENGTHS)
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    for filename, array in found.items():
        inputs = extractor(waveform(data.root, filename), sampling_rate=16_000, return_tensors="pt")
        expected = by_hand(encoder, {"input_values": inputs.input_values}, layer)
        assert array.shape == expected.shape
        np.testing.assert_allclose(array, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "data2vec"])
def test_these_encoders_would_see_padding_even_with_a_mask(
    kind: str, data: DataFolder, tmp_path: Path
) -> None:
    """Why they run clip by clip: the batch below is what the documentation of transformers shows."""
    encoder = write_audio(tmp_path / kind, kind)
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    short, long = waveform(data.root, "00000"), waveform(data.root, "00002")
    alone = by_hand(encoder, extractor([short], sampling_rate=16_000, return_tensors="pt"))
    together = extractor(
        [short, long], sampling_rate=16_000, return_tensors="pt", padding=True, return_attention_mask=True
    )
    assert np.abs(by_hand(encoder, together)[: len(alone)] - alone).max() > 50 * CLOSE


def test_clips_of_equal_length_run_together_whatever_the_encoder(tmp_path: Path, counted: list[int]) -> None:
    (tmp_path / "data" / "audio").mkdir(parents=True)
    for number, seconds in enumerate((0.5, 0.7, 0.5, 0.5, 0.7)):
        wave = tones(seconds) + 0.01 * number
        write_container(
            tmp_path / "data" / "audio" / f"{number:05}.wav", wave, 16_000, video=None, audio="pcm_s16le"
        )
    encoder = write_audio(tmp_path / "group", "wav2vec2-group")
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    together = read_all(run(encoder, data, batch=8))
    assert counted == [2, 3]
    alone = read_all(run(encoder, data, batch=1, name="alone"))
    assert alone.keys() == together.keys()
    for filename, array in alone.items():
        np.testing.assert_allclose(together[filename], array, rtol=0, atol=CLOSE)


def test_whisper_reads_30_s_and_gives_the_frames_of_the_clip(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_whisper(tmp_path / "whisper")
    done = run(encoder, data, batch=4)
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    for filename, array in read_all(done).items():
        sound = waveform(data.root, filename)
        expected = by_hand(encoder, extractor(sound, sampling_rate=16_000, return_tensors="pt"))
        assert expected.shape == (1500, 16)
        assert len(array) == -(-len(sound) // 320)
        np.testing.assert_allclose(array, expected[: len(array)], rtol=0, atol=CLOSE)
    with pytest.raises(UsageError, match="--max-seconds: 31; expected at most 30"):
        run(encoder, data, name="longer", max_seconds=31)


def test_wav2vec2_bert_reads_a_filter_bank(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "bert", "wav2vec2-bert")
    extractor = AutoFeatureExtractor.from_pretrained(encoder)
    for filename, array in read_all(run(encoder, data, batch=4)).items():
        inputs = extractor(waveform(data.root, filename), sampling_rate=16_000, return_tensors="pt")
        expected = by_hand(encoder, inputs)[: int(inputs.attention_mask.sum())]
        np.testing.assert_allclose(array, expected, rtol=0, atol=CLOSE)


def test_sound_is_cut_and_the_cut_is_a_setting(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    found = read_all(run(encoder, data, max_seconds=0.5))
    assert {filename: len(array) for filename, array in found.items()} == {
        "00000": 24, "00001": 19, "00002": 24, "00003": 24,
    }  # fmt: skip
    with pytest.raises(FeatureError, match=r"made by .*max_seconds 0.5; expected .*max_seconds 12"):
        run(encoder, data)


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("kind", VISION_ENCODERS)
def test_a_face_gives_the_row_that_transformers_gives_it_alone(
    kind: str, layer: int | None, data: DataFolder, tmp_path: Path
) -> None:
    encoder = write_vision(tmp_path / kind, kind)
    done = run(encoder, data, layer=layer, batch=5)
    pooling = {"clip": "pooled", "convnext": "pooled"}.get(kind, "cls")
    if layer is not None:
        pooling = "mean" if kind == "convnext" else "cls"
    assert (done.kind, done.rows) == ("vision", pooling)
    assert done.missing == ("00003",)
    found = read_all(done)
    assert {filename: len(array) for filename, array in found.items()} == FACES
    processor = AutoImageProcessor.from_pretrained(encoder, backend="pil")
    model = AutoModel.from_pretrained(encoder).eval()
    for filename, rows in found.items():
        for number, row in enumerate(rows):  # 10 comes after 9
            picture = read_face(data.root / "face_images" / filename / f"{number}.jpg")
            inputs = processor(picture, input_data_format="channels_last", return_tensors="pt")
            with torch.no_grad():
                output = getattr(model, "vision_model", model)(**inputs, output_hidden_states=True)
            states = output.last_hidden_state if layer is None else output.hidden_states[layer]
            if pooling == "pooled":
                expected = output.pooler_output.flatten()
            else:
                expected = states[0, 0] if pooling == "cls" else states[0].mean((1, 2))
            np.testing.assert_allclose(row, expected.numpy(), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("layer", [None, 0])
def test_a_transcript_gives_a_row_a_token(layer: int | None, data: DataFolder, tmp_path: Path) -> None:
    encoder = write_text(tmp_path / "bert")
    reporter = Reporter(quiet=True)
    done = run(encoder, data, layer=layer, batch=3, reporter=reporter)
    assert (done.kind, done.rows, done.width) == ("text", "tokens", 16)
    found = read_all(done)
    # [CLS] and [SEP] come with the words; 16 tokens are all that this encoder reads.
    assert {filename: len(array) for filename, array in found.items()} == {
        "00000": 6,
        "00001": 5,
        "00005": 16,
    }
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    for filename, array in found.items():
        inputs = tokenizer(TEXTS[filename].strip(), return_tensors="pt", truncation=True)
        np.testing.assert_allclose(array, by_hand(encoder, inputs, layer), rtol=0, atol=CLOSE)
    warnings = "\n".join(map(str, reporter.warnings))
    assert "1 id say more than the 16 tokens that it reads: 00005" in warnings
    assert "2 ids have no word, and so no features: 00002, 00003" in warnings
    assert done.missing == ("00002", "00003")


def test_transcripts_of_transcribe_are_found_beside_those_of_the_data(
    data: DataFolder, tmp_path: Path
) -> None:
    (data.features / "text").mkdir(parents=True)
    (data.features / "text" / "00003.txt").write_text("so happy for you")
    found = read_all(run(write_text(tmp_path / "bert"), data))
    assert {filename: len(array) for filename, array in found.items()} == {
        "00000": 6, "00001": 5, "00003": 6, "00005": 16,
    }  # fmt: skip


def test_a_transcript_that_became_empty_takes_its_features_away(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    (data.root / "text").mkdir(parents=True)
    for filename in ("00000", "00001"):
        (data.root / "text" / f"{filename}.txt").write_text("ha")
    encoder = write_text(tmp_path / "bert")
    assert set(read_all(run(encoder, data))) == {"00000", "00001"}
    (data.root / "text" / "00001.txt").write_text("")
    assert set(read_all(run(encoder, data))) == {"00000"}


def test_a_run_that_was_stopped_goes_on(
    data: DataFolder, tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    whole = read_all(run(encoder, data, name="whole"))
    assert counted == [1, 1, 1, 1]
    counted.clear()
    check = extraction.check_frames

    def stop_at_the_third(*arguments: Any) -> None:
        if len(counted) == 3:
            raise KeyboardInterrupt
        check(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "check_frames", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            run(encoder, data, name="stopped")
    assert len(list((data.features / "stopped").glob("*.npy"))) == 2
    counted.clear()
    done = run(encoder, data, name="stopped")
    assert counted == [1, 1]
    assert (len(done.written), len(done.kept)) == (2, 2)
    found = read_all(done)
    assert found.keys() == whole.keys()
    for filename, array in found.items():
        np.testing.assert_array_equal(array, whole[filename])
    counted.clear()
    done = run(encoder, data, name="stopped")
    assert (counted, len(done.kept)) == ([], 4)


@pytest.mark.exact
def test_after_a_kill_nothing_is_half_there_and_nothing_old_is_kept(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    code = f"""
import os
from pathlib import Path
from abaw_emi.data.folder import DataFolder
from abaw_emi.extraction import output
from abaw_emi.extraction import extract
write, calls = output.write_bytes, []
def kill(path, content):
    calls.append(path)
    if len([path for path in calls if path.suffix == ".npy"]) == 3:
        part = Path(f"{{path}}.1-ab.part")
        part.write_bytes(content[: len(content) // 2])
        os.utime(part, (0, 0))  # long ago: another shard may be writing a new one
        os._exit(9)
    write(path, content)
output.write_bytes = kill
extract.extract({str(encoder)!r}, DataFolder(Path({str(data.root)!r})), out=Path({str(data.features)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False, timeout=120)
    assert done.returncode == 9
    folder = data.features / "encoder"
    assert len(list(folder.glob("*.npy"))) == 2
    assert set(read_all(run(encoder, data))) == set(LENGTHS)
    assert not list(folder.glob("*.part"))
    record = json.loads((folder / "extraction.json").read_text())
    assert set(record["clips"]) == set(LENGTHS)


def test_a_clip_whose_source_changed_is_made_again(tmp_path: Path, counted: list[int]) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    (data.root / "audio").mkdir(parents=True)
    for number in range(3):
        write_mp3(data.root / "audio" / f"{number:05}.mp3", tones(0.5 + 0.1 * number))
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    run(encoder, data)
    counted.clear()
    write_mp3(data.root / "audio" / "00001.mp3", tones(1.5))
    (data.features / "encoder" / "00002.npy").unlink()
    done = run(encoder, DataFolder(data.root, data.features))
    assert done.written == ("00001", "00002")
    assert len(read_all(done)["00001"]) > 70


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer": 1}, r"made by .*layer None; expected .*layer 1; give another"),
        ({"encoder": "other"}, r"made by .*encoder \(weights \w{12}\); expected .*other \(weights \w{12}\)"),
    ],
)
def test_another_encoder_is_refused_by_name_and_overwrite_makes_it_anew(
    data: DataFolder, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    before = read_all(run(encoder, data, name="x"))
    (data.features / "x" / "00009.npy").write_bytes(b"of another data folder")
    options = {"name": "x", **change}
    if "encoder" in options:
        options["encoder"] = write_audio(tmp_path / "other", "wav2vec2", seed=1)
    options = {"encoder": encoder, **options}
    with pytest.raises(FeatureError, match=told):
        run(data=data, **options)
    done = run(data=data, overwrite=True, **options)
    after = read_all(done)
    assert after.keys() == before.keys()
    assert not any(np.array_equal(after[filename], before[filename]) for filename in after)


def test_the_same_weights_in_another_folder_are_the_same_encoder(
    data: DataFolder, tmp_path: Path, counted: list[int]
) -> None:
    run(write_audio(tmp_path / "encoder", "wav2vec2"), data, name="x")
    (tmp_path / "encoder").rename(tmp_path / "moved")
    counted.clear()
    assert len(run(tmp_path / "moved", data, name="x").kept) == 4
    assert counted == []


def test_the_record_says_what_made_the_features_and_of_what(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "hubert")
    run(encoder, data, layer=2)
    record = json.loads((data.features / "encoder" / "extraction.json").read_text())
    assert record["settings"]["encoder"]["name"] == str(encoder)
    assert set(record["settings"]["encoder"]["files"]) == {
        "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    shown = {key: record["settings"][key] for key in ("kind", "layer", "precision", "max_seconds")}
    assert shown == {"kind": "audio", "layer": 2, "precision": "fp32", "max_seconds": 12.0}
    assert record["versions"]["transformers"]
    assert record["clips"]["00000"] == read_sound(data.root / "audio" / "00000.mp3", 1).source_hash


def test_an_encoder_of_the_hubs_cache_goes_by_the_end_of_its_id(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--somebody--hubert-mini"
    encoder = write_audio(repository / "snapshots" / commit, "hubert")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    # As older repositories have it: no safetensors.
    torch.save(load_file(encoder / "model.safetensors"), encoder / "pytorch_model.bin")
    (encoder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = extract("somebody/hubert-mini", data, out=data.features)
    assert done.folder == data.features / "hubert-mini"
    assert (done.encoder["revision"], done.encoder["commit"]) == ("main", commit)
    assert "pytorch_model.bin" in done.encoder["files"]
    found = read_all(done)
    other = read_all(run(write_audio(tmp_path / "plain", "hubert"), data))
    for filename in LENGTHS:
        np.testing.assert_array_equal(found[filename], other[filename])


def test_every_bad_picture_is_named_before_the_encoder_runs(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    for filename in ("00000", "00001", "00002"):
        write_face(data.root / "face_images" / filename / "0.jpg", seed=1)
    whole = write_face(data.root / "face_images" / "00000" / "1.jpg", seed=2).read_bytes()
    (data.root / "face_images" / "00000" / "1.jpg").write_bytes(whole[:-50])
    (data.root / "face_images" / "00002" / "3.jpg").write_bytes(b"<html>")
    encoder = write_vision(tmp_path / "vit", "vit")
    with pytest.raises(FeatureError) as caught:
        run(encoder, data)
    assert [problem.where.rpartition("face_images")[2] for problem in caught.value.problems] == [
        "/00000/1.jpg", "/00002/3.jpg",
    ]  # fmt: skip
    assert not data.features.exists()
    done = run(encoder, data, on_bad="skip")
    assert (done.skipped, list(read_all(done))) == (("00000", "00002"), ["00001"])


def test_faces_that_are_done_are_not_decoded_again(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_vision(tmp_path / "vit", "vit")
    run(encoder, data)
    decoded: list[Path] = []
    monkeypatch.setattr(vision, "read_face", lambda path: decoded.append(path))
    assert len(run(encoder, data).kept) == 3
    assert decoded == []


def test_a_clip_without_sound_is_a_bad_clip(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    (data.root / "audio").mkdir(parents=True)
    write_mp3(data.root / "audio" / "00000.mp3", tones(0.5))
    (data.root / "audio" / "00001.mp3").write_bytes(b"")
    (data.root / "audio" / "00002.mp3").write_bytes(b"text")
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    with pytest.raises(ClipError) as caught:
        run(encoder, data)
    assert len(caught.value.problems) == 2
    assert run(encoder, data, on_bad="skip").skipped == ("00001", "00002")


def test_a_split_is_its_clips_alone(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", train=3, valid=2, test=2)
    data = DataFolder(root, tmp_path / "features")
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    assert run(encoder, data, split="valid").written == ("00003", "00004")
    assert run(encoder, data, split="test").written == ("00005", "00006")
    assert run(encoder, data).written == ("00000", "00001", "00002")


def test_what_cannot_be_meant_is_refused(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    for name in ("text", "..", "a/b", ""):
        with pytest.raises(UsageError, match="--name"):
            run(encoder, data, name=name)
    with pytest.raises(UsageError, match="lies in the data folder"):
        extract(str(encoder), data, out=data.root / "features")
    with pytest.raises(UsageError, match=r"--layer: 3; expected 0 to 2"):
        run(encoder, data, layer=3)
    with pytest.raises(WeightsError, match=r"neither in the hub's local cache|neither a folder nor a hub id"):
        run(tmp_path / "nowhere", data)
    with pytest.raises(WeightsError, match=r"Tokenizer cannot be loaded|does not run"):
        run(encoder, data, kind="text")
    assert not data.features.exists()


def test_files_that_nothing_here_made_are_left_alone(data: DataFolder, tmp_path: Path) -> None:
    folder = data.features / "encoder"
    folder.mkdir(parents=True)
    (folder / "00000.npy").write_bytes(b"somebody's")
    for overwrite in (False, True):
        with pytest.raises(FeatureError, match="holds 1 files that abaw-emi did not make"):
            run(write_audio(tmp_path / "encoder", "wav2vec2"), data, overwrite=overwrite)
    assert (folder / "00000.npy").read_bytes() == b"somebody's"


def test_no_second_file_is_written_for_features_that_the_data_brings(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    write_face(data.root / "face_images" / "00000" / "0.jpg", seed=1)
    (data.root / "vit").mkdir()
    (data.root / "vit" / "00000.pkl").touch()
    with pytest.raises(UsageError, match="--name vit: 1 id have vit features in the data folder: 00000"):
        run(write_vision(tmp_path / "vit", "vit"), data)


def test_a_checkpoint_that_lacks_weights_is_refused(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    weights = load_file(encoder / "model.safetensors")
    lost = next(name for name in weights if "layers.1.attention.q_proj" in name)
    del weights[lost]
    save_file(weights, encoder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing weights \(1\): .*layers\.1\.attention\.q_proj"):
        run(encoder, data)
    assert not data.features.exists()


def test_code_that_a_model_folder_brings_is_not_run(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_text(tmp_path / "bert")
    config = json.loads((encoder / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Config"}, "model_type": "evil"}
    (encoder / "config.json").write_text(json.dumps(config))
    (encoder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(EmiError):
        run(encoder, data, kind="text")
    assert not (tmp_path / "ran").exists()


def test_numbers_that_are_none_are_an_error_that_names_the_clip(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = audio.AudioEncoder.encode
    broken = lambda self, prepared: [array * np.nan for array in encode(self, prepared)]  # noqa: E731
    monkeypatch.setattr(audio.AudioEncoder, "encode", broken)
    with pytest.raises(FeatureError, match="clip 00002: the encoder gives numbers that are NaN"):
        run(write_audio(tmp_path / "encoder", "wav2vec2"), data)


def test_a_batch_that_does_not_fit_runs_in_halves(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    expected = read_all(run(encoder, data, batch=1, name="alone"))
    encode, sizes = audio.AudioEncoder.encode, []

    def short_of_memory(self: Any, prepared: Any) -> Any:
        sizes.append(len(prepared.lengths))
        if len(prepared.lengths) > 1:
            raise torch.OutOfMemoryError
        return encode(self, prepared)

    monkeypatch.setattr(audio.AudioEncoder, "encode", short_of_memory)
    found = read_all(run(encoder, data, batch=4))
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    for filename, array in expected.items():
        np.testing.assert_allclose(found[filename], array, rtol=0, atol=CLOSE)


def test_two_processes_do_not_write_one_folder(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    (data.features / "encoder").mkdir(parents=True)
    with (
        FileLock(data.features / "encoder" / ".lock"),
        pytest.raises(FeatureError, match="another process is writing there"),
    ):
        run(encoder, data)


def test_shards_write_one_folder_together(
    data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    expected = read_all(run(encoder, data, name="whole"))
    write, inner = extraction.ClipFolder.write, []

    def write_while_another_works(self: Any, filename: str, source_hash: str, content: bytes) -> None:
        if not inner:  # the whole second shard, before the first one has written anything
            inner.append(Shard(2, 2))
            inner.append(run(encoder, data, name="shared", shard=inner[0]))
        write(self, filename, source_hash, content)

    monkeypatch.setattr(extraction.ClipFolder, "write", write_while_another_works)
    first = run(encoder, data, name="shared", shard=Shard(1, 2))
    assert (first.written, inner[1].written) == (("00000", "00002"), ("00001", "00003"))
    found = read_all(first)
    assert list(found) == list(expected)
    for filename, array in expected.items():
        np.testing.assert_allclose(found[filename], array, rtol=0, atol=CLOSE)
    again = run(encoder, data, name="shared")
    assert (again.written, again.kept) == ((), tuple(expected))


def test_a_shard_replaces_nothing(data: DataFolder, tmp_path: Path) -> None:
    encoder = write_audio(tmp_path / "encoder", "wav2vec2")
    with pytest.raises(UsageError, match="to be replaced, by the shard 1/2"):
        run(encoder, data, shard=Shard(1, 2), overwrite=True)


def test_where_nothing_is_to_be_read_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "data" / "audio").mkdir(parents=True)
    write_mp3(tmp_path / "data" / "audio" / "00000.mp3", tones(0.5))
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    with pytest.raises(CorpusError, match="no clip has a word to encode; abaw-emi transcribe writes them"):
        run(write_text(tmp_path / "bert"), data)
    with pytest.raises(CorpusError, match="no clip has a face to encode"):
        run(write_vision(tmp_path / "vit", "vit"), data)
