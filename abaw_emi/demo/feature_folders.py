"""The feature folders of a demo corpus: one file for each clip that has what the folder is of."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw_emi.core.files import write_bytes
from abaw_emi.demo.hearing import describe_sound
from abaw_emi.demo.modalities import describe_face, draw_face, encode_jpeg, move_face
from abaw_emi.demo.plan import DemoClip
from abaw_emi.demo.sayings import describe_words, transcribe

_THUMBS = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504)
"""What Windows leaves in a folder of pictures, and the official data has: no picture."""


def write_face(clip: DemoClip, home: Path, *, seed: int) -> None:
    """Writes `home/vit/NNNNN.pkl` and, for a clip that has pictures, `home/face_images/NNNNN/0.jpg` and on.

    A clip without a face has no features, and an empty folder of pictures.
    """
    pictures = home / "face_images" / clip.name
    if clip.has_pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    if not clip.is_seen:
        return
    movements = move_face(clip, seed=seed)
    _write_pickle(home / "vit" / f"{clip.name}.pkl", describe_face(movements, clip, seed=seed))
    if clip.has_pictures:
        for number, row in enumerate(movements):
            write_bytes(pictures / f"{number}.jpg", encode_jpeg(draw_face(row)))
        write_bytes(pictures / "Thumbs.db", _THUMBS)


def write_words(clip: DemoClip, home: Path, *, seed: int) -> None:
    """Writes `home/text/NNNNN.txt` and, where there are words, `home/gte/NNNNN.npy`."""
    transcript = transcribe(clip, seed=seed)
    write_bytes(home / "text" / f"{clip.name}.txt", f"{transcript}\n".encode() if transcript else b"")
    if transcript:
        content = BytesIO()
        np.save(content, describe_words(transcript, clip, seed=seed), allow_pickle=False)
        write_bytes(home / "gte" / f"{clip.name}.npy", content.getvalue())


def write_sound_features(clip: DemoClip, waveform: NDArray[np.float32], home: Path) -> None:
    """Writes `home/wav2vec2/NNNNN.pkl`, of the waveform (T,) that the clip's sound file is made of."""
    _write_pickle(home / "wav2vec2" / f"{clip.name}.pkl", describe_sound(waveform))


def _write_pickle(path: Path, features: NDArray[Any]) -> None:
    """A pickled array, as delivered; the protocol is named so that every Python writes the same bytes."""
    write_bytes(path, pickle.dumps(features, protocol=4))
