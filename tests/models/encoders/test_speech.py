"""Every family of speech encoders through the same checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel

from abaw_emi.batching.batches import make_batch
from abaw_emi.config.model import ModelConfig
from abaw_emi.core.errors import WeightsError
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weights import load_backbone, make_model
from tests.small_encoders import SPEECH_ENCODERS, write_audio
from tests.small_models import make_example

LENGTHS = (400, 719, 1_024, 3_279, 20_000, 20_000, 64_321)
OWN = ("wav2vec2", "wav2vec2-group", "hubert", "hubert-group", "unispeech", "unispeech-sat")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_audio(tmp_path_factory.mktemp(kind), kind) for kind in SPEECH_ENCODERS}


def load(folder: Path, **parts: Any) -> EmiModel:
    backbone = find_backbone(str(folder))
    torch.manual_seed(0)
    model = make_model(ModelConfig(vad_head=False, **parts), backbone)
    load_backbone(model, backbone)
    return model.eval()


def encode(model: EmiModel, lengths: tuple[int, ...], masks: Masks | None = None) -> list[Tensor]:
    """The frames of clips, side by side."""
    examples = [make_example(number, length) for number, length in enumerate(lengths)]
    batch = make_batch(examples, standardise=model.standardises)
    assert batch.waveforms is not None
    frames, counts = model.encode(batch.waveforms, batch.lengths, masks)
    return [row[:count] for row, count in zip(frames, counts.tolist(), strict=True)]


def run_theirs(folder: Path, waveform: np.ndarray, *, every_layer: bool = False, **options: Any) -> Tensor:
    """What transformers' own pre-processor and model make of one clip."""
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        found = model(**inputs, **options)
    return (
        torch.cat([*found.hidden_states[:-1], found.last_hidden_state])
        if every_layer
        else found.last_hidden_state[0]
    )


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_frames_are_what_transformers_makes_of_each_clip_alone(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind])
    assert isinstance(model.encoder, Wav2Vec2Encoder) == (kind in OWN)
    with torch.no_grad():
        found = encode(model, LENGTHS)
    for number, (length, frames) in enumerate(zip(LENGTHS, found, strict=True)):
        if kind == "wav2vec2-bert" and length < 880:
            continue  # transformers makes NaN of a single window: it has no spread
        clip = make_example(number, length).audio
        assert clip is not None
        expected = run_theirs(folders[kind], clip.waveform)[: len(frames)]
        assert len(expected) == len(frames) == model.encoder.frame_lengths(length)
        torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)
        assert expected.std() > 0.1 or expected.shape[0] == 1  # far above the tolerance


