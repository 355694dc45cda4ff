"""What is said in a demo clip, and what a text encoder would make of it.

A transcript is a few phrases, drawn by the clip's intensities: Admiration, Determination and Empathic Pain
are mostly put into words, the others seldom, and much of what is said says nothing. Every word has a fixed
random vector, as if it came from a trained model; the first token stands for the whole sentence.
"""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from abaw_emi.core import constants
from abaw_emi.demo.plan import DemoClip, Stream

WIDTH = 64  # of a token's vector; nothing official is delivered for text

_PHRASES = {
    "Admiration": ("wonderful", "so brave", "you are amazing", "how beautiful"),
    "Amusement": ("so funny", "hilarious", "you clown"),
    "Determination": ("never give up", "we keep going", "I will do it", "nothing stops me"),
    "Empathic Pain": ("that must hurt", "so sorry for you", "how awful", "poor thing"),
    "Excitement": ("I cannot wait", "oh wow", "so exciting"),
    "Joy": ("so happy", "what a lovely day", "this makes me smile"),
}
_FILLERS = ("you know", "well", "I mean", "let me think", "on Monday", "and then", "anyway", "they came here")
_SPOKEN = ("Admiration", "Determination", "Empathic Pain")
_SELDOM = 0.15  # how often another emotion is put into words
_PHRASES_PER_SECOND = 1.5
_NOISE = 0.3  # of a token's vector, against words of unit variance


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
    return np.asarray(tokens + _NOISE * rng.standard_normal(tokens.shape), np.float32)


def _word_vector(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(crc32(word.encode())).standard_normal(WIDTH)
