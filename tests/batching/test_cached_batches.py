"""Batches, predictions and weights do not depend on where the samples come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from abaw_emi.audio.cache import ClipCache
from abaw_emi.audio.clips import read_clips
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example, InputSpec
from abaw_emi.config.run import RunConfig
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import find_clips
from abaw_emi.inference.predict import predict
from abaw_emi.training.data import TrainingData, compare_data, read_training_data
from tests.foreign_data import write_data
from tests.small_models import CPU, from_waveform, make_clip, normalise, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

SOUND_ALONE = InputSpec.of(RunConfig())

LENGTHS = (400, 192_000, 719, 16_000, 401, 30_000)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Example]]:
    """The same clips, at -40 dB, from no cache, a cold one and a warm one."""
    root = tmp_path_factory.mktemp("data")
    (root / "audio").mkdir()
    for number, samples in enumerate(LENGTHS):
        clip = make_clip(number, samples, decibels=-40)
        soundfile.write(root / "audio" / f"{clip.filename}.wav", clip.waveform, 16_000, subtype="FLOAT")
    files, folder = find_clips(root), tmp_path_factory.mktemp("cache")
    read = {
        "uncached": read_clips(list(files), files),
        "cold": ClipCache(folder=folder).read_clips(list(files), files),
        "warm": ClipCache(folder=folder).read_clips(list(files), files),
    }
    return {name: [Example.join(clip.filename, clip) for clip in clips.clips] for name, clips in read.items()}


@pytest.mark.parametrize("temperature", ["cold", "warm"])
def test_cached_batches_and_predictions_are_bitwise_those_without_a_cache(
    kept: dict[str, list[Example]], temperature: str
) -> None:
    expected, found = make_batch(kept["uncached"]), make_batch(kept[temperature])
    assert found.filenames == expected.filenames
    assert torch.equal(found.waveforms, expected.waveforms)
    assert torch.equal(found.lengths, expected.lengths)
    model = small_model("layer")
    tables = [predict(model, kept[name], CPU) for name in ("uncached", temperature)]
    assert tables[0].equals(tables[1])


def test_every_row_is_bitwise_the_normalised_waveform_and_zeros(kept: dict[str, list[Example]]) -> None:
    for clips in kept.values():
        for clip, row in zip(clips, make_batch(clips).waveforms.numpy(), strict=True):
            assert row[: clip.samples].tobytes() == normalise(clip.audio.waveform).tobytes()
            assert not row[clip.samples :].any()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", train=8, valid=3, test=1)


def read(root: Path, *, fold: str = "", limit: int | None = None, seconds: float = 12.0) -> TrainingData:
    return read_training_data(
        DataFolder(root),
        replace(SOUND_ALONE, max_seconds=seconds),
        Reporter(quiet=True),
        fold=fold,
        limit=limit,
    )


def test_the_fingerprint_is_of_the_files_the_labels_and_the_length(root: Path) -> None:
    before = read(root)
    assert read(root).fingerprint() == before.fingerprint()
    assert compare_data(before.describe(), read(root).describe()) == []
    assert read(root, seconds=6.0).fingerprint() != before.fingerprint()

    labels = root / "train_split.csv"
    text = labels.read_text()
    line = text.splitlines()[3]
    labels.write_text(text.replace(line, line[:-1] + ("1" if line[-1] != "1" else "2")))
    assert read(root).fingerprint() != before.fingerprint()
    assert compare_data(before.describe(), read(root).describe()) == ["1 labels changed: 00002"]
    labels.write_text(text)

    path = root / "audio" / "00004.wav"
    sound, rate = soundfile.read(path, dtype="float32")
    soundfile.write(path, sound[::-1], rate)  # as long as before
    changed = read(root)
    assert [clip.samples for clip in changed.train] == [clip.samples for clip in before.train]
    assert changed.fingerprint() != before.fingerprint()
    assert compare_data(before.describe(), changed.describe()) == ["1 clips changed: 00004"]

    fewer = read(root, limit=2).describe()
    assert compare_data(fewer, changed.describe())[0] == "7 clips more: 00002-00007, 00010"
    assert "7 clips fewer: 00002-00007, 00010" in compare_data(changed.describe(), fewer)


def test_changed_ids_are_named_up_to_a_number() -> None:
    before = {"clips": {f"{number:05}": "a" for number in range(0, 100, 2)}}
    now = {"clips": dict.fromkeys(before["clips"], "b")}
    (change,) = compare_data(before, now)
    assert change.startswith("50 clips changed: 00000, 00002, ")
    assert change.endswith(", 00038, ...")


def test_a_fold_is_held_out_of_train_and_validated_on(root: Path) -> None:
    seen: set[str] = set()
    for fold in ("1/3", "2/3", "3/3"):
        data = read(root, fold=fold)
        held_out = {clip.filename for clip in data.valid}
        assert held_out | {clip.filename for clip in data.train} == {f"{i:05}" for i in range(8)}
        assert not held_out & (seen | {clip.filename for clip in data.train})
        seen |= held_out
    assert len(seen) == 8


def test_what_was_decoded_is_said_and_nothing_when_all_is_there(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))

    def said(limit: int | None = None) -> str:
        read_training_data(DataFolder(root), SOUND_ALONE, Reporter(), limit=limit)
        return capsys.readouterr().err.splitlines()[-1]

    assert said(limit=3).endswith("(6 decoded, 0 from the cache)")
    assert said().endswith("(5 decoded, 6 from the cache)")
    assert "decoded" not in said()


def test_a_clip_that_was_changed_in_memory_is_normalised_as_it_is() -> None:
    waveform = make_clip(0, 5_000).waveform
    example = from_waveform(0, waveform)
    waveform[:] = 0.5 * waveform + 0.25
    np.testing.assert_array_equal(make_batch([example]).waveforms[0].numpy(), normalise(waveform))


def test_labels_are_compared_as_they_are_read(root: Path) -> None:
    data = read(root)
    other = replace(data, labels=data.labels.with_columns(pl.col("Joy") + 1e-9))
    assert len(compare_data(data.describe(), other.describe())) == 1
