"""From a run to a score and a submission in Python: a split is predicted as the command predicts it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import abaw_emi
from abaw_emi.config.run import DataConfig, RunConfig
from abaw_emi.core.errors import EmiError
from abaw_emi.core.hashing import hash_file
from abaw_emi.inference.predictor import Predictor
from abaw_emi.runs.run import Run
from tests.command import run_command
from tests.foreign_data import write_data
from tests.inference.test_predictor import values, write_run
from tests.media import tones
from tests.small_models import small_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    config = RunConfig(data=DataConfig(max_seconds=1))
    run = write_run(tmp_path / "runs" / "small", small_model("layer"), config)
    seen = {"weights_sha256": hash_file(run.weights_file), "finished": "now", "trained_on": ["00000-00011"]}
    run.write_provenance(seen)
    return run


@pytest.fixture
def predictor(run: Run) -> Predictor:
    return abaw_emi.load(run.folder, device="cpu", quiet=True)


def test_a_split_is_predicted_as_the_command_predicts_it(predictor: Predictor, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    where = ("--split", "train", "--data", data, "--out", tmp_path / "cli.csv")
    done = run_command("predict", "--ckpt", predictor.run.folder, *where)
    assert done.returncode == 0, done.stderr
    found = predictor.predict_split(data, "train", out=tmp_path / "python.csv")
    expected = abaw_emi.read_predictions(tmp_path / "cli.csv")
    assert found["Filename"].to_list() == expected["Filename"].to_list()
    np.testing.assert_allclose(values(found), values(expected), rtol=0, atol=1e-6)
    labels = data / "train_split.csv"
    for name in ("cli", "python"):
        assert abaw_emi.score(labels, tmp_path / f"{name}.csv", resamples=0).seen == 12
    assert abaw_emi.score(labels, predictor.predict_split(str(data), "train"), resamples=0).n == 12


def test_the_test_split_goes_into_a_submission(predictor: Predictor, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    ids = abaw_emi.read_test_ids(str(data))
    assert ids == [f"{number:05}" for number in range(20, 26)]
    table = predictor.predict_split(data, "test")
    made = abaw_emi.write_submission(table, ids, tmp_path / "submissions")
    assert abaw_emi.check_submission(made.archive, ids).problems == ()


def test_a_clip_that_cannot_be_read_is_refused_or_left_out(predictor: Predictor, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (data / "audio" / "00013.wav").write_bytes(b"RIFF")
    with pytest.raises(EmiError, match=r"00013\.wav"):
        predictor.predict_split(data, "valid")
    left = predictor.predict_split(data, "valid", on_bad_clip="skip")
    assert left["Filename"].to_list() == [f"{number:05}" for number in range(12, 20) if number != 13]
    split: Any = "vaild"
    with pytest.raises(EmiError, match=r"^split: 'vaild'; .*; did you mean valid\?"):
        predictor.predict_split(data, split)
    with pytest.raises(EmiError, match=r"^data: does not exist|nowhere"):
        predictor.predict_split("nowhere", "test")


def test_ids_that_are_paths_are_told_how_to_become_ids(predictor: Predictor, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    found = predictor.predict(data / "audio" / f"{number:05}.wav" for number in range(12, 20))
    with pytest.raises(EmiError, match=r"too many, against labels.*; make paths ids: Path\(x\)\.stem"):
        abaw_emi.score(data / "valid_split.csv", found)
    stems = pl.Series("Filename", [Path(name).stem for name in found["Filename"]])
    assert abaw_emi.score(data / "valid_split.csv", found.with_columns(stems), resamples=0).n == 8


def test_a_predictor_is_pickled_and_copied(predictor: Predictor) -> None:
    wave = 0.1 * tones(0.5)
    expected = predictor.predict([wave], sample_rate=16_000)
    for again in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        assert again is not predictor
        assert again.predict([wave], sample_rate=16_000).equals(expected)
        assert (again.runtime.device, again.runtime.precision) == (torch.device("cpu"), "fp32")


def test_a_device_of_torch_is_one(run: Run) -> None:
    assert abaw_emi.load(run.folder, device=torch.device("cpu"), quiet=True).runtime.device.type == "cpu"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "fp8"}, r"^precision: 'fp8'; expected one of auto, fp32, bf16, fp16"),
        ({"precision": torch.float32}, r"^precision: torch\.float32; expected one of"),
        ({"device": "gpu"}, r"^device: 'gpu' is no device; .*; a GPU is called cuda"),
        ({"run": ["runs/small"]}, r"^run: a list; expected a run folder"),
    ],
)
def test_what_load_cannot_use_is_refused_in_a_line(run: Run, given: dict[str, Any], message: str) -> None:
    with pytest.raises(EmiError, match=message):
        abaw_emi.load(**({"run": run.folder} | given))


@pytest.mark.parametrize(
    ("inputs", "rate", "message"),
    [
        (np.zeros(32_000, np.float32), 16_000, "^inputs: a single waveform; .*; give \\[waveform\\]$"),
        (torch.zeros(32_000), 16_000, "^inputs: a single waveform"),
        ([0.1, 0.2], 16_000, "^inputs: a single waveform"),
        (7, 16_000, "^inputs: a int; expected a list of files or waveforms$"),
        ([np.zeros(9_000)], 0, "^sample_rate: 0; expected the rate of the waveforms, in Hz, such as 16000$"),
        ([np.zeros(9_000)], "16000", "^sample_rate: '16000'; expected"),
        ([np.zeros(9_000)], -1, "^sample_rate: -1; expected"),
        ([np.zeros(9_000)], float("nan"), "^sample_rate: nan; expected"),
    ],
)
def test_inputs_that_predict_cannot_use_are_refused_in_a_line(
    predictor: Predictor, inputs: Any, rate: Any, message: str
) -> None:
    with pytest.raises(EmiError, match=message) as caught:
        predictor.predict(inputs, sample_rate=rate)
    assert len(caught.value.problems) == 1


def test_a_folder_is_told_how_to_be_listed(predictor: Predictor, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with pytest.raises(EmiError) as caught:
        predictor.predict(str(data / "audio"))
    line = str(caught.value)
    assert line.startswith(f"inputs: a folder, {data / 'audio'}; expected a list of files; ")
    names: dict[str, Any] = {"Path": Path}
    assert len(predictor.predict(eval(line.rpartition("; ")[2], names))) == 20
    with pytest.raises(EmiError, match="predict_split"):
        predictor.predict(data)
