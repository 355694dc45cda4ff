from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.config.model import ModelConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.inference.predict import predict
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.training.checkpoint import save_model
from tests.small_models import CPU, ENCODERS, LONGEST, SHORTEST, make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]
WAV2VEC2 = ("layer", "group")
# Without these, nothing is drawn at random while training.
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0
) | {"layerdrop": 0.0}
quick = settings(deadline=None, max_examples=12)


def forward(
    model: EmiModel, clips: list[Example], padding: float = 0.0, masks: Masks | None = None
) -> Tensor:
    """The model's output for a batch, with noise of size `padding` beyond each clip's end."""
    batch = make_batch(clips)
    waveforms = batch.waveforms.to(next(model.parameters()).dtype)
    noise = padding * torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(0))
    beyond = torch.arange(waveforms.shape[1]) >= batch.lengths[:, None]
    return model(torch.where(beyond, noise.to(waveforms.dtype), waveforms), batch.lengths, masks)


# Every combination of the switches that leaves something to predict from.
SWITCHES = [
    dict(zip(("vad_head", "global_vector", "lstm", "regression_head"), values, strict=True))
    for values in itertools.product([True, False], repeat=4)
    if values[1] or values[2]
]
BUILDS = [("layer", parts) for parts in SWITCHES] + [
    ("logmel", {name: on for name, on in parts.items() if name != "vad_head"})
    for parts in SWITCHES
    if not parts["vad_head"]
]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
@quick
@given(
    st.lists(
        st.one_of(
            st.sampled_from([400, 719, 720, 1_024, 3_279, 3_280]),
            st.integers(SHORTEST, 30_000),
            st.integers(SHORTEST, LONGEST),
        ),
        min_size=2,
        max_size=4,
    )
)
@example([LONGEST, 400])
@example([400, LONGEST, 719, 720])
def test_a_prediction_does_not_depend_on_the_other_clips_of_the_batch(
    encoder: str, dtype: torch.dtype, tolerance: float, lengths: list[int]
) -> None:
    model = small_model(encoder).to(dtype)
    clips = [make_example(number, length) for number, length in enumerate(lengths)]
    with torch.no_grad():
        together = forward(model, clips)
        alone = torch.cat([forward(model, [clip]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=0, atol=tolerance)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_different_clips_have_different_predictions(encoder: str) -> None:
    clips = [make_example(number, length) for number, length in enumerate([400, 719, 1_024, 16_000, 16_000])]
    with torch.no_grad():
        found = forward(small_model(encoder), clips)
    distances = (found[:, None] - found[None]).abs().amax(2)
    assert distances[~torch.eye(len(clips), dtype=torch.bool)].min() > 1e-3


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_what_lies_beyond_a_clips_end_does_not_matter(encoder: str, size: float) -> None:
    model = small_model(encoder).double()
    clips = [make_example(number, length) for number, length in enumerate([400, 719, 40_000, 1_024, 20_001])]
    with torch.no_grad():
        torch.testing.assert_close(forward(model, clips, size), forward(model, clips), rtol=0, atol=1e-10)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_of_a_batch_are_the_sum_of_its_clips_gradients(encoder: str) -> None:
    model = small_model(encoder).double()
    clips = [make_example(number, length) for number, length in enumerate([400, 9_000, 1_024])]

    def gradients(groups: list[list[Example]]) -> dict[str, Tensor]:
        model.zero_grad()
        for group in groups:
            forward(model, group).square().sum().backward()
        return {
            name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
        }

    together, alone = gradients([clips]), gradients([[clip] for clip in clips])
    assert together.keys() == alone.keys()
    assert {name.partition(".")[0] for name in together} >= {"encoder", "lstm", "head"}
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("encoder", ENCODERS)
@quick
@given(order=st.permutations(range(11)))
def test_predict_gives_every_clip_its_own_row_in_any_order(encoder: str, order: list[int]) -> None:
    model = small_model(encoder)
    clips = [make_example(number, 400 + 700 * (number * 7 % 11)) for number in range(11)]
    table = predict(model, [clips[number] for number in order], CPU)
    assert table["Filename"].to_list() == [clip.filename for clip in clips]
    with torch.no_grad():
        alone = torch.cat([forward(model, [clip]) for clip in clips])
    np.testing.assert_allclose(table.select(EMOTIONS).to_numpy(), alone.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("encoder", "parts"), BUILDS)
def test_each_combination_of_the_switches_has_its_own_parameters(
    encoder: str, parts: dict[str, bool]
) -> None:
    model = small_model(encoder, **parts)
    vad = parts.get("vad_head", False)
    width = model.encoder.hidden_size + 3 * vad
    clip_width = width * (parts["global_vector"] + parts["lstm"])
    names = {name.partition(".")[0] for name in model.state_dict()}
    optional = {"vad_head": vad, "lstm": parts["lstm"]}
    assert names == {"encoder", "head", *(name for name, on in optional.items() if on)}
    assert hasattr(model.head, "dense") == parts["regression_head"]
    assert model.head.projection.weight.shape == (6, clip_width)
    if parts["lstm"]:
        assert model.lstm.weight_hh_l1.shape == (4 * width, width)
        assert not hasattr(model.lstm, "weight_hh_l2")
    if parts["regression_head"]:
        assert model.head.dense.weight.shape == (clip_width, clip_width)


@pytest.mark.parametrize(("encoder", "parts"), BUILDS)
def test_each_combination_of_the_switches_computes_what_is_left_of_the_formula(
    encoder: str, parts: dict[str, bool]
) -> None:
    model = small_model(encoder, **parts).double()
    clip = make_example(0, 5_000)
    batch = make_batch([clip])
    with torch.no_grad():
        found = forward(model, [make_example(1, 9_000), clip])[1]
        frames = model.encoder(batch.waveforms.double(), batch.lengths)[0][0]  # (F, H)
        if parts.get("vad_head"):
            frames = torch.cat([frames, model.vad_head(frames)], dim=1)
        vectors = []
        if parts["global_vector"]:
            vectors.append(frames.mean(0))
        if parts["lstm"]:
            vectors.append(model.lstm(frames)[1][0][-1])  # torch's own last state of the upper layer
        expected = torch.cat(vectors)
        if parts["regression_head"]:
            expected = torch.tanh(model.head.dense(expected))
        expected = model.head.projection(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pooling", ["attention", "attentive-statistics"])
def test_the_global_vector_may_be_pooled_by_attention(pooling: str) -> None:
    model = small_model("layer", vad_head=False, regression_head=False, pooling=pooling).double()
    clip = make_example(0, 5_000)
    batch = make_batch([clip])
    with torch.no_grad():
        found = forward(model, [make_example(1, 9_000), clip])[1]
        frames = model.encoder(batch.waveforms.double(), batch.lengths)[0][0]  # (F, H)
        scores = (frames @ model.pooling.score.weight[0] + model.pooling.score.bias).exp()
        weights = (scores / scores.sum())[:, None]
        mean = (weights * frames).sum(0)
        vectors = [mean, ((weights * frames**2).sum(0) - mean**2).sqrt()]
        vectors = [*vectors[: 1 + (pooling != "attention")], model.lstm(frames)[1][0][-1]]
        expected = model.head.projection(torch.cat(vectors))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_attention_over_sound_that_is_not_pooled_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling 'attention' is of the global vector"):
        ModelConfig(global_vector=False, pooling="attention")


def test_without_global_vector_and_lstm_there_is_no_model() -> None:
    with pytest.raises(ValueError, match="global_vector and lstm are both off"):
        ModelConfig(global_vector=False, lstm=False)


def test_a_log_mel_encoder_has_no_vad_head() -> None:
    with pytest.raises(ValueError, match="vad_head"):
        ModelConfig(encoder="logmel", vad_head=True)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_frozen_encoder_is_not_trained_and_the_rest_is(encoder: str) -> None:
    parts: dict[str, Any] = {"freeze_encoder": True}
    model = small_model(encoder, **parts).train()
    frozen = ("encoder.", "vad_head.")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if name:
            assert module.training != f"{name}.".startswith(frozen), name
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    forward(model, [make_example(0, 8_000), make_example(1, 500)]).square().sum().backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == name.startswith(frozen), name
    optimiser.step()
    after = model.state_dict()
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert same == {name for name in before if name.startswith(frozen)}


@pytest.mark.parametrize("encoder", WAV2VEC2)
def test_a_frozen_encoder_draws_nothing_while_the_rest_trains(encoder: str) -> None:
    frozen = small_model(encoder, freeze_encoder=True)
    clips = [make_example(0, 16_000), make_example(1, 5_000)]
    expected = forward(frozen, clips)
    assert torch.equal(forward(frozen.train(), clips), expected)
    free = small_model(encoder).train()
    assert not torch.equal(forward(free, clips), forward(free, clips))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_that_is_not_frozen_trains_from_its_first_layer_on(encoder: str) -> None:
    backbone = NO_DROPOUT if encoder in WAV2VEC2 else None
    model = small_model(encoder, backbone=backbone).train()
    forward(model, [make_example(0, 8_000), make_example(1, 500)]).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    first = next(
        weight for name, weight in model.encoder.named_parameters() if "conv" in name or "entry" in name
    )
    assert first.grad is not None
    assert first.grad.abs().max() > 0


@pytest.mark.parametrize("encoder", WAV2VEC2)
@pytest.mark.parametrize("changes", [{}, {"mask_time_prob": 0.0}, {"apply_spec_augment": False}])
@pytest.mark.parametrize("lengths", [[400], [400, 719, 1_024], [3_279, 3_279], [3_279, 3_280], [400, 16_000]])
def test_clips_shorter_than_a_span_of_spec_augment_can_be_trained_on(
    encoder: str, changes: dict[str, Any], lengths: list[int]
) -> None:
    model = small_model(encoder, backbone=changes).train()
    masks = model.draw_masks(lengths, np.random.default_rng(0))
    clips = [make_example(number, length) for number, length in enumerate(lengths)]
    found = forward(model, clips, masks=masks)
    found.sum().backward()
    assert found.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("encoder", WAV2VEC2)
def test_spec_augment_masks_long_clips_while_training_and_short_ones_never(encoder: str) -> None:
    model = small_model(encoder, backbone={**NO_DROPOUT, "mask_time_prob": 0.5})
    clips = [make_example(0, 3_279), make_example(1, 32_000)]
    calm = forward(model, clips)
    masks = model.train().draw_masks([3_279, 32_000], np.random.default_rng(0))
    found = forward(model, clips, masks=masks)
    torch.testing.assert_close(found[0], calm[0], rtol=0, atol=1e-5)
    assert (found[1] - calm[1]).abs().max() > 1e-3


def test_dropout_of_the_lstm_is_live_in_training_alone() -> None:
    clips = [make_example(0, 8_000)]
    model = small_model("layer", freeze_encoder=True, lstm_dropout=0.5)
    calm = forward(model, clips)
    assert torch.equal(forward(model, clips), calm)
    assert not torch.equal(forward(model.train(), clips), calm)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_half_precision_arithmetic_still_gives_float32(encoder: str) -> None:
    model = small_model(encoder)
    clips = [make_example(0, 8_000), make_example(1, 800)]
    with torch.no_grad():
        expected = forward(model, clips)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = forward(model, clips)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.4


@pytest.mark.parametrize(
    ("encoder", "parts"),
    [
        *((encoder, {}) for encoder in ENCODERS),
        ("layer", {"vad_head": False, "lstm": False, "freeze_encoder": True}),
    ],
)
def test_saved_and_loaded_a_model_is_bitwise_the_same(
    encoder: str, parts: dict[str, Any], tmp_path: Path
) -> None:
    model = small_model(encoder, **parts)
    save_model(model, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]
    torch.manual_seed(99)
    loaded = EmiModel.from_pretrained(tmp_path / "run").eval()
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert [weight.requires_grad for weight in loaded.parameters()] == [
        weight.requires_grad for weight in model.parameters()
    ]
    long, short = make_example(0, 8_000), make_example(1, 500)
    for clips in ([long, short], [long], [short]):
        # A single clip is a product with a vector, whose bits depend on where the weights lie in memory.
        assert torch.equal(forward(loaded, clips), forward(model, clips))


def test_a_log_mel_encoders_learnt_scale_is_saved(tmp_path: Path) -> None:
    model = small_model("logmel")
    batch = make_batch([make_example(0, 8_000), make_example(1, 900)])
    model.encoder.fit_scale([(batch.waveforms, batch.lengths)])  # type: ignore[operator,union-attr]
    save_model(model, tmp_path / "run")
    loaded = EmiModel.from_pretrained(tmp_path / "run").eval()
    clips = [make_example(2, 8_000)]
    assert torch.equal(forward(loaded, clips), forward(model, clips))
    assert not torch.equal(forward(loaded, clips), forward(small_model("logmel"), clips))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_weights_file_depends_on_the_weights_alone(encoder: str, tmp_path: Path) -> None:
    model = small_model(encoder)
    save_model(model, tmp_path / "a")
    save_model(small_model(encoder).train(), tmp_path / "another" / "folder")
    again = EmiModel.from_pretrained(tmp_path / "a")
    save_model(again, tmp_path / "c")
    files = [tmp_path / name / "model.safetensors" for name in ("a", "another/folder", "c")]
    assert len({file.read_bytes() for file in files}) == 1
    with torch.no_grad():
        model.head.projection.bias[0] += 1e-6
    save_model(model, tmp_path / "a")
    assert files[0].read_bytes() != files[1].read_bytes()


def test_zero_padding_without_masks_makes_silence_a_part_of_every_clip() -> None:
    padded = small_model("layer", pad_seconds=0.5)
    masked = small_model("layer")
    masked.load_state_dict(padded.state_dict())
    clips = [make_example(0, 3_000), make_example(1, 8_000), make_example(2, 9_500)]
    with torch.no_grad():
        together = forward(padded, clips)
        alone = torch.cat([forward(padded, [clip]) for clip in clips])
        batch = make_batch([clips[0]])
        silence = F.pad(batch.waveforms, (0, 5_000))
        as_sound = masked(silence, torch.tensor([8_000]))
        without = forward(masked, clips)
    # The longest clip of a batch sets no rule: each is padded to the same length, as long as it is shorter.
    torch.testing.assert_close(together[:2], alone[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone[:1], as_sound, rtol=0, atol=1e-6)
    torch.testing.assert_close(together[2:], without[2:], rtol=0, atol=1e-5)
    assert (alone[0] - without[0]).abs().max() > 1e-3
