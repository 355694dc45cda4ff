"""Sources to frames, group by group, with an encoder of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch

from abaw_emi.batching.loader import run_ahead
from abaw_emi.config.run import Precision
from abaw_emi.core.errors import EmiError, FeatureError, Problem, WeightsError
from abaw_emi.extraction.sources import Float32, FrameEncoder, Source
from abaw_emi.models.pretrained import Pretrained, shorten_error


def encode_all(
    model: FrameEncoder[Any, Any], pretrained: Pretrained, sources: Sequence[Source[Any]]
) -> Iterator[tuple[Source[Any], Float32]]:
    """Each source with its frames; pre-processed in a thread while those before are encoded."""
    groups = model.group(sources)
    for group, ready in zip(groups, run_ahead(model.prepare, groups, 1), strict=True):
        yield from zip(group, _encode(model, pretrained, group, ready), strict=True)


def _encode(
    model: FrameEncoder[Any, Any], pretrained: Pretrained, group: Sequence[Source[Any]], ready: Any
) -> list[Float32]:
    """The frames of a group; in halves where memory is short.

    Raises:
        WeightsError: the encoder does not run, or a single clip does not fit the memory.
    """
    where = ", ".join([pretrained.name, *(f"clip {source.filename}" for source in group[:1])])
    try:
        return model.encode(ready)
    except EmiError:
        raise
    except torch.OutOfMemoryError as error:
        if len(group) == 1:
            step = "use a smaller --batch, --device cpu, or a device with more memory"
            raise WeightsError(Problem(where, "does not fit the device's memory", next_step=step)) from error
    except Exception as error:  # whatever a model raises of input that it was not made for
        found = f"does not run: {type(error).__name__}: {shorten_error(error)}"
        raise WeightsError(Problem(where, found, "an encoder of what --kind says")) from error
    torch.cuda.empty_cache()  # outside the handler: the traceback holds on to what filled the memory
    middle = len(group) // 2
    return [
        frames
        for half in (group[:middle], group[middle:])
        for frames in _encode(model, pretrained, half, model.prepare(half))
    ]


def check_frames(source: Source[Any], frames: Float32, precision: Precision) -> None:
    """Passes where the frames of a source are such.

    Raises:
        FeatureError: they are empty, or not finite.
    """
    where = f"clip {source.filename}"
    if frames.ndim != 2 or not frames.size:
        shape = " x ".join(map(str, frames.shape))
        raise FeatureError(Problem(where, f"the encoder gives {shape} numbers", "frames x features"))
    if not np.isfinite(frames).all():
        step = "use --precision fp32" if precision != "fp32" else ""
        raise FeatureError(
            Problem(where, "the encoder gives numbers that are NaN or infinite", next_step=step)
        )


def pack_frames(frames: Float32) -> bytes:
    """The bytes of a .npy file: float32 (T, D)."""
    stream = BytesIO()
    np.save(stream, np.ascontiguousarray(frames, np.float32), allow_pickle=False)
    return stream.getvalue()
