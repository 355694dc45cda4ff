"""Faces that move: what a face detector and a vision transformer would make of a demo clip's video.

A face is four movements over its frames: the corners of the mouth, the open mouth, the brows, the turn of
the head. The first three are driven, mostly, by Joy, Amusement and Excitement; the last says nothing.
Each speaker has a resting face, which looks a little moved already.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from abaw_emi.core import constants
from abaw_emi.demo.plan import DemoClip, Stream

FACES_PER_SECOND = 6.4  # official: 42 faces in 6.54 s
WIDTH = 384  # of the official vision features
SIZE = 64  # pixels of a picture's side; the official ones have 160

_DRIVES = {  # movements (corners of the mouth, open mouth, brows, turn) of an emotion at its strongest
    "Admiration": (0.2, 0.0, 0.2, 0.0),
    "Amusement": (0.4, 1.6, 0.0, 0.0),
    "Determination": (-0.3, 0.0, -0.2, 0.0),
    "Empathic Pain": (-0.3, 0.0, -0.2, 0.0),
    "Excitement": (0.3, 0.3, 1.6, 0.0),
    "Joy": (1.6, 0.0, 0.0, 0.0),
}
_MOVEMENTS = 4
_RESTING, _MOOD, _FLICKER = 0.15, 0.1, 0.3  # standard deviations of a movement: speaker, clip, frame
_LOOKS, _NOISE = 0.05, 0.3  # of a feature: speaker, frame


def move_face(clip: DemoClip, *, seed: int) -> NDArray[np.float64]:
    """The movements (T, 4) of a clip's face: T is 6.4 a second, and at least 1."""
    frames = max(1, round(clip.seconds * FACES_PER_SECOND))
    resting = np.random.default_rng((seed, Stream.RESTING_FACE, clip.speaker)).standard_normal(_MOVEMENTS)
    rng = np.random.default_rng((seed, Stream.FACE, int(clip.name)))
    drives = np.array([_DRIVES[emotion] for emotion in constants.EMOTIONS])  # (6, 4)
    # The root, as for the sound: a slight emotion is seen already, and the label is no linear function of it.
    level = np.sqrt(clip.latent) @ drives + _MOOD * rng.standard_normal(_MOVEMENTS)
    # An expression comes and goes; where in the clip it is at its height differs.
    time = (np.arange(frames) + 0.5) / frames - rng.uniform(0.3, 0.7)
    course = 0.4 + 1.1 * np.exp(-((time / 0.3) ** 2))  # (T,)
    flicker = _FLICKER * rng.standard_normal((frames, _MOVEMENTS))
    return np.asarray(_RESTING * resting + course[:, None] * level + flicker, np.float64)


def describe_face(movements: NDArray[np.float64], clip: DemoClip, *, seed: int) -> NDArray[np.float32]:
    """Vision features (T, 384) of a face's movements (T, 4): a fixed random layer, who it is, noise."""
    layer = np.random.default_rng(384)  # the "trained" weights: the same for every corpus
    weights, bias = layer.standard_normal((_MOVEMENTS, WIDTH)), layer.standard_normal(WIDTH)
    looks = np.random.default_rng((seed, Stream.RESTING_FACE, clip.speaker, 1)).standard_normal(WIDTH)
    rng = np.random.default_rng((seed, Stream.FACE, int(clip.name), 1))
    noise = _NOISE * rng.standard_normal((len(movements), WIDTH))
    return np.asarray(np.tanh(0.6 * (movements @ weights + bias)) + _LOOKS * looks + noise, np.float32)


def draw_face(movements: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture (64, 64, 3) of a face with the movements (4,)."""
    corners, opening, brows, turn = np.clip(movements, -2.0, 2.0)
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE / 2) - 1.0  # (64, 64), from -1 at the top and on the left to 1
    x = x - 0.1 * turn
    picture = np.full((SIZE, SIZE, 3), (70, 90, 110), np.uint8)
    picture[(x / 0.7) ** 2 + (y / 0.9) ** 2 < 1] = (224, 180, 150)
    for side in (-0.3, 0.3):
        eye = x - side
        picture[eye**2 + ((y + 0.2) / 0.7) ** 2 < 0.01] = (40, 40, 60)
        picture[(abs(eye) < 0.15) & (abs(y + 0.4 + 0.08 * brows) < 0.04)] = (90, 60, 40)
    # Corners up is a parabola that is open at the top: y grows downwards.
    mouth = 0.45 - 1.2 * corners * (x**2 - 0.05)
    picture[(abs(x) < 0.35) & (abs(y - mouth) < 0.05 + 0.06 * max(opening, 0.0))] = (150, 40, 50)
    return picture


def encode_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """The picture (H, W, 3) as a JPEG file; same picture, same bytes."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.thread_count = 1
    encoder.options = {"flags": "+bitexact+qscale", "global_quality": str(4 * 118)}  # FF_QP2LAMBDA is 118
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode()))
