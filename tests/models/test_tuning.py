"""What of a pretrained encoder is trained, from which weights, and with which dropouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from abaw_emi.batching.batches import make_batch
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.lora import add_adapters, merge_adapters
from abaw_emi.models.encoders.speech import make_encoder
from abaw_emi.models.encoders.tuning import set_dropouts
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weights import load_backbone, make_model
from abaw_emi.training.checkpoint import save_model
from tests.backbones import write_backbone
from tests.small_encoders import write_audio
from tests.small_models import make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

SHARES = {
    "hidden_dropout": 0.11,
    "attention_dropout": 0.22,
    "activation_dropout": 0.33,
    "feat_proj_dropout": 0.44,
}


def make(backbone: Path, **dials: Any) -> tuple[EmiModel, EmiModel]:
    """A model as it is drawn, and the same with the backbone's weights."""
    pretrained = find_backbone(str(backbone))
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(make_model(ModelConfig(tuning=TuningConfig(**dials)), pretrained))
    load_backbone(models[1], pretrained)
    return models[0], models[1]


def test_each_dropout_is_where_its_name_says() -> None:
    network: Any = small_model("layer", tuning=TuningConfig(**SHARES)).encoder
    layer = network.wav2vec2.encoder.layers[1]
    assert network.wav2vec2.feature_projection.dropout.p == 0.44
    assert (
        network.wav2vec2.encoder.dropout.p == layer.dropout.p == layer.feed_forward.output_dropout.p == 0.11
    )
    assert layer.attention.dropout == 0.22
    assert layer.feed_forward.intermediate_dropout.p == 0.33


def test_a_dropout_that_is_not_named_is_the_backbones_own() -> None:
    model = small_model(
        "layer", backbone={"hidden_dropout": 0.07}, tuning=TuningConfig(feat_proj_dropout=0.0)
    )
    network: Any = model.encoder
    assert network.wav2vec2.encoder.dropout.p == 0.07
    assert network.wav2vec2.feature_projection.dropout.p == 0


def test_whisper_has_names_of_its_own_for_its_dropouts() -> None:
    shares = {"hidden_dropout": 0.11, "attention_dropout": 0.22, "activation_dropout": 0.33}
    sizes = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
    network: Any = make_encoder(set_dropouts({"model_type": "whisper", **sizes}, shares))
    (layer,) = network.model.layers
    assert (layer.dropout, layer.self_attn.dropout, layer.activation_dropout) == (0.11, 0.22, 0.33)
    with pytest.raises(WeightsError, match="feat_proj_dropout: Whisper has none"):
        set_dropouts({"model_type": "whisper"}, {"feat_proj_dropout": 0.1})


@pytest.mark.parametrize("again", [False, True])
def test_only_the_last_layers_have_a_gradient(again: bool, tmp_path: Path) -> None:
    model = small_model("layer", tuning=TuningConfig(train_layers=1))
    if again:
        save_model(model, tmp_path)
        model = EmiModel.from_pretrained(tmp_path)
    batch = make_batch([make_example(0, 9_000), make_example(1, 5_000)])
    model.train()(batch.waveforms, batch.lengths).sum().backward()
    encoder = "encoder.wav2vec2.encoder."
    above = (f"{encoder}layers.1.", f"{encoder}layer_norm.", "vad_head.", "lstm.", "head.")
    for name, weight in model.named_parameters():
        assert weight.requires_grad is name.startswith(above), name
        assert (weight.grad is not None) is name.startswith(above), name
    network: Any = model.encoder
    assert not network.wav2vec2.encoder.layers[0].training
    assert not network.wav2vec2.feature_projection.dropout.training
    assert network.wav2vec2.encoder.layers[1].training


def test_the_last_layers_keep_the_weights_that_were_drawn(tmp_path: Path) -> None:
    drawn, found = make(write_backbone(tmp_path / "small"), reset_layers=1)
    _, plain = make(tmp_path / "small")
    new, old = drawn.state_dict(), plain.state_dict()
    last = "encoder.wav2vec2.encoder.layers.1."
    for name, value in found.state_dict().items():
        assert torch.equal(value, new[name] if name.startswith(last) else old[name]), name
    assert any(not torch.equal(new[name], old[name]) for name in new if name.startswith(last))


@pytest.mark.parametrize("targets", ["attention", "feed-forward"])
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm", "data2vec", "wav2vec2-bert", "whisper"])
def test_adapters_alone_learn_and_merged_they_are_the_same_encoder(
    kind: str, targets: Any, tmp_path: Path
) -> None:
    pretrained = find_backbone(str(write_audio(tmp_path, kind)))
    tuning = TuningConfig(lora_rank=3, lora_alpha=5, lora_targets=targets)
    model, plain = (make_model(ModelConfig(vad_head=False, tuning=tuning), pretrained) for _ in range(2))
    for each in (model, plain):
        load_backbone(each.double(), pretrained)
    plain.load_state_dict(model.state_dict())
    if (kind, targets) == ("wavlm", "attention"):
        with pytest.raises(WeightsError, match=r"lora_targets: 'attention'.*past adapters; .*'feed-forward'"):
            add_adapters(model.encoder, tuning)
        return
    add_adapters(model.encoder, tuning)
    batch = make_batch([make_example(0, 9_000), make_example(1, 5_000)], standardise=model.standardises)

    def frames(of: EmiModel) -> torch.Tensor:
        return of.eval().encode(batch.waveforms, batch.lengths)[0]

    torch.testing.assert_close(frames(model), frames(plain), rtol=0, atol=1e-9)  # nothing is added at first
    adapters = {name: weight for name, weight in model.encoder.named_parameters() if "lora_" in name}
    assert len(adapters) == (16 if (kind, targets) == ("wav2vec2-bert", "feed-forward") else 8)
    with torch.no_grad():
        for weight in adapters.values():
            weight.normal_()
    frames(model).square().sum().backward()
    for name, weight in model.encoder.named_parameters():
        assert (weight.grad is not None and bool(weight.grad.any())) is (name in adapters), name
    before = frames(plain)
    plain.load_state_dict(merge_adapters(model.state_dict(), tuning))
    torch.testing.assert_close(frames(plain), frames(model), rtol=0, atol=1e-9)
    assert (frames(plain) - before).abs().max() > 0.1


@pytest.mark.parametrize("name", ["reset_layers", "train_layers"])
def test_more_layers_than_there_are_is_an_error(name: str) -> None:
    with pytest.raises(WeightsError, match=f"model.tuning.{name}: 3; expected at most 2"):
        small_model("layer", tuning=TuningConfig(**{name: 3}))


def test_values_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_dropout -0\.5 is negative"):
        TuningConfig(hidden_dropout=-0.5)
    with pytest.raises(ValueError, match="new weights would stay untrained"):
        TuningConfig(train_layers=1, reset_layers=2)
    with pytest.raises(ValueError, match="reset_layers with lora_rank: new weights would stay untrained"):
        TuningConfig(reset_layers=1, lora_rank=2)
    with pytest.raises(ValueError, match="tuning is for a pretrained encoder that is trained"):
        ModelConfig(freeze_encoder=True, tuning=TuningConfig(reset_layers=1))
