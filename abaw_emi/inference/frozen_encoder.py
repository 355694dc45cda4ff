"""Clips through a frozen encoder, once: frames are kept in the cache, for all epochs, runs and predictions.

An entry belongs to the encoder's weights and config, to the arithmetic, and to the very samples of a clip;
each encoder has a folder of its own. A second of sound is 205 kB with the paper's encoder: 11 GiB for train.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Example
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import Cache
from abaw_emi.core.hashing import sha256
from abaw_emi.data.shard import Shard
from abaw_emi.inference.engine import ARITHMETIC, Inference
from abaw_emi.inference.workers import run_examples
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel

_UNUSED = "masked_spec_embed"
"""SpecAugment's vector, random for some backbones: no part of an encoder that is not trained."""


def identify_clip(clip: Clip) -> str:
    """What distinguishes one clip's samples from another's, without reading those that lie in the cache.

    The file's hash says where they come from; their number and moments change with whatever decodes,
    resamples or cuts them. A sound that was made in memory is hashed.
    """
    source = clip.sound.source_hash or sha256(clip.waveform.tobytes())
    mean, variance = map(float, clip.moments)
    return f"{source}:{clip.samples}:{mean!r}:{variance!r}"


def encode_examples(model: EmiModel, examples: Sequence[Example], runtime: Runtime) -> list[Example] | None:
    """The examples with the frames that the model's encoder makes of their sound, in their order.

    None if the disk has no room for the frames, which is reported: they are then made in each pass. Processes
    that train together encode a share each, onto a disk that they share.

    Args:
        model: its encoder is frozen; it stays as it is.
        examples: as they were read, not augmented; those without sound stay as they are.
        runtime: what the model runs with.
    """
    cache = Cache(f"frames-{ARITHMETIC}-{hash_encoder(model)[:16]}", runtime.reporter)
    arithmetic = f"{runtime.precision}:{runtime.device.type}:torch{torch.__version__}"
    keys = {
        example.filename: f"{arithmetic}:{identify_clip(example.audio)}"
        for example in examples
        if example.audio is not None
    }
    sounds = {keys[example.filename]: example for example in examples if example.filename in keys}
    if not _make_missing(cache, sounds, model, runtime):
        return None
    inference = Inference(model, runtime)
    return [
        replace(example, frames=cache.cached(keys[example.filename], partial(_encode, inference, example)))
        if example.filename in keys
        else example
        for example in examples
    ]


def _encode(inference: Inference, example: Example) -> tuple[Float32, dict[str, Any]]:
    """The frames of a single example, for an entry that is damaged or gone when it is read."""
    ((frames,),) = inference.run("frames", [[example]])
    return frames, {}


def hash_encoder(model: EmiModel) -> str:
    """SHA-256 of all that shapes a clip's frames: the encoder, its config, and the VAD head."""
    parts = model.parts
    described = json.dumps([parts.encoder, model.config.encoder_config, parts.vad_head], sort_keys=True)
    found = hashlib.sha256(described.encode())
    for name, tensor in model.state_dict().items():
        if name.startswith(("encoder.", "vad_head.")) and not name.endswith(_UNUSED):
            found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _make_missing(cache: Cache, sounds: Mapping[str, Example], model: EmiModel, runtime: Runtime) -> bool:
    """Makes the entries of the examples that have none, by key; False if there is no room for them."""
    world = runtime.world
    own = Shard(world.rank + 1, world.size).take(list(sounds))
    lock = cache.lock() if world.size == 1 else nullcontext()  # what others wait for is shared out instead
    done = all(map(cache.find, own))
    if not done:
        with lock:
            missing = {key: sounds[key] for key in own if not cache.find(key)}
            done = not missing or _fill(cache, missing, model, runtime)
    return not world.most(not done)


def _fill(cache: Cache, missing: Mapping[str, Example], model: EmiModel, runtime: Runtime) -> bool:
    """Encodes what is missing and keeps it; False if there is no room for it."""
    keys, examples = list(missing), list(missing.values())
    assert model.encoder is not None, "a model without an encoder has nothing to encode"
    width = model.encoder.hidden_size
    frames = sum(int(model.encoder.frame_lengths(torch.tensor(example.samples))) for example in examples)
    size = frames * width * 4  # bytes of float32; the VAD's few beside it do not count
    if not cache.has_room(size):
        return False
    runtime.reporter.say(
        f"frames of {len(examples):,} clips, {size / 2**30:.2f} GiB, are kept in {cache.folder}"
    )
    with closing(run_examples(model, "frames", examples, runtime, "encoding")) as results:
        return all(cache.keep(keys[place], array) for place, array in results)