def mixing(folder: Path, **parts: Any) -> tuple[EmiModel, Tensor]:
    """A model whose frames are a weighted sum of layers, and the weights."""
    model = load(folder, layer_weights=True, **parts)
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([0.5, -1.0, 0.3]))
    return model, torch.tensor([0.5, -1.0, 0.3]).softmax(0)


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_layer_weights_are_of_the_states_between_the_layers(kind: str, folders: dict[str, Path]) -> None:
    model, (first, second, third) = mixing(folders[kind])
    lengths = (5_000, 20_000)
    with torch.no_grad():
        found = encode(model, lengths)
    for number, frames in enumerate(found):
        clip = make_example(number, lengths[number]).audio
        assert clip is not None
        states = run_theirs(folders[kind], clip.waveform, output_hidden_states=True, every_layer=True)
        expected = first * states[0] + second * states[1] + third * states[2]
        torch.testing.assert_close(frames, expected[: len(frames)], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-group", "wavlm", "data2vec", "wav2vec2-bert"])
def test_out_of_a_layer_that_is_skipped_comes_what_went_in(kind: str, folders: dict[str, Path]) -> None:
    model, (first, second, third) = mixing(folders[kind])
    masks = Masks(layers_kept=torch.tensor([[True, False, True], [True, True, True]]))
    lengths = (20_000, 20_000, 9_000)
    plain = load(folders[kind])
    with torch.no_grad():
        found = encode(model, lengths, masks)
        for number, frames in enumerate(found):
            example = make_example(number, lengths[number])
            batch = make_batch([example], standardise=model.standardises)
            alone, _ = model.encode(batch.waveforms, batch.lengths, masks.take(torch.tensor([number]), 999))
            torch.testing.assert_close(frames, alone[0], rtol=0, atol=1e-4)
        layer = plain.encoder.layer_modules()[1]
        inner: list[Tensor] = []
        layer.register_forward_hook(lambda _, inputs, output: inner.append(inputs[0]))
        skipping = Masks(layers_kept=torch.tensor([[False], [True]]))
        batch = make_batch([make_example(1, 20_000)], standardise=model.standardises)
        last, _ = plain.encode(batch.waveforms, batch.lengths, skipping)
    # What goes into the second layer is what went into the first.
    expected = (first + second) * inner[0][:, : last.shape[1]] + third * last
    torch.testing.assert_close(found[1], expected[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
@pytest.mark.parametrize("compiled", [False, True])
def test_layer_weights_learn_with_a_frozen_encoder_too(
    kind: str, compiled: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    model, _ = mixing(folders[kind], freeze_encoder=True)
    model.save_pretrained(tmp_path)
    again = EmiModel.from_pretrained(tmp_path).train()
    assert torch.equal(again.layer_weights, model.layer_weights)
    if compiled:
        again.encoder.compile_regions("eager")
    for _ in range(2):
        (frames,) = encode(again, (20_000,))
        frames.square().sum().backward()
    assert again.layer_weights.grad.abs().min() > 0
    assert all(weight.grad is None for weight in again.encoder.parameters())
    assert again.find_fixed(training=False) is None
    with pytest.raises(ValueError, match="vad_head = false"):
        ModelConfig(layer_weights=True)


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_a_clip_alone_is_the_clip_in_a_batch_in_training_too(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind])
    masks = model.draw_masks(LENGTHS, np.random.default_rng(1))
    assert (masks is None) == (kind == "whisper")  # the small one's config has no LayerDrop
    # Not in training mode, whose dropouts differ: what is left out does not depend on it.
    with torch.no_grad():
        together = encode(model, LENGTHS, masks)
        for number, length in enumerate(LENGTHS):
            example = make_example(number, length)
            batch = make_batch([example], standardise=model.standardises)
            frames = int(model.encoder.frame_lengths(length))
            own = None if masks is None else masks.take(torch.tensor([number]), frames)
            alone, _ = model.encode(batch.waveforms, batch.lengths, own)
            torch.testing.assert_close(together[number], alone[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["hubert-plain", "wavlm", "wavlm-group", "data2vec", "wav2vec2-bert"])
def test_what_is_left_out_is_what_transformers_would_leave_out(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind])
    frames = int(model.encoder.frame_lengths(20_000))
    spans = torch.zeros(1, frames, dtype=torch.bool)
    spans[0, 3:9] = True
    masks = Masks(layers_kept=torch.tensor([[True], [False]]), masked_frames=spans)
    with torch.no_grad():
        (found,) = encode(model, (20_000,), masks)
        (whole,) = encode(model, (20_000,))
    theirs = AutoModel.from_pretrained(folders[kind]).eval()
    theirs.encoder.layers = nn.ModuleList(list(theirs.encoder.layers)[:1])
    extractor = AutoFeatureExtractor.from_pretrained(folders[kind])
    clip = make_example(0, 20_000).audio
    assert clip is not None
    inputs = extractor(clip.waveform, sampling_rate=16_000, return_tensors="pt")
    if kind == "wav2vec2-bert":  # of whose half a frame at the end its mask says not to count it
        spans = nn.functional.pad(spans, (0, 1))
    with torch.no_grad():
        expected = theirs(**inputs, mask_time_indices=spans).last_hidden_state[0, :frames]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found - whole).abs().max() > 0.01


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_every_weight_learns_and_a_frozen_encoder_does_not(kind: str, folders: dict[str, Path]) -> None:
    for frozen in (False, True):
        model = load(folders[kind], freeze_encoder=frozen).train()
        masks = model.draw_masks((20_000,), np.random.default_rng(0))
        (frames,) = encode(model, (20_000,), masks)
        model.regress(frames[None], torch.tensor([len(frames)])).sum().backward()
        moved = {name for name, weight in model.named_parameters() if weight.grad is not None}
        fixed = {name for name, _ in model.named_parameters()} - moved
        if frozen:
            assert {name for name in moved if name.startswith("encoder.")} == set()
        else:  # Whisper's positions are fixed; a mask vector moves where a frame is masked
            assert fixed <= {"encoder.model.embed_positions.weight", "encoder.model.masked_spec_embed"}


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_a_saved_model_predicts_the_same_bits(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders[kind])
    model.save_pretrained(tmp_path)
    again = EmiModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        for before, after in zip(encode(model, LENGTHS), encode(again, LENGTHS), strict=True):
            assert torch.equal(before, after)


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_learning_rates_rise_from_the_waveform_to_the_last_layer(kind: str, folders: dict[str, Path]) -> None:
    encoder = load(folders[kind]).encoder
    assert encoder is not None
    levels = {name: encoder.find_level(name) for name, _ in encoder.named_parameters()}
    assert {level for name, level in levels.items() if ".layers.0." in name and "pos_conv" not in name} == {2}
    assert {level for name, level in levels.items() if ".layers.1." in name and "pos_conv" not in name} == {3}
    assert {level for name, level in levels.items() if "pos_conv" in name} <= {1}
    assert (0 in levels.values()) == (kind != "wav2vec2-bert")


def test_half_precision_of_a_file_is_not_the_arithmetic_and_code_is_refused(tmp_path: Path) -> None:
    folder = write_audio(tmp_path / "wavlm", "wavlm")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"dtype": "float16"}))
    assert {weight.dtype for weight in load(folder).parameters()} == {torch.float32}
    path.write_text(json.dumps(config | {"_attn_implementation": "owner/name"}))
    with pytest.raises(WeightsError, match="_attn_implementation is 'owner/name'"):
        load(folder)


def test_our_own_network_runs_no_code_of_a_config_and_reads_it(tmp_path: Path) -> None:
    folder = write_audio(tmp_path / "wav2vec2", "wav2vec2")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "modeling.Own"}}))
    assert isinstance(load(folder).encoder, Wav2Vec2Encoder)


def test_what_is_not_known_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_type is 'wavlm', which has no VAD head.*vad_head=false"):
        make_model(ModelConfig(), find_backbone(str(folders["wavlm"])))
    unsupported = (
        ("whisper", "apply_spec_augment"),
        ("wav2vec2-bert", "add_adapter"),
        ("hubert", "conv_pos_batch_norm"),
    )
    for kind, key in unsupported:
        config = json.loads((folders[kind] / "config.json").read_text())
        backbone = write_audio(tmp_path / kind, kind)
        (backbone / "config.json").write_text(json.dumps(config | {key: True}))
        with pytest.raises(WeightsError, match=f"{key} is true"):
            make_model(ModelConfig(vad_head=False), find_backbone(str(backbone)))
