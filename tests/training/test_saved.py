"""What a finished run has for those who use its model without this toolkit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor

from abaw_emi.config.run import ModelConfig, RunConfig, TrainingConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.inference.predictor import load
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from tests.backbones import write_backbone
from tests.small_models import make_clip

pytestmark = pytest.mark.usefixtures("one_thread")

LOGMEL = ModelConfig(encoder="logmel", vad_head=False)


def train_run(model: ModelConfig, data: Path, out: Path, **plan: Any) -> Run:
    config = RunConfig(model=model, training=TrainingConfig(epochs=1))
    settings = {"config": config, "preset": "small", "seeds": [1], "out": out, **plan}
    (run,) = train(Plan(**settings), DataFolder(data), Reporter(quiet=True))
    return run


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbones") / "small")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    waveform = make_clip(3, 20_000, decibels=-30).waveform
    soundfile.write(tmp_path / "clip.wav", waveform, 16_000, subtype="FLOAT")
    return tmp_path / "clip.wav"


@pytest.mark.parametrize("encoder", ["logmel", "normalised", "raw"])
def test_the_feature_extractor_of_a_run_gives_the_model_what_the_toolkit_gives_it(
    encoder: str, backbone: Path, clip: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LOGMEL if encoder == "logmel" else ModelConfig(backbone=str(backbone))
    if encoder == "raw":
        write_backbone(tmp_path / "raw")
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "raw")
        model = replace(model, backbone=str(tmp_path / "raw"))
    run = train_run(model, data_root, tmp_path / "runs")
    given: list[Tensor] = []
    encode = EmiModel.encode

    def watch(self: EmiModel, waveforms: Tensor, *arguments: Any) -> Any:
        given.append(waveforms)
        return encode(self, waveforms, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EmiModel, "encode", watch)
        table = load(run.folder, device="cpu", quiet=True).predict([clip])
    prepare = AutoFeatureExtractor.from_pretrained(run.folder)
    waveform, rate = soundfile.read(clip, dtype="float32")
    inputs = prepare([waveform], sampling_rate=rate, padding=True, return_tensors="pt")
    (expected,) = given
    assert (expected.std() > 0.9) == (encoder != "raw")
    torch.testing.assert_close(inputs.input_values, expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        found = AutoModel.from_pretrained(run.folder).eval()(
            inputs.input_values, inputs.attention_mask.sum(1)
        )
    np.testing.assert_allclose(found, table.select(EMOTIONS).to_numpy(), rtol=0, atol=1e-5)
