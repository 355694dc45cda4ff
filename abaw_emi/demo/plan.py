"""What every clip of a demo corpus will be, drawn before a sample, a face or a word of it is made.

A handful of raters vote on a latent intensity, and the label is the share of the votes: k/N, many zeros,
a row sum of at most 1, as in the official files. No speaker is in two splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from abaw_emi.core import constants

CLIPS_PER_SPEAKER = 8


class Stream(IntEnum):
    """Keeps the generators of speaker 7, of clip 7, of its face and of its words apart."""

    SPEAKER = 0
    CLIP = 1
    FACE = 2
    RESTING_FACE = 3
    WORDS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoClip:
    """One clip's plan.

    Attributes:
        split: Where it goes.
        name: Its five-digit id.
        speaker: Its speaker's number; never the same in two splits.
        form: "plain" or one of the odd ones: "video" (only an mp4), "short", "long", "stereo".
        seconds: Its length.
        is_seen: Whether a face was found in it.
        is_said: Whether words were understood in it.
        has_pictures: Whether it has a folder of face images, which is empty where no face was found.
        latent: What drives sound, face and words (6,), in [0, 1].
        intensities: What the raters made of it (6,): votes over raters.
    """

    split: constants.Split
    name: str
    speaker: int
    form: str
    seconds: float
    is_seen: bool
    is_said: bool
    has_pictures: bool
    latent: NDArray[np.float64]
    intensities: NDArray[np.float64]


def plan_corpus(*, seed: int, train: int, valid: int, test: int) -> Iterator[DemoClip]:
    """The plan of every clip, in the order of the ids: train, valid, test, as in the official data."""
    counts: dict[constants.Split, int] = {"train": train, "valid": valid, "test": test}
    number = speakers = 0
    for split in constants.SPLITS:
        cast = -(-counts[split] // CLIPS_PER_SPEAKER)
        for index in range(counts[split]):
            rng = np.random.default_rng((seed, Stream.CLIP, number))
            latent, intensities = _draw_intensities(rng)
            form = _form(index)
            seconds = {"short": 0.064, "long": 13.0}.get(form, float(rng.uniform(1.5, 3.5)))
            yield DemoClip(
                split=split,
                name=f"{number:0{constants.ID_WIDTH}d}",
                speaker=speakers + index % cast,
                form=form,
                seconds=seconds,
                # Of the short clip no word is understood. 15 and 16 meet at 17: that clip has neither.
                is_seen=index % 15 != 2,
                is_said=index % 16 != 1,
                has_pictures=index < 5,
                latent=latent,
                intensities=intensities,
            )
            number += 1
        speakers += cast


def _draw_intensities(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latent intensities (6,) and the share of the votes (6,) that 3 to 20 raters gave to each.

    A rater gives one vote, to an emotion or to none. Dirichlet weights below 1 make few emotions
    strong in a clip and most next to nothing.
    """
    weights = rng.dirichlet((*[0.45] * len(constants.EMOTIONS), 0.8))
    raters = int(rng.integers(3, 21))
    votes = rng.multinomial(raters, weights)
    return weights[:-1], votes[:-1] / raters


def _form(index: int) -> str:
    """The form of a split's clip: some videos, a few odd ones, in every split, however small."""
    odd = {1: "short", 2: "long", 3: "stereo"}
    return odd.get(index % 128, "video" if index % 12 == 0 else "plain")
