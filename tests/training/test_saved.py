"""What a finished run has for those who use its model without this toolkit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.run import DataConfig, RunConfig, TrainingConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.evaluation.score import score
from abaw_emi.inference.predictor import load
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from tests.backbones import write_backbone
from tests.small_models import make_clip

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_EPOCH = TrainingConfig(epochs=1)
LOGMEL = ModelConfig(encoder="logmel", vad_head=False)


def train_run(
    model: ModelConfig,
    data: Path,
    out: Path,
    *,
    fold: str = "",
    training: TrainingConfig = ONE_EPOCH,
    train_plus_val: bool = False,
) -> Run:
    config = RunConfig(model=model, training=training, data=DataConfig(fold=fold))
    plan = Plan(config=config, preset="small", seeds=[1], out=out, train_plus_val=train_plus_val)
    (run,) = train(plan, DataFolder(data), Reporter(quiet=True))
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


def read_card(run: Run) -> tuple[dict[str, Any], str]:
    """The front matter, as the hub reads it, and the text."""
    card = ModelCard.load(run.card_file)
    return card.data.to_dict(), card.text


def test_the_card_has_the_score_the_number_of_clips_and_nothing_of_the_machine(
    backbone: Path, data_root: Path, tmp_path: Path
) -> None:
    run = train_run(ModelConfig(backbone=str(backbone)), data_root, tmp_path / "runs")
    head, text = read_card(run)
    assert head["library_name"] == "abaw_emi"
    assert head["pipeline_tag"] == "audio-classification"
    assert "license" not in head
    assert "Of what the weights come from: small: not known here." in text
    record = run.read_provenance()
    found = score(data_root / "valid_split.csv", run.valid_predictions)
    low, high = found.interval["mean_pearson"] or (0, 0)
    assert (
        f"Trained on {record['data']['train']:,} clips of train. Scored on {found.n} clips of valid." in text
    )
    assert "The epoch was selected on them" in text
    assert f"| mean | {found.mean_pearson:.4f} | [{low:.4f}, {high:.4f}] |" in text
    assert [line.split(" | ")[0][2:] for line in text.splitlines() if line[:2] == "| "][2:] == list(EMOTIONS)
    assert f"`{found.signature}`" in text
    assert str(tmp_path) not in text
    assert str(backbone.parent) not in text
    again = train_run(ModelConfig(backbone=str(backbone)), data_root, tmp_path / "again")
    assert again.card_file.read_bytes() == run.card_file.read_bytes()


def test_the_example_of_a_card_runs(data_root: Path, clip: Path, tmp_path: Path) -> None:
    run = train_run(LOGMEL, data_root, tmp_path / "runs")
    code = read_card(run)[1].partition("```python\n")[2].partition("```")[0]
    code = (
        code.replace("RUN", str(run.folder)).replace("a.wav", str(clip)).replace("abaw_emi.load", "t = load")
    )
    names: dict[str, Any] = {"load": partial(load, device="cpu", quiet=True)}
    exec(code, names)
    assert names["t"].columns == ["Filename", *EMOTIONS]


def test_a_licence_is_inherited_and_goes_on_to_runs_that_start_from_this_one(
    data_root: Path, tmp_path: Path
) -> None:
    backbone = write_backbone(tmp_path / "small")
    (backbone / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n# A model\n")
    run = train_run(ModelConfig(backbone=str(backbone)), data_root, tmp_path / "runs")
    assert read_card(run)[0]["license"] == "cc-by-nc-sa-4.0"
    assert "cc-by-nc-sa-4.0, inherited from small." in read_card(run)[1]
    (backbone / "README.md").unlink()
    training = TrainingConfig(epochs=1, init_from=str(run.folder))
    second = train_run(ModelConfig(backbone=str(backbone)), data_root, tmp_path / "second", training=training)
    head, text = read_card(second)
    assert head["license"] == "cc-by-nc-sa-4.0"
    assert "- starts from: the run small-seed1\n" in text


@pytest.mark.parametrize(
    "card", ["---\nlicense: [a, b]\n---\n", "---\n: : {\n---\n", "no front matter", "\xff"]
)
def test_a_card_that_says_no_licence_states_none(card: str, data_root: Path, tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path / "small")
    (backbone / "README.md").write_bytes(card.encode("latin-1"))
    run = train_run(ModelConfig(backbone=str(backbone)), data_root, tmp_path / "runs")
    assert "license" not in read_card(run)[0]


def test_the_cards_of_other_kinds_of_runs_say_what_they_are(data_root: Path, tmp_path: Path) -> None:
    both = read_card(train_run(LOGMEL, data_root, tmp_path / "a", train_plus_val=True))[1]
    assert "clips of train and valid. No clips were held out, so there is no score" in both
    assert "None is stated: the weights come from no published encoder." in both
    assert "| mean |" not in both
    fold = read_card(train_run(LOGMEL, data_root, tmp_path / "b", fold="1/2"))[1]
    assert "clips of fold 1/2, held out of these splits." in fold
