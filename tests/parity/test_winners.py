"""Checkpoints of the winners of 2025 and 2026, imported, against forwards written from their descriptions.

One clip at a time, nothing padded, in double precision; random weights under the names of their public code.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from abaw_emi import load
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import UsageError, WeightsError
from abaw_emi.demo.encoders import write_encoders
from abaw_emi.training.import_weights import import_run
from tests.backbones import backbone_weights, small_config
from tests.command import run_command
from tests.parity.released_forward import (
    Weights,
    gelu,
    layer_norm,
    linear,
    lstm_layer,
    prepare,
    under,
    wav2vec2,
)
from tests.small_encoders import write_text

CONFIG = small_config()
FRAME, FACES, WORDS = CONFIG["hidden_size"] + 3, 12, 32  # widths of the frames of sound, faces, words
TOLERANCE = 1e-4
CLIPS = [(400, 1, "so happy"), (16_000, 7, "you are amazing, how beautiful"), (80_000, 30, "oh wow")]
"""Samples, frames of faces, words."""


def draw(generator: torch.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {
        name: torch.randn(shape, generator=generator) / (shape[-1] if len(shape) > 1 else 9) ** 0.5
        for name, shape in shapes.items()
    }


def dense(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def recurrent(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, inputs in enumerate((width, hidden)):
        for kind, size in (("ih", inputs), ("hh", hidden)):
            shapes |= {f"{name}.weight_{kind}_l{layer}": (4 * hidden, size)}
            shapes |= {f"{name}.bias_{kind}_l{layer}": (4 * hidden,)}
    return shapes


def make_weights(preset: str, text: Path) -> dict[str, Tensor]:
    """A state dict under the names of the public code, all random."""
    weights = {f"audio_model.{name}": value for name, value in backbone_weights(CONFIG).items()}
    weights |= {
        f"text_model.{name}": 4 * value for name, value in load_file(text / "model.safetensors").items()
    }
    generator = torch.Generator().manual_seed(1)
    if preset == "winner-2025":
        shapes = {
            **dense("text_model.pooler.dense", WORDS, WORDS),
            **recurrent("lstm_audio", FRAME, FRAME),
            **recurrent("lstm_vis", FACES, 768),
            **dense("fusion_model.0", 1027, FRAME + 768 + WORDS),
            **dense("fusion_model.2", 6, 1027),
        }
        return weights | draw(generator, shapes)
    shapes = {"miss_audio": (1, 1, FRAME), "miss_vision": (1, 1, FACES), "miss_text": (1, WORDS)}
    for name, width in (("ca_audio", FRAME), ("ca_vision", FACES)):
        shapes |= dense(f"{name}.q_proj", 512, WORDS) | dense(f"{name}.out_proj", 512, 512)
        shapes |= dense(f"{name}.k_proj", 512, width) | dense(f"{name}.v_proj", 512, width)
        for norm in ("ln_q", "ln_kv"):
            shapes |= {f"{name}.{norm}.weight": (512,), f"{name}.{norm}.bias": (512,)}
    shapes |= dense("pred_head.0", 512, WORDS + 2 * 512) | dense("pred_head.3", 6, 512)
    return weights | draw(generator, shapes)


def bert(weights: Weights, tokens: list[int], heads: int, layers: int) -> Tensor:
    """The last hidden states (F, H) of tokens: Devlin et al., 2019."""
    embeddings = under(weights, "embeddings.")
    x = embeddings["word_embeddings.weight"][tokens] + embeddings["token_type_embeddings.weight"][0]
    x = layer_norm(embeddings, "LayerNorm", x + embeddings["position_embeddings.weight"][: len(x)], 1e-12)
    for number in range(layers):
        layer = under(weights, f"encoder.layer.{number}.")
        query, key, value = (
            linear(layer, f"attention.self.{name}", x).unflatten(1, (heads, -1)).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        found = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1) @ value
        inner = linear(layer, "attention.output.dense", found.transpose(0, 1).flatten(1))
        x = layer_norm(layer, "attention.output.LayerNorm", x + inner, 1e-12)
        inner = linear(layer, "output.dense", gelu(linear(layer, "intermediate.dense", x)))
        x = layer_norm(layer, "output.LayerNorm", x + inner, 1e-12)
    return x


def look_up(weights: Weights, query: Tensor, frames: Tensor) -> Tensor:
    """Attention with 4 heads of a query (Q,) over frames (F, D); query and keys are normalised."""
    q = layer_norm(weights, "ln_q", linear(weights, "q_proj", query)).unflatten(0, (4, -1))
    k = layer_norm(weights, "ln_kv", linear(weights, "k_proj", frames)).unflatten(1, (4, -1))
    v = linear(weights, "v_proj", frames).unflatten(1, (4, -1))
    shares = torch.softmax(torch.einsum("hd,fhd->hf", q, k) / q.shape[-1] ** 0.5, dim=-1)
    return linear(weights, "out_proj", torch.einsum("hf,fhd->hd", shares, v).flatten())


def forward(
    preset: str, weights: Weights, samples: np.ndarray, faces: np.ndarray | None, tokens: list[int]
) -> Tensor:
    """The six intensities of one clip."""
    weights = {name: value.double() for name, value in weights.items()}
    hidden = wav2vec2(under(weights, "audio_model.wav2vec2."), CONFIG, prepare(samples))
    head = under(weights, "audio_model.classifier.")
    vad = linear(head, "out_proj", torch.tanh(linear(head, "dense", hidden)))
    sound = torch.cat([hidden, vad], dim=1)
    words = bert(under(weights, "text_model."), tokens, heads=2, layers=2)[0]
    if preset == "winner-2025":
        assert faces is not None
        states = [
            lstm_layer(part, 1, lstm_layer(part, 0, frames))[-1]
            for part, frames in (
                (under(weights, "lstm_audio."), sound),
                (under(weights, "lstm_vis."), torch.from_numpy(faces).double()),
            )
        ]
        fusion = under(weights, "fusion_model.")
        return linear(fusion, "2", torch.tanh(linear(fusion, "0", torch.cat([*states, words]))))
    seen = weights["miss_vision"][0] if faces is None else torch.from_numpy(faces).double()
    heard = look_up(under(weights, "ca_audio."), words, sound)
    found = look_up(under(weights, "ca_vision."), words, seen)
    head = under(weights, "pred_head.")
    return linear(head, "3", gelu(linear(head, "0", torch.cat([words, heard, found]))))


@pytest.fixture
def encoders(tmp_path: Path) -> Path:
    folder = tmp_path / "encoders"
    write_encoders(folder)
    (folder / "speech" / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize("preset", ["winner-2025", "winner-2026"])
def test_predictions_equal_their_forward_clip_by_clip(encoders: Path, tmp_path: Path, preset: str) -> None:
    weights = make_weights(preset, encoders / "text")
    torch.save({f"module.{name}": value for name, value in weights.items()}, tmp_path / "theirs.pth")
    own = ["--backbone", encoders / "speech", "--text", encoders / "text", "--out", tmp_path / "run"]
    done = run_command("import-weights", tmp_path / "theirs.pth", "--preset", preset, *own)
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(1)
    sounds = [rng.normal(size=samples).astype(np.float32) for samples, _, _ in CLIPS]
    faces: list[np.ndarray | None] = [rng.normal(1, 2, (n, FACES)).astype(np.float32) for _, n, _ in CLIPS]
    if preset == "winner-2026":
        faces[1] = None
    words = [text for _, _, text in CLIPS]
    run = load(tmp_path / "run")
    name = run.config.model.features[0].name
    found = run.predict(sounds, sample_rate=16_000, features={name: faces, "text": words})
    tokens = AutoTokenizer.from_pretrained(encoders / "text")
    expected = np.stack(
        [
            forward(preset, weights, *clip, tokens(text)["input_ids"]).numpy()
            for *clip, text in zip(sounds, faces, words, strict=True)
        ]
    )
    np.testing.assert_allclose(found.select(EMOTIONS).to_numpy(), expected, rtol=0, atol=TOLERANCE)
    assert np.abs(expected[:, None] - expected[None]).max(2)[~np.eye(3, dtype=bool)].min() > 100 * TOLERANCE


def test_a_checkpoint_has_the_names_that_gte_has_on_the_hub(tmp_path: Path, encoders: Path) -> None:
    gte = write_text(tmp_path / "gte", kind="gte")
    config = AutoTokenizer.from_pretrained(gte)
    config.model_max_length = 128
    config.save_pretrained(gte)
    stored = {f"text_model.{key}": value for key, value in load_file(gte / "model.safetensors").items()}
    assert "text_model.encoder.layer.0.attention.qkv_proj.weight" in stored
    theirs = make_weights("winner-2026", encoders / "text")
    others = {key: value for key, value in theirs.items() if not key.startswith("text_model.")}
    narrow = {"miss_text": torch.ones(1, 16), "pred_head.0.weight": torch.ones(512, 16 + 2 * 512)}
    narrow |= {f"ca_{name}.q_proj.weight": torch.ones(512, 16) for name in ("audio", "vision")}
    file = tmp_path / "theirs.pth"
    torch.save(others | narrow | stored, file)
    places = (file, str(encoders / "speech"), "main")
    run = import_run(*places, tmp_path / "run", preset="winner-2026", text=str(gte))
    found = load(run.folder).model.text.model.state_dict()
    expected = AutoModel.from_pretrained(gte).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    torch.save(others | narrow | stored | {"text_model.encoder.layer.7.stray": torch.ones(2)}, file)
    with pytest.raises(WeightsError, match=r"theirs.pth: unknown weights \(1\): layers.7.stray"):
        import_run(*places, tmp_path / "other", preset="winner-2026", text=str(gte))


def test_what_is_missing_unknown_or_not_read_is_named(encoders: Path, tmp_path: Path) -> None:
    weights = make_weights("winner-2026", encoders / "text")
    del weights["ca_vision.k_proj.weight"], weights["miss_text"]
    torch.save({**weights, "gate_head.0.weight": torch.zeros(6, 6)}, tmp_path / "theirs.pth")
    places = (tmp_path / "theirs.pth", str(encoders / "speech"), "main", tmp_path / "run")
    with pytest.raises(WeightsError) as caught:
        import_run(*places, preset="winner-2026", text=str(encoders / "text"))
    message = str(caught.value)
    assert "missing weights (2): ca_vision.k_proj.weight, miss_text" in message
    assert "unknown weights (1): gate_head.0.weight" in message
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="released has no text encoder"):
        import_run(*places, text=str(encoders / "text"))
