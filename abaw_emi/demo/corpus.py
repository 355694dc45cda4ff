"""A corpus of synthetic clips in the official layout, with the truth that a real one keeps back.

    folder/data/train_split.csv, valid_split.csv      ids and labels, as delivered
    folder/data/audio/00000.mp3 ...                   train and valid; some clips only in raw/
    folder/data/raw/00012.mp4 ...
    folder/data/test_data/audio|raw/...               test, without a CSV, as delivered
    folder/truth/test_labels.csv                      what the demo scores its submission by

A latent intensity drives the sound; a handful of raters vote on it, and the label is the share of
the votes: k/N, many zeros, a row sum of at most 1, as in the official files. No speaker is in two
splits. Same arguments, same bytes; each clip has a generator of its own, seeded by (seed, id).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from abaw_emi.challenge import facts
from abaw_emi.demo.synthesiser import Prosody, Voice, synthesise
from abaw_emi.files import write_bytes

CLIPS_PER_SPEAKER = 8

_SPEAKER_STREAM, _CLIP_STREAM = 0, 1  # keep the generators of speaker 7 and of clip 7 apart


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoClip:
    """One clip's plan, drawn before a sample of it is made.

    Attributes:
        split: Where it goes.
        name: Its five-digit id.
        speaker: Its speaker's number; never the same in two splits.
        form: "plain" or one of the odd ones: "video" (only an mp4), "short", "long", "stereo".
        seconds: Its length.
        latent: What drives the sound (6,), in [0, 1].
        intensities: What the raters made of it (6,): votes over raters.
    """

    split: facts.Split
    name: str
    speaker: int
    form: str
    seconds: float
    latent: NDArray[np.float64]
    intensities: NDArray[np.float64]


def write_corpus(
    folder: Path,
    *,
    seed: int = 1,
    train: int = 400,
    valid: int = 80,
    test: int = 80,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `folder/data` in the official layout and `folder/truth/test_labels.csv`.

    Existing files are overwritten, each in one step; others are left alone. The label files come
    last, so a folder that has them is complete.

    Args:
        folder: Made if it is not there.
        seed: Of speakers, labels and sound.
        train: Clips in the training split; likewise `valid` and `test`.
        valid: See `train`.
        test: See `train`.
        progress: Called after each clip with the clips done and the clips in all.
    """
    clips = tuple(plan_corpus(seed=seed, train=train, valid=valid, test=test))
    data = folder / "data"
    for split_folder in (data, data / "test_data"):
        for kind in ("audio", "raw"):
            (split_folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for done, clip in enumerate(clips, start=1):
        waveform = speak(clip, seed=seed)
        home = data / "test_data" if clip.split == "test" else data
        if clip.form == "video":
            with _whole(home / "raw" / f"{clip.name}.mp4") as path:
                _write_mp4(path, waveform)
        else:
            with _whole(home / "audio" / f"{clip.name}.mp3") as path:
                _write_mp3(path, waveform, stereo=clip.form == "stereo")
        if progress is not None:
            progress(done, len(clips))
    places: dict[facts.Split, Path] = {
        "train": data / "train_split.csv",
        "valid": data / "valid_split.csv",
        "test": folder / "truth" / "test_labels.csv",
    }
    for split, path in places.items():
        write_bytes(path, _table([clip for clip in clips if clip.split == split]))


def plan_corpus(*, seed: int, train: int, valid: int, test: int) -> Iterator[DemoClip]:
    """The plan of every clip, in the order of the ids: train, valid, test, as in the official data."""
    counts: dict[facts.Split, int] = {"train": train, "valid": valid, "test": test}
    number = speakers = 0
    for split in facts.SPLITS:
        cast = -(-counts[split] // CLIPS_PER_SPEAKER)
        for index in range(counts[split]):
            rng = np.random.default_rng((seed, _CLIP_STREAM, number))
            latent, intensities = _draw_intensities(rng)
            form = _form(index)
            seconds = {"short": 0.064, "long": 13.0}.get(form, float(rng.uniform(1.5, 3.5)))
            yield DemoClip(
                split=split,
                name=f"{number:0{facts.ID_WIDTH}d}",
                speaker=speakers + index % cast,
                form=form,
                seconds=seconds,
                latent=latent,
                intensities=intensities,
            )
            number += 1
        speakers += cast


def speak(clip: DemoClip, *, seed: int) -> NDArray[np.float32]:
    """The waveform (T,) of a planned clip at 16 kHz, at a loudness that has nothing to do with its labels."""
    voice = Voice.draw(np.random.default_rng((seed, _SPEAKER_STREAM, clip.speaker)))
    # The third number tells the sound's generator from the plan's, which has been drawn from already.
    rng = np.random.default_rng((seed, _CLIP_STREAM, int(clip.name), 1))
    waveform = synthesise(voice, Prosody.of(clip.latent), clip.seconds, rng)
    level = 10 ** (rng.uniform(-15, 3) / 20)
    # Room below full scale, because an mp3 of a loud wave overshoots it.
    return waveform * np.float32(min(level, 0.8 / np.abs(waveform).max()))


def _draw_intensities(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latent intensities (6,) and the share of the votes (6,) that 3 to 20 raters gave to each.

    A rater gives one vote, to an emotion or to none. Dirichlet weights below 1 make few emotions
    strong in a clip and most next to nothing.
    """
    weights = rng.dirichlet((*[0.45] * len(facts.EMOTIONS), 0.8))
    raters = int(rng.integers(3, 21))
    votes = rng.multinomial(raters, weights)
    return weights[:-1], votes[:-1] / raters


def _form(index: int) -> str:
    """The form of a split's clip: some videos, a few odd ones, in every split, however small."""
    odd = {1: "short", 2: "long", 3: "stereo"}
    return odd.get(index % 128, "video" if index % 12 == 0 else "plain")


def _write_mp3(path: Path, waveform: NDArray[np.float32], *, stereo: bool) -> None:
    """A constant 64 kb/s mp3, mono at 16 kHz as delivered, or (the odd ones) stereo at 44.1 kHz."""
    sample_rate = facts.SAMPLE_RATE
    if stereo:
        sample_rate = 44_100
        waveform = resample_poly(waveform, sample_rate // 100, facts.SAMPLE_RATE // 100).astype(np.float32)
        waveform = np.stack((waveform, 0.5 * waveform), axis=1)  # (T, 2): the speaker sits to the left
    # libsndfile takes the bit rate as a place between the codec's least (1) and most (0).
    soundfile.write(path, waveform, sample_rate, format="MP3", compression_level=0.6, bitrate_mode="CONSTANT")


def _write_mp4(path: Path, waveform: NDArray[np.float32]) -> None:
    """A video of one grey, 64 x 64 picture at 5 frames per second with the sound as AAC at 48 kHz."""
    sample_rate, fps = 48_000, 5
    sound = resample_poly(waveform, sample_rate // facts.SAMPLE_RATE, 1).astype(np.float32)
    # bitexact leaves out the encoder's version and the time of day: same clip, same bytes.
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("mpeg4", rate=fps, options={"flags": "+bitexact"})
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        picture.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=sample_rate, layout="mono", options={"flags": "+bitexact"})
        grey = np.full((64, 64, 3), 128, np.uint8)
        for _ in range(max(1, round(len(sound) / sample_rate * fps))):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        frame.pts = 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


def _table(clips: list[DemoClip]) -> bytes:
    """A label file as delivered: the official header, a row per clip."""
    lines = [",".join(facts.COLUMNS)]
    lines += [",".join((clip.name, *map(repr, clip.intensities.tolist()))) for clip in clips]
    return ("\n".join(lines) + "\n").encode()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A hidden file beside `path` to write to, which takes its place when it is whole.

    The encoders write to the file themselves: through a Python file object, a signal that arrives in one
    of their callbacks would be lost.
    """
    part = path.with_name(f".{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
