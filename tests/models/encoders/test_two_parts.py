"""Every family of speech encoders in two parts: the lower one once, the upper one from what it made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from abaw_emi.batching.batches import Batch, make_batch
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.cache import CachedArray
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.spec_augment import Masks
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weights import load_backbone, make_model
from tests.small_encoders import SPEECH_ENCODERS, write_audio
from tests.small_models import make_example, small_model

LENGTHS = (400, 1_024, 3_279, 20_000, 20_000, 31_111)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_audio(tmp_path_factory.mktemp(kind), kind) for kind in SPEECH_ENCODERS}


def load(folder: Path, top: int, **dials: Any) -> EmiModel:
    backbone = find_backbone(str(folder))
    torch.manual_seed(0)
    tuning = TuningConfig(train_layers=top, **dials)
    model = make_model(ModelConfig(vad_head=False, tuning=tuning), backbone)
    load_backbone(model, backbone)
    return model.eval()


def from_sound(model: EmiModel, lengths: tuple[int, ...], masks: Masks | None = None) -> Batch:
    examples = [make_example(number, length) for number, length in enumerate(lengths)]
    return make_batch(examples, standardise=model.standardises, masks=masks)


def from_states(model: EmiModel, lengths: tuple[int, ...], masks: Masks | None = None) -> Batch:
    """The same batch, of what the lower part made of each clip alone."""
    examples = []
    for number, length in enumerate(lengths):
        example = make_example(number, length)
        ((states,), (count,)) = make_batch([example], standardise=model.standardises).make_states(model)
        assert count == model.encoder.state_lengths(length)
        held = CachedArray.hold(states[:count].numpy())
        examples.append(replace(example, audio=None, states=held))
    batch = make_batch(examples, masks=masks)
    assert batch.waveforms is None
    return batch


def frames(model: EmiModel, batch: Batch) -> list[Tensor]:
    found, counts = batch.encode(model)
    assert found is not None
    return [row[:count] for row, count in zip(found, counts.tolist(), strict=True)]


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_frames_from_states_are_those_from_sound(kind: str, top: int, folders: dict[str, Path]) -> None:
    model = load(folders[kind], top)
    tolerance = 2e-5 if kind == "wav2vec2-bert" else 1e-5  # it misses 1e-5 by 1.6e-6 on processors of AMD
    masks = Masks(layers_kept=torch.tensor([[True] * 6, [True, False, True, True, False, True]]))
    with torch.no_grad():
        for drawn in (None, masks):
            expected = frames(model, from_sound(model, LENGTHS, drawn))
            found = frames(model, from_states(model, LENGTHS, drawn))
            for left, right in zip(found, expected, strict=True):
                torch.testing.assert_close(left, right, rtol=0, atol=tolerance)
        assert expected[-1].std() > 0.1
        # Alone, to the bit.
        for length in LENGTHS:
            (left,), (right,) = (frames(model, make(model, (length,))) for make in (from_states, from_sound))
            assert torch.equal(left, right)


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_only_the_last_layer_learns_and_as_it_does_from_sound(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind], 1, keep_lower=True)
    masks = Masks(layers_kept=torch.tensor([[True, True], [True, False]]))
    grads = []
    for make in (from_states, from_sound):
        model.zero_grad()
        batch = make(model, (20_000, 9_000), masks)
        sum(part.square().sum() for part in frames(model, batch)).backward()
        grads.append({name: weight.grad for name, weight in model.named_parameters()})
    found, expected = grads
    for name in found:
        if not name.startswith("encoder."):
            continue
        level = model.encoder.find_level(name.removeprefix("encoder."))
        assert (found[name] is not None) == (level == 3) == (expected[name] is not None), name
        if found[name] is not None:
            scale = expected[name].abs().max()
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=float(1e-5 * (1 + scale)))
    assert any(grad is not None and grad.abs().max() > 1e-3 for grad in found.values())


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_below_the_trained_layers_nothing_is_left_out_and_it_is_said(
    kind: str, folders: dict[str, Path]
) -> None:
    plain, kept = load(folders[kind], 1), load(folders[kind], 1, keep_lower=True)
    before, after = (model.draw_masks(LENGTHS * 9, np.random.default_rng(0)) for model in (plain, kept))
    if kind == "whisper":
        assert before is after is None
        assert kept.encoder.changed == ()
        return
    assert not before.layers_kept[0].all()
    assert after.layers_kept[0].all()
    assert torch.equal(after.layers_kept[1], before.layers_kept[1])
    assert after.masked_frames is after.masked_features is None
    assert plain.encoder.changed == ()
    assert kept.encoder.changed[0] == "LayerDrop (0.1) acts on the last layer alone"
    said = "SpecAugment (time 0.05), which acts below all layers, is off"
    assert kept.encoder.changed[1:] == ((said,) if before.masked_frames is not None else ())
    # Training mode makes the same states, whatever dropouts are configured.
    first, second = (from_sound(kept, (20_000,)).make_states(kept.train(mode))[0] for mode in (True, False))
    assert torch.equal(first, second)


def test_whispers_own_dropout_below_is_off_too(tmp_path: Path) -> None:
    folder = write_audio(tmp_path, "whisper")
    plain, kept = (load(folder, 1, hidden_dropout=0.2, keep_lower=keep) for keep in (False, True))
    assert kept.encoder.changed == ("dropout (0.2) of what goes into the first layer is off",)
    assert kept.encoder.model.layers[1].dropout == plain.encoder.model.dropout == 0.2
    first, second = (from_sound(kept, (20_000,)).make_states(kept.train(mode))[0] for mode in (True, False))
    assert torch.equal(first, second)


def test_what_cannot_be_kept_is_refused() -> None:
    kept = TuningConfig(train_layers=1, keep_lower=True)
    with pytest.raises(ValueError, match="below the layers that are trained: set train_layers"):
        TuningConfig(keep_lower=True)
    with pytest.raises(ValueError, match="layer_weights reads every layer: keep_lower keeps only"):
        ModelConfig(vad_head=False, layer_weights=True, tuning=kept)
    with pytest.raises(ValueError, match="without pad_seconds"):
        ModelConfig(pad_seconds=3.0, tuning=kept)
    with pytest.raises(ValueError, match=r"training\.augmentation, which varies clips, is for runs without"):
        RunConfig(
            model=ModelConfig(tuning=kept),
            training=TrainingConfig(augmentation=AugmentationConfig(gain_db=3.0)),
        )


@pytest.mark.parametrize(
    ("parts", "training", "expected"),
    [
        ({}, False, None),
        ({"freeze_encoder": True}, True, "frames"),
        ({"tuning": TuningConfig(train_layers=1)}, True, None),
        ({"tuning": TuningConfig(train_layers=1)}, False, "states"),
        ({"tuning": TuningConfig(train_layers=1, keep_lower=True)}, True, "states"),
        ({"tuning": TuningConfig(train_layers=1), "pad_seconds": 1.0}, False, None),
        ({"tuning": TuningConfig(train_layers=1), "layer_weights": True, "vad_head": False}, False, None),
    ],
)
def test_what_stays_as_it_is(parts: dict[str, Any], training: bool, expected: str | None) -> None:
    assert small_model("layer", **parts).find_fixed(training=training) == expected
