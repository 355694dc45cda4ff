"""Predictions that were made before: ensembling again costs no inference.

An entry belongs to a run's weights and config, to the very samples of the clips, and to the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from abaw_emi.audio.cache import cache_folder
from abaw_emi.audio.clips import Clip
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.core.constants import EMOTIONS, FILENAME, Precision
from abaw_emi.core.errors import Problem
from abaw_emi.core.hashing import hash_file, sha256
from abaw_emi.core.store import ArrayStore
from abaw_emi.inference.engine import ARITHMETIC
from abaw_emi.inference.frozen_encoder import identify_clip
from abaw_emi.inference.predict import make_table
from abaw_emi.runs.run import Run


def fingerprint_clips(clips: Sequence[Clip | EncodedClip]) -> str:
    """A hash of the clips' ids, samples and features, whatever their order."""
    return sha256("\n".join(sorted(f"{clip.filename}:{_identify(clip)}" for clip in clips)).encode())


def _identify(clip: Clip | EncodedClip) -> str:
    sound = identify_clip(clip) if isinstance(clip, Clip) and clip.has_sound else ""
    return sound if clip.features is None else f"{sound}:{clip.features.source_hash}"


class PredictionStore:
    """Prediction tables by what they follow from, in the cache: safe to delete at any time.

    Args:
        folder: Where caches lie; `cache.cache_folder()` if not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._store = ArrayStore(folder or cache_folder(), f"predictions-{ARITHMETIC}")
        self._unwritable: list[Problem] = []

    @property
    def warnings(self) -> list[Problem]:
        """What was damaged, and is predicted again, and why nothing can be added."""
        return [*self._store.problems, *self._unwritable]

    def get(self, key: str, clips: Sequence[Clip | EncodedClip]) -> pl.DataFrame | None:
        """The table of `key`, as `prediction.predict` returned it; None where none is whole."""
        stored = self._store.get(key)
        if stored is None or stored.shape != (len(clips), len(EMOTIONS)):
            return None
        values = stored.read()
        return make_table(sorted(clip.filename for clip in clips), values)

    def add(self, key: str, table: pl.DataFrame) -> None:
        """Keeps a table; where that cannot be, there is a warning, and it is predicted again next time."""
        values = table.sort(FILENAME).select(EMOTIONS).to_numpy().astype(np.float32)
        try:
            with self._store.writing():
                if self._store.get(key) is None:
                    self._store.add(key, values)
        except OSError as error:
            found = f"cannot be written ({error.strerror or error})"
            self._unwritable = [Problem(str(self._store.folder), found, next_step="predictions are not kept")]


def make_key(run: Run, weights: str, clips: str, precision: Precision, device: torch.device) -> str:
    """What a run's predictions follow from.

    Args:
        run: whose `config.json` says what the weights mean.
        weights: SHA-256 of its weights.
        clips: as `fingerprint_clips` returns.
        precision: of the arithmetic.
        device: where it is done.
    """
    config = hash_file(run.folder / "config.json")
    return f"{weights}:{config}:{clips}:{precision}:{device.type}:torch{torch.__version__}"
