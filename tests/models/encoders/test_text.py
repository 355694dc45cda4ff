"""Text encoders as a part of the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, GteConfig, GteModel

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.hub import find_text_encoder
from abaw_emi.models.load import load_part
from abaw_emi.models.weights import load_text, make_model
from tests.small_encoders import TEXT_ENCODERS, write_text

TEXTS = ("i am so happy for you", "", "we did it", "happy " * 9, "unheard of words")


def load(folder: Path) -> EmiModel:
    text = find_text_encoder(str(folder))
    parts = ModelConfig(
        encoder="none", vad_head=False, features=(FeatureConfig(name="text", backbone=str(folder)),)
    )
    model = make_model(parts, None, {}, text)
    load_text(model, text)
    return model.eval()


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_states_are_what_transformers_makes_of_each_text_alone(kind: str, tmp_path: Path) -> None:
    folder = write_text(tmp_path / kind, kind=kind)
    encoder = load(folder).text
    tokenizer = load_part(AutoTokenizer, find_text_encoder(str(folder)))
    tokens = [tokenizer(text)["input_ids"] for text in TEXTS]
    lengths = torch.tensor([len(each) for each in tokens])
    padded = torch.zeros(len(TEXTS), int(lengths.max()), dtype=torch.long)
    for row, each in zip(padded, tokens, strict=True):
        row[: len(each)] = torch.tensor(each)
    with torch.no_grad():
        found = encoder(padded, lengths)
    if kind == "new":
        config = json.loads((folder / "config.json").read_text())
        kept = {k: v for k, v in config.items() if k not in ("model_type", "auto_map", "architectures")}
        theirs = GteModel.from_pretrained(folder, config=GteConfig(**kept)).eval()
    else:
        theirs = AutoModel.from_pretrained(folder).eval()
    for row, each in zip(found, tokens, strict=True):
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([each])).last_hidden_state[0]
        torch.testing.assert_close(row[: len(each)], expected, rtol=0, atol=1e-5)
        assert expected.std() > 0.1


@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_a_saved_text_encoder_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    model = load(write_text(tmp_path / kind, kind=kind))
    model.save_pretrained(tmp_path / "saved")
    again = EmiModel.from_pretrained(tmp_path / "saved").eval()
    tokens, lengths = torch.tensor([[2, 5, 6, 3], [2, 3, 0, 0]]), torch.tensor([4, 2])
    with torch.no_grad():
        assert torch.equal(model.text(tokens, lengths), again.text(tokens, lengths))


def test_an_encoder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "new", "architectures": ["Other"]}')
    with pytest.raises(WeightsError, match="model_type is 'new'; expected one of bert, roberta"):
        find_text_encoder(str(tmp_path), needs_weights=False)


def test_half_precision_of_a_file_is_not_the_arithmetic_and_code_is_refused(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "bert")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"dtype": "float16"}))
    assert {weight.dtype for weight in load(folder).parameters()} == {torch.float32}
    for key in ("attn_implementation", "quantization_config"):
        path.write_text(json.dumps(config | {key: "owner/name"}))
        with pytest.raises(WeightsError, match=f"{key} is 'owner/name'"):
            load(folder)


def test_a_missing_weight_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_text(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "query" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing weights \(1\)"):
        load(folder)
