"""A corpus of synthetic clips in the official layout, with the truth that a real one keeps back.

    folder/data/train_split.csv, valid_split.csv      ids and labels, as delivered
    folder/data/audio/00000.mp3 ...                   train and valid; some clips only in raw/
    folder/data/raw/00012.mp4 ...
    folder/data/vit/00000.pkl ...                     features of faces; some clips have none
    folder/data/face_images/00000/0.jpg ...           a few clips' faces
    folder/data/wav2vec2/00000.pkl ...                features of sound, on demand: 110 MB
    folder/data/test_data/...                         the same of test, without a CSV, as delivered
    folder/features/text/00000.txt ...                transcripts, as `abaw-emi transcribe` leaves them
    folder/features/gte/00000.npy ...                 features of words; some clips have none
    folder/truth/test_labels.csv                      what the demo scores its submission by

A latent intensity drives sound, face and words, each in its own way and none of them all of it. Same
arguments, same bytes; each clip has generators of its own, seeded by (seed, what for, id).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from abaw_emi.core import constants
from abaw_emi.core.files import write_bytes
from abaw_emi.data.folder import DataFolder
from abaw_emi.demo.modalities import write_face, write_sound_features, write_words
from abaw_emi.demo.plan import DemoClip, Stream, plan_corpus
from abaw_emi.demo.speech import Prosody, Voice, synthesise


def write_corpus(
    folder: Path,
    *,
    seed: int = 1,
    train: int = 400,
    valid: int = 80,
    test: int = 80,
    sound_features: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `folder/data` in the official layout, `folder/features` and `folder/truth/test_labels.csv`.

    Existing files are overwritten, each in one step; others are left alone. The label files come
    last, so a folder that has them is complete.

    Args:
        folder: Made if it is not there.
        seed: Of speakers, labels, sound, faces and words.
        train: Clips in the training split; likewise `valid` and `test`.
        valid: See `train`.
        test: See `train`.
        sound_features: Whether to write `wav2vec2/`, which is larger than all the rest.
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
        write_face(clip, home, seed=seed)
        write_words(clip, folder / "features", seed=seed)
        if sound_features:
            write_sound_features(clip, waveform, home)
        if progress is not None:
            progress(done, len(clips))
    places: dict[constants.Split, Path] = {
        "train": DataFolder(data).label_file("train"),
        "valid": DataFolder(data).label_file("valid"),
        "test": folder / "truth" / "test_labels.csv",
    }
    for split, path in places.items():
        write_bytes(path, _table([clip for clip in clips if clip.split == split]))


def speak(clip: DemoClip, *, seed: int) -> NDArray[np.float32]:
    """The waveform (T,) of a planned clip at 16 kHz, at a loudness that has nothing to do with its labels."""
    voice = Voice.draw(np.random.default_rng((seed, Stream.SPEAKER, clip.speaker)))
    # The third number makes this generator another one than the plan's, which was used already.
    rng = np.random.default_rng((seed, Stream.CLIP, int(clip.name), 1))
    waveform = synthesise(voice, Prosody.of(clip.latent), clip.seconds, rng)
    level = 10 ** (rng.uniform(-15, 3) / 20)
    # Room below full scale, because an mp3 of a loud wave overshoots it.
    return waveform * np.float32(min(level, 0.8 / np.abs(waveform).max()))


def _write_mp3(path: Path, waveform: NDArray[np.float32], *, stereo: bool) -> None:
    """A constant 64 kb/s mp3, mono at 16 kHz as delivered, or (the odd ones) stereo at 44.1 kHz."""
    sample_rate = constants.SAMPLE_RATE
    if stereo:
        sample_rate = 44_100
        waveform = resample_poly(waveform, sample_rate // 100, constants.SAMPLE_RATE // 100).astype(
            np.float32
        )
        waveform = np.stack((waveform, 0.5 * waveform), axis=1)  # (T, 2): the speaker sits to the left
    # libsndfile takes the bit rate as a place between the codec's least (1) and most (0).
    soundfile.write(path, waveform, sample_rate, format="MP3", compression_level=0.6, bitrate_mode="CONSTANT")


def _write_mp4(path: Path, waveform: NDArray[np.float32]) -> None:
    """A video of one grey, 64 x 64 picture at 5 frames per second with the sound as AAC at 48 kHz."""
    sample_rate, fps = 48_000, 5
    sound = resample_poly(waveform, sample_rate // constants.SAMPLE_RATE, 1).astype(np.float32)
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
    lines = [",".join(constants.COLUMNS)]
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
