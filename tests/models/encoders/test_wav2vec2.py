from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config, Wav2Vec2Model

from abaw_emi.batching.batches import make_batch
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder
from tests.backbones import small_config
from tests.small_models import make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

NORMS = ("layer", "group")
LENGTHS = (400, 5_000, 20_000, 20_000, 31_000)
DRAWING = {"mask_time_prob": 0.3, "layerdrop": 0.5, "mask_feature_prob": 0.3, "mask_feature_length": 2}
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout"), 0.0
)


def batch(lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor]:
    clips = make_batch([make_example(number, length) for number, length in enumerate(lengths)])
    return clips.waveforms, clips.lengths


def drawing_model(norm: str, **backbone: Any) -> tuple[EmiModel, Masks]:
    model = small_model(norm, backbone={**DRAWING, **NO_DROPOUT, **backbone}).train()
    masks = model.draw_masks(LENGTHS, np.random.default_rng(1))
    assert masks is not None
    return model, masks


def gradients(model: EmiModel) -> dict[str, Tensor]:
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("changes", [{}, {"mask_time_prob": 0.0}, {"conv_bias": True}, {"conv_bias": False}])
def test_weights_have_transformers_names_and_shapes(norm: str, stable: bool, changes: dict[str, Any]) -> None:
    config = small_config(norm, do_stable_layer_norm=stable, **changes)
    theirs = Wav2Vec2Model(Wav2Vec2Config(**config)).state_dict()
    ours = Wav2Vec2Encoder(config).wav2vec2.state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"add_adapter": True}, "add_adapter is true"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim is 16"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm is 'batch'"),
        ({"hidden_act": "no such"}, "hidden_act is 'no such'"),
        ({"feat_extract_activation": "no such"}, "feat_extract_activation is 'no such'"),
        ({"num_attention_heads": 5}, "hidden_size 32 is no multiple of 5 heads"),
        ({"mask_time_length": 0}, "mask_time_length is 0; expected at least 1"),
    ],
)
def test_a_config_of_another_network_is_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(WeightsError, match=rf"backbone config\.json: {found}"):
        Wav2Vec2Encoder(small_config(**changes))


def test_all_that_is_wrong_with_a_config_is_told_at_once() -> None:
    with pytest.raises(WeightsError) as caught:
        Wav2Vec2Encoder(small_config(add_adapter=True, num_attention_heads=5))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("norm", NORMS)
def test_without_draws_training_leaves_out_no_layer_and_no_frame(norm: str) -> None:
    model, masks = drawing_model(norm)
    waveforms, lengths = batch()
    with torch.no_grad():
        trained, left_out = model(waveforms, lengths), model(waveforms, lengths, masks)
        calm = model.eval()(waveforms, lengths)
    assert torch.equal(trained, calm)
    assert (left_out - calm).abs().amax(1).max() > 1e-2


@pytest.mark.parametrize("norm", NORMS)
def test_a_clip_gives_with_its_draws_what_it_gives_alone(norm: str) -> None:
    model, masks = drawing_model(norm)
    model = model.double()
    waveforms, lengths = batch()
    together = model(waveforms, lengths, masks)
    together.square().sum().backward()
    expected = gradients(model)
    for row, length in enumerate(LENGTHS):
        taken = masks.take(torch.tensor([row]), model.encoder.frame_lengths(length))
        alone = model(waveforms[row : row + 1, :length], lengths[row : row + 1], taken)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-10)
        alone.square().sum().backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("changes", [{}, {"mask_time_prob": 0.0}, {"apply_spec_augment": False}])
@pytest.mark.parametrize("kept", [True, False])
def test_every_weight_has_a_gradient_whatever_is_left_out(
    norm: str, changes: dict[str, Any], kept: bool
) -> None:
    model, masks = drawing_model(norm, **changes)
    masks = Masks(
        layers_kept=torch.full_like(masks.layers_kept, kept),
        masked_frames=masks.masked_frames if kept else None,
        masked_features=masks.masked_features,
    )
    model(*batch(), masks).sum().backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    unused = {"encoder.wav2vec2.masked_spec_embed"} if "apply_spec_augment" in changes else set()
    assert without == unused
    layer = model.get_parameter("encoder.wav2vec2.encoder.layers.1.feed_forward.output_dense.weight").grad
    assert layer is not None
    assert bool(layer.any()) == kept


def test_frames_beyond_a_clips_end_are_numbers() -> None:
    model, masks = drawing_model("layer")
    hidden_states, frames = model.encode(*batch(), masks)
    assert frames.tolist() == [1, 15, 62, 62, 96]
    assert hidden_states.shape[:2] == (5, 96)
    assert hidden_states.isfinite().all()


@pytest.mark.parametrize("beyond", [0, 1, 319, 20_000])
def test_padding_further_than_the_longest_clip_changes_nothing(beyond: int) -> None:
    model, masks = drawing_model("layer")
    model = model.double()
    for lengths in ((20_000,), (20_000, 20_000), LENGTHS):
        taken = masks.take(torch.arange(len(lengths)), model.encoder.frame_lengths(max(lengths)))
        waveforms, real = batch(lengths)
        padded = torch.nn.functional.pad(waveforms, (0, beyond))
        expected = model(waveforms, real, taken)
        torch.testing.assert_close(model(padded, real, taken), expected, rtol=0, atol=1e-10)


