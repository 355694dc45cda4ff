"""Clips through a frozen encoder, or its lower part, once: for all epochs, runs and predictions.

What it makes is kept in the cache. An entry belongs to the weights that made it, to their config, to the
arithmetic, and to the very samples of a clip; each encoder has a folder of its own. A second of sound is
205 kB with the paper's encoder: 11 GiB for train.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
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
from abaw_emi.models.encoders.sound import Fixed

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


@dataclass(frozen=True, slots=True)
class FixedPart:
    """What of a model makes the same of a clip's sound, whatever else of it is trained.

    Attributes:
        makes: what that is.
        digest: SHA-256 of all that it follows from: models that share it share what is made.
    """

    makes: Fixed
    digest: str


def find_fixed_part(model: EmiModel, *, training: bool) -> FixedPart | None:
    """A frozen encoder, or the part below the layers that are trained; None where there is neither.

    Args:
        model: with its weights.
        training: see `EmiModel.find_fixed`.
    """
    makes = model.find_fixed(training=training)
    return None if makes is None else FixedPart(makes, _hash(model, makes))


def encode_examples(
    model: EmiModel, fixed: FixedPart, examples: Sequence[Example], runtime: Runtime
) -> list[Example] | None:
    """The examples with what the fixed part of the model makes of their sound, in their order.

    None if the disk has no room for it, which is reported: it is then made in each pass. Processes that train
    together encode a share each, onto a disk that they share.

    Args:
        model: stays as it is.
        fixed: its fixed part.
        examples: as they were read, not augmented; those without sound stay as they are.
        runtime: what the model runs with.
    """
    cache = Cache(f"{fixed.makes}-{ARITHMETIC}-{fixed.digest[:16]}", runtime.reporter)
    arithmetic = f"{runtime.precision}:{runtime.device.type}:torch{torch.__version__}"
    keys = {
        example.filename: f"{arithmetic}:{identify_clip(example.audio)}"
        for example in examples
        if example.audio is not None
    }
    sounds = {keys[example.filename]: example for example in examples if example.filename in keys}
    if not _make_missing(cache, sounds, model, fixed.makes, runtime):
        return None
    inference = Inference(model, runtime)

    def add(example: Example) -> Example:
        if example.filename not in keys:
            return example
        make = partial(_encode, inference, fixed.makes, example)
        made = cache.cached(keys[example.filename], make)
        return replace(example, frames=made) if fixed.makes == "frames" else replace(example, states=made)

    return [add(example) for example in examples]


class SharedParts:
    """What is equal in the encoders of runs that predict one after the other, computed once for all of them.

    Args:
        runs: how many of them there are.
        runtime: what they run with.
    """

    def __init__(self, runs: int, runtime: Runtime) -> None:
        self._several = runs > 1
        self._runtime = runtime
        self._seen: dict[FixedPart, str] = {}

    def encode(self, model: EmiModel, name: str, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples, with what the fixed part of a run's model makes of them, where it has one.

        Args:
            model: of the run.
            name: of the run.
            examples: what it reads.
        """
        fixed = find_fixed_part(model, training=False)
        if fixed is None:
            return examples
        # Kept for others to find: a run alone that was not trained on such states needs none.
        if fixed.makes == "states" and not (self._several or model.parts.tuning.keep_lower):
            return examples
        encoded = encode_examples(model, fixed, examples, self._runtime)
        if encoded is None:
            return examples
        first = self._seen.setdefault(fixed, name)
        if first != name:
            part = "" if fixed.makes == "frames" else f" below {name_top(model)}"
            self._runtime.reporter.say(
                f"{name}: its encoder{part} is equal to that of {first}: not run a second time"
            )
        return encoded


def _encode(inference: Inference, makes: Fixed, example: Example) -> tuple[Float32, dict[str, Any]]:
    """What is made of a single example, for an entry that is damaged or gone when it is read."""
    ((made,),) = inference.run(makes, [[example]])
    return made, {}


def _hash(model: EmiModel, makes: Fixed) -> str:
    """SHA-256 of all that shapes what is made: weights and config of the encoder and its VAD head.

    Of states, the weights below the first layer that is trained, and its number.
    """
    parts, encoder = model.parts, model.encoder
    assert encoder is not None, "there is a part of it that is fixed"
    settings = [parts.encoder, model.config.encoder_config, parts.vad_head]
    prefixes: tuple[str, ...] = ("encoder.", "vad_head.")
    top = sys.maxsize
    if makes == "states":
        settings[-1] = model.first_trained
        prefixes, top = ("encoder.",), 2 + model.first_trained
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith(prefixes) or name.endswith(_UNUSED):
            continue
        if encoder.find_level(name.removeprefix("encoder.")) < top:
            found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def name_top(model: EmiModel) -> str:
    """The layers that are trained, in words, of a model whose lower ones are not."""
    count = model.parts.tuning.train_layers
    return f"the last {count} layers" if count > 1 else "the last layer"


def _make_missing(
    cache: Cache, sounds: Mapping[str, Example], model: EmiModel, makes: Fixed, runtime: Runtime
) -> bool:
    """Makes the entries of the examples that have none, by key; False if there is no room for them."""
    world = runtime.world
    own = Shard(world.rank + 1, world.size).take(list(sounds))
    lock = cache.lock() if world.size == 1 else nullcontext()  # what others wait for is shared out instead
    done = all(map(cache.find, own))
    if not done:
        with lock:
            missing = {key: sounds[key] for key in own if not cache.find(key)}
            done = not missing or _fill(cache, missing, model, makes, runtime)
    return not world.most(not done)


def _fill(
    cache: Cache, missing: Mapping[str, Example], model: EmiModel, makes: Fixed, runtime: Runtime
) -> bool:
    """Encodes what is missing and keeps it; False if there is no room for it."""
    keys, examples = list(missing), list(missing.values())
    assert model.encoder is not None, "a model without an encoder has nothing to encode"
    count = model.encoder.state_lengths if makes == "states" else model.encoder.frame_lengths
    places = sum(count(example.samples) for example in examples)
    size = places * model.encoder.hidden_size * 4  # bytes of float32; the VAD's few beside it do not count
    if not cache.has_room(size):
        return False
    what = "frames" if makes == "frames" else f"states below {name_top(model)}"
    runtime.reporter.say(
        f"{what} of {len(examples):,} clips, {size / 2**30:.2f} GiB, are kept in {cache.folder}"
    )
    with closing(run_examples(model, makes, examples, runtime, "encoding")) as results:
        return all(cache.keep(keys[place], array) for place, array in results)
