"""`abaw_emi.load(run).predict(...)`: the numbers of `abaw-emi predict`, for files, waveforms and features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

import abaw_emi
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig
from abaw_emi.config.run import DataConfig, RunConfig
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError
from abaw_emi.core.hashing import hash_file
from abaw_emi.data.tables import read_predictions
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run
from tests.command import run_command
from tests.foreign_data import write_data
from tests.media import tones, write_container, write_mp3
from tests.small_models import small_model

pytestmark = pytest.mark.usefixtures("one_thread")


def write_run(folder: Path, model: EmiModel, config: RunConfig) -> Run:
    run = Run(folder)
    model.save_pretrained(folder)
    run.write_config(config)
    run.write_provenance({"weights_sha256": hash_file(run.weights_file), "finished": "now", "trained_on": []})
    return run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    return write_run(
        tmp_path / "runs" / "small", small_model("layer"), RunConfig(data=DataConfig(max_seconds=1))
    )


def values(table: pl.DataFrame) -> np.ndarray:
    assert table.columns == [FILENAME, *EMOTIONS]
    return table.select(EMOTIONS).to_numpy()


def test_files_get_the_numbers_of_the_command_in_the_order_given(run: Run, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    done = run_command(
        "predict", "--ckpt", run.folder, "--split", "valid", "--data", data, "--out", tmp_path / "p.csv"
    )
    assert done.returncode == 0, done.stderr
    expected = read_predictions(tmp_path / "p.csv")
    files = [str(data / "audio" / f"{name}.wav") for name in expected[FILENAME].to_list()][::-1]
    found = abaw_emi.load(run.folder, device="cpu", quiet=True).predict(files)
    assert found[FILENAME].to_list() == files
    np.testing.assert_allclose(values(found), values(expected)[::-1], rtol=0, atol=1e-6)


def test_a_waveform_is_what_its_file_is_at_any_rate_and_beside_files(run: Run, tmp_path: Path) -> None:
    wave = 0.3 * tones(1.5, 44_100)
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="FLOAT")
    video, mp3 = tmp_path / "b.mp4", write_mp3(tmp_path / "c.mp3", tones(0.7))
    write_container(video, tones(0.5))
    predictor = abaw_emi.load(str(run.folder), device="cpu", quiet=True)
    found = predictor.predict(
        [tmp_path / "a.wav", wave, torch.from_numpy(wave), video, mp3], sample_rate=44_100
    )
    assert found[FILENAME].to_list() == [str(tmp_path / "a.wav"), "1", "2", str(video), str(mp3)]
    first, *others = values(found)
    np.testing.assert_allclose(others[:2], [first, first], rtol=0, atol=1e-6)
    assert len({tuple(row) for row in values(found).round(4)}) == 3
    # Cut to the run's own length, and normalised: a louder waveform gives the same.
    louder = predictor.predict([2 * wave[: round(1.2 * 44_100)]], sample_rate=44_100)
    np.testing.assert_allclose(values(louder)[0], first, rtol=0, atol=1e-4)


def test_everything_that_cannot_be_read_is_named_together(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    bad = [
        tmp_path / "none.wav",
        broken,
        np.zeros((2, 9)),
        np.arange(9),
        np.array([0.0, np.nan]),
        np.zeros(9),
    ]
    with pytest.raises(EmiError) as caught:
        abaw_emi.load(run.folder, device="cpu", quiet=True).predict(bad, sample_rate=16_000)
    lines = [str(problem) for problem in caught.value.problems]
    starts = [str(bad[0]), str(broken), "waveform 2: shape (2, 9)", "waveform 3: int64", "waveform 4: NaN"]
    starts.append("waveform 5: is too short")
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 6


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ("a.wav", {}, "inputs: a single path"),
        ([np.zeros(9)], {}, "sample_rate: not given"),
        (["a.wav"], {"features": {"vit": [None]}}, "features: no feature 'vit'"),
        ([None], {}, "input 0: nothing to predict from, of sound"),
    ],
)
def test_arguments_that_fit_nothing_are_refused(
    run: Run, arguments: list[object], options: dict[str, object], message: str
) -> None:
    with pytest.raises(EmiError, match=f"^{message}"):
        abaw_emi.load(run.folder, device="cpu", quiet=True).predict(arguments, **options)  # type: ignore[arg-type]


def test_features_are_given_by_name_as_files_or_arrays(tmp_path: Path) -> None:
    config = ModelConfig(encoder="none", vad_head=False, features=(FeatureConfig(name="vit"),))
    torch.manual_seed(0)
    model = EmiModel(EmiConfig.from_parts(config, widths={"vit": 5})).eval()
    run = write_run(tmp_path / "run", model, RunConfig(model=config))
    frames = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    np.save(tmp_path / "frames.npy", frames)
    predictor = abaw_emi.load(run.folder, device="cpu", quiet=True)
    found = predictor.predict(features={"vit": [frames, tmp_path / "frames.npy"]})
    assert found[FILENAME].to_list() == ["0", "1"]
    np.testing.assert_allclose(values(found)[0], values(found)[1], rtol=0, atol=1e-6)
    with pytest.raises(EmiError, match=r"^vit, input 0: shape \(7, 4\); expected \(F, 5\)"):
        predictor.predict(features={"vit": [frames[:, :4]]})


def test_a_mistyped_run_is_no_hub_id(run: Run) -> None:
    with pytest.raises(EmiError, match="no such run"):
        abaw_emi.load(run.folder.with_name("smal"))


def test_the_command_predicts_files(run: Run, tmp_path: Path) -> None:
    mp3 = write_mp3(tmp_path / "c.mp3", tones(0.7))
    done = run_command("predict", "--ckpt", run.folder, mp3, mp3, "--json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["predictions"]
    assert [row[FILENAME] for row in rows] == [str(mp3)] * 2
    done = run_command("predict", "--ckpt", run.folder, mp3, "--out", tmp_path / "out.csv", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    written = pl.read_csv(tmp_path / "out.csv")
    assert written.row(0)[0] == str(mp3)
    np.testing.assert_allclose(written.row(0)[1:], [rows[0][emotion] for emotion in EMOTIONS], atol=1e-6)
    table = run_command("predict", "--ckpt", run.folder, mp3, "--device", "cpu").stdout
    assert f"{rows[0]['Joy']:.4f}" in table
    assert run_command("predict", "--ckpt", run.folder, mp3, "--split", "valid").returncode == 2
    assert run_command("predict", "--ckpt", run.folder).returncode == 2