def test_compiled_whole_it_is_one_graph_that_computes_the_same() -> None:
    model, masks = drawing_model("layer")
    waveforms, lengths = batch()
    torch._dynamo.reset()
    compiled = torch.compile(model.encode, fullgraph=True, backend="aot_eager")
    results = []
    for encode in (model.encode, compiled):
        frames, frame_lengths = encode(waveforms, lengths, masks)
        real = torch.arange(frames.shape[1]) < frame_lengths[:, None]
        frames[real].square().sum().backward()
        results.append((frames[real], gradients(model)))
    (expected, eager), (found, traced) = results
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert traced.keys() == eager.keys()
    for name, gradient in eager.items():
        torch.testing.assert_close(traced[name], gradient, rtol=1e-4, atol=1e-4)
    assert any(name.endswith("masked_spec_embed") for name in eager)


@pytest.mark.exact
@pytest.mark.parametrize("norm", NORMS)
def test_compiled_by_regions_it_computes_the_same_under_the_same_names(norm: str) -> None:
    model, masks = drawing_model(norm, num_hidden_layers=10)
    names = list(model.state_dict())
    waveforms, lengths = batch()
    results = []
    for compile_first in (False, True):
        if compile_first:
            assert isinstance(model.encoder, Wav2Vec2Encoder)
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
            model.encoder.compile_regions(backend="aot_eager")
        output = model(waveforms, lengths, masks)
        output.square().sum().backward()
        results.append((output, gradients(model)))
    assert list(model.state_dict()) == names
    (expected, eager), (found, compiled) = results
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert compiled.keys() == eager.keys()
    for name, gradient in eager.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-4, atol=1e-4)
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    if norm == "layer":  # one graph for the convolutions, and one for all ten layers
        assert counters["stats"]["unique_graphs"] == 2


def test_compiled_by_regions_a_graph_serves_all_lengths_and_groups() -> None:
    graphs: Counter[str] = Counter()
    now = [""]

    def count(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        graphs[now[-1]] += 1
        return graph.forward

    def run(stage: str, clips: int, *, equal: bool = False) -> None:
        now.append(stage)
        lengths = tuple(sorted(rng.integers(3_000, 9_000, clips).tolist(), reverse=True))
        if equal:
            lengths = lengths[:1] * clips
        masks = model.draw_masks(lengths, rng) if model.training else None
        frames, _ = model.encode(*batch(lengths), masks)
        if frames.requires_grad:
            frames.sum().backward()

    model, rng = small_model("layer"), np.random.default_rng(0)
    torch._dynamo.reset()
    model.encoder.compile_regions(backend=count)  # type: ignore[arg-type]
    for _ in range(2):
        model.train()
        for clips in (8, 8, 3):
            run("training", clips)
        model.eval()
        with torch.inference_mode():
            for clips in (9, 4, 5):
                run("prediction", clips)
            for clips in (4, 7):
                run("nothing padded", clips, equal=True)
            for _ in range(2):
                run("a clip alone", 1)
    # One for the convolutions and one for all layers; layers that see no mask have another.
    assert graphs == {"training": 2, "prediction": 2, "nothing padded": 1, "a clip alone": 2}


@pytest.mark.parametrize("norm", NORMS)
def test_with_weights_in_bf16_waveforms_stay_float32_and_so_does_the_rest(norm: str) -> None:
    model = small_model(norm)
    waveforms, lengths = batch()
    with torch.no_grad():
        expected = model(waveforms, lengths)
        model.encoder.to(torch.bfloat16)
        frames, _ = model.encoder(waveforms, lengths)
        assert frames.dtype == torch.bfloat16
        found = model(waveforms, lengths)
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < 0.6
        # All of it in bf16 works as well.
        whole = model.to(torch.bfloat16)(waveforms, lengths)
    assert whole.dtype == torch.float32
    assert (whole - expected).abs().max() < 0.6


def test_the_mean_over_frames_does_not_round_as_it_adds_up() -> None:
    model = small_model("layer", lstm=False, regression_head=False, vad_head=False).to(torch.bfloat16)
    frames = torch.ones(1, 599, 32, dtype=torch.bfloat16)  # bf16 alone would stop counting at 256
    with torch.no_grad():
        many = model.regress(frames, torch.tensor([599]))
        one = model.regress(frames[:, :1], torch.tensor([1]))
    torch.testing.assert_close(many, one, rtol=0, atol=1e-2)


@pytest.mark.parametrize("norm", NORMS)
def test_a_frozen_extractor_is_not_trained_and_the_rest_is(norm: str) -> None:
    model = small_model(norm, backbone=DRAWING, freeze_extractor=True).train()
    prefix = "encoder.wav2vec2.feature_extractor."
    masks = model.draw_masks(LENGTHS, np.random.default_rng(0))
    assert masks is not None
    model(*batch(), masks).square().sum().backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == name.startswith(prefix), name
        assert weight.requires_grad != name.startswith(prefix), name
    free = small_model(norm, backbone=DRAWING)
    assert torch.equal(free(*batch()), model.eval()(*batch()))
    model.requires_grad_(True).train()
    assert not any(weight.requires_grad for weight in model.get_submodule(prefix[:-1]).parameters())
