"""The demo's other modalities: face pictures, transcripts, and the feature folders made of them and of sound.

A face is four movements over its frames: the corners of the mouth, the open mouth, the brows, the turn of
the head. The first three depend, mostly, on Joy, Amusement and Excitement; the last carries no information.
Each speaker has a resting face, which looks a little moved already.

A transcript is a few phrases, drawn by the clip's intensities: Admiration, Determination and Empathic Pain
are mostly put into words, the others seldom, and many phrases are fillers. Every word has a fixed random
vector, as if it came from a trained model; the first token stands for the whole sentence.
"""

from __future__ import annotations

import pickle
import re
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import av
import numpy as np
from numpy.typing import NDArray

from abaw_emi.core import constants
from abaw_emi.core.files import write_bytes
from abaw_emi.demo.baseline import describe_sound
from abaw_emi.demo.plan import DemoClip, Stream

FACES_PER_SECOND = 6.4  # official: 42 faces in 6.54 s
FACE_WIDTH = 384  # of the official vision features
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
    weights, bias = layer.standard_normal((_MOVEMENTS, FACE_WIDTH)), layer.standard_normal(FACE_WIDTH)
    looks = np.random.default_rng((seed, Stream.RESTING_FACE, clip.speaker, 1)).standard_normal(FACE_WIDTH)
    rng = np.random.default_rng((seed, Stream.FACE, int(clip.name), 1))
    noise = _NOISE * rng.standard_normal((len(movements), FACE_WIDTH))
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


WORD_WIDTH = 64  # of a token's vector; nothing official is delivered for text

_PHRASES = {
    "Admiration": ("wonderful", "so brave", "you are amazing", "how beautiful"),
    "Amusement": ("so funny", "hilarious", "you clown"),
    "Determination": ("never give up", "we keep going", "I will do it", "nothing stops me"),
    "Empathic Pain": ("that must hurt", "so sorry for you", "how awful", "poor thing"),
    "Excitement": ("I cannot wait", "oh wow", "so exciting"),
    "Joy": ("so happy", "what a lovely day", "this makes me smile"),
}
_FILLERS = ("you know", "well", "I mean", "let me think", "on Monday", "and then", "anyway", "they came here")
WORDS = tuple(sorted({*re.findall(r"\w+", " ".join(sum(_PHRASES.values(), _FILLERS)).lower())}))
"""All that is ever said, in lower case."""

_SPOKEN = ("Admiration", "Determination", "Empathic Pain")
_SELDOM = 0.15  # how often another emotion is put into words
_PHRASES_PER_SECOND = 1.5
_TOKEN_NOISE = 0.3  # of a token's vector, against words of unit variance


def transcribe(clip: DemoClip, *, seed: int) -> str:
    """The transcript of a clip, one line; empty where no word was understood.

    >>> from abaw_emi.demo.plan import plan_corpus
    >>> first, second = plan_corpus(seed=1, train=2, valid=0, test=0)
    >>> transcribe(second, seed=1)
    ''
    """
    if not clip.is_said:
        return ""
    rng = np.random.default_rng((seed, Stream.WORDS, int(clip.name)))
    gains = np.array([1.0 if emotion in _SPOKEN else _SELDOM for emotion in constants.EMOTIONS])
    chances = gains * clip.latent
    choices = (*(_PHRASES[emotion] for emotion in constants.EMOTIONS), _FILLERS)
    count = 1 + round(_PHRASES_PER_SECOND * clip.seconds)
    # At even steps through the chances: what is strong is said for sure, even in a short clip.
    places = (rng.random() + np.arange(count)) / count
    drawn = rng.permutation(np.searchsorted(np.cumsum(chances), places))
    phrases = [choices[index][rng.integers(len(choices[index]))] for index in drawn]
    sentence = ", ".join(phrases)
    return f"{sentence[0].upper()}{sentence[1:]}."


def describe_words(transcript: str, clip: DemoClip, *, seed: int) -> NDArray[np.float32]:
    """Text features (1 + words, 64): a token for the sentence, then one for each of its words."""
    rng = np.random.default_rng((seed, Stream.WORDS, int(clip.name), 1))
    words = np.stack([_word_vector(word) for word in re.findall(r"\w+", transcript.lower())])  # (W, 64)
    # By the root of their number, so that the first token is as large as the others.
    sentence = words.sum(0) / np.sqrt(len(words))
    tokens = np.concatenate((sentence[None], words))
    return np.asarray(tokens + _TOKEN_NOISE * rng.standard_normal(tokens.shape), np.float32)


def _word_vector(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(crc32(word.encode())).standard_normal(WORD_WIDTH)


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
