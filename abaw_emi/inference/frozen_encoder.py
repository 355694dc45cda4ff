"""Clips through a frozen encoder, once: frames are kept in the cache, for all epochs, runs and predictions.

An entry belongs to the encoder's weights and config, to the arithmetic, and to the very samples of a clip;
each encoder has a folder of its own. A second of sound is 205 kB with the paper's encoder: 11 GiB for train.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.core.arrays import Float32
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import Precision
from abaw_emi.core.hashing import sha256
from abaw_emi.core.progress import Reporter
from abaw_emi.inference.engine import ARITHMETIC, Inference, plan_groups
from abaw_emi.inference.workers import run_groups
from abaw_emi.models.emi import EmiModel

_UNUSED = "masked_spec_embed"
"""SpecAugment's vector, drawn anew for some backbones: no part of an encoder that is not trained."""


def identify_clip(clip: Clip) -> str:
    """What tells one clip's samples from another's, without reading those that lie in the cache.

    The file's hash says where they come from; their number and moments change with whatever decodes,
    resamples or cuts them. A sound that was made in memory is hashed.
    """
    source = clip.sound.source_hash or sha256(clip.waveform.tobytes())
    mean, variance = map(float, clip.moments)
    return f"{source}:{clip.samples}:{mean!r}:{variance!r}"


def encode_clips(
    model: EmiModel,
    clips: Sequence[Clip],
    *,
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> list[EncodedClip] | None:
    """The clips with the frames that the model's encoder gives them, in their order.

    None where the disk has no room for them, which is reported: then they are to be encoded in each pass.

    Args:
        model: its encoder is frozen; it stays as it is.
        clips: as they were read, not augmented.
        device: where the model is.
        precision: of its arithmetic.
        reporter: shows how far things are.
    """
    cache = Cache(f"frames-{ARITHMETIC}-{hash_encoder(model)[:16]}", reporter)
    arithmetic = f"{precision}:{device.type}:torch{torch.__version__}"
    keys = [f"{arithmetic}:{identify_clip(clip)}" for clip in clips]
    if not all(map(cache.find, keys)):
        with cache.lock():
            missing = {key: clip for key, clip in zip(keys, clips, strict=True) if not cache.find(key)}
            if missing and not _fill(cache, missing, model, device, precision, reporter):
                return None
    inference = Inference(model, device=device, precision=precision)
    return [
        EncodedClip(
            clip.filename,
            clip.samples,
            cache.cached(key, partial(_encode, inference, clip)),
            clip.features,
            clip.has_sound,
        )
        for key, clip in zip(keys, clips, strict=True)
    ]


def _encode(inference: Inference, clip: Clip) -> tuple[Float32, dict[str, Any]]:
    """The frames of a single clip, for an entry that is damaged or gone when it is read."""
    ((frames,),) = inference.run("frames", [[clip]])
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


def _fill(
    cache: Cache,
    missing: Mapping[str, Clip],
    model: EmiModel,
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> bool:
    """Encodes what is missing and keeps it; False if there is no room for it."""
    keys, clips = list(missing), list(missing.values())
    assert model.encoder is not None, "a model without an encoder has nothing to encode"
    width = model.encoder.hidden_size
    frames = sum(int(model.encoder.frame_lengths(torch.tensor(clip.samples))) for clip in clips)
    size = frames * width * 4  # bytes of float32; the VAD's few beside it do not count
    if not cache.has_room(size):
        return False
    reporter.say(f"frames of {len(clips):,} clips, {size / 2**30:.2f} GiB, are kept in {cache.folder}")
    groups = plan_groups(clips, device)
    with reporter.bar("encoding", len(clips)) as bar:
        results = run_groups(
            model,
            "frames",
            [[clips[place] for place in group] for group in groups],
            device=device,
            precision=precision,
            advance=bar.advance,
        )
        with closing(results):
            for number, values in results:
                for place, array in zip(groups[number], values, strict=True):
                    if not cache.keep(keys[place], array):
                        return False
    return True
