"""Reads damaged sound and video files of every kind: `nox -s fuzz_media`, or `python -m tests.audio.fuzz`.

A mutant may be refused by a `ClipError` that names it, and nothing else, or read. It is a fault if it ends
the process, hangs, raises something else, or is read without a warning although its kind declares a length
and much of it is gone. `--seed` and `--only` bring a mutant back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import soundfile

from tests.audio.foreign import write_sound
from tests.media import tones, write_container, write_mp3, write_untold_mp3

SECONDS = 3
MOST_SECONDS = 30.0
"""That one file may take."""

DECLARING = {".wav", ".w64", ".caf", ".aiff", ".au", ".flac", ".mp3", ".m4a", ".mp4", ".webm", ".mkv", ".avi"}
DECLARING |= {".tta", ".flv"}
"""Kinds that declare their length, so that a loss of a second cannot go unseen."""


def write_bases(folder: Path) -> dict[str, bytes]:
    """A small whole file of each kind, by its name."""
    sixteen, many = tones(SECONDS), tones(SECONDS, 48_000)
    for suffix in (".wav", ".flac", ".ogg", ".w64", ".aiff", ".caf", ".au"):
        soundfile.write(folder / f"plain{suffix}", sixteen, 16_000, format=suffix[1:].upper())
    write_mp3(folder / "counted.mp3", sixteen)
    write_untold_mp3(folder / "uncounted.mp3", sixteen)
    write_container(folder / "video.mp4", many)
    write_container(folder / "video.webm", many, video="libvpx", audio="libopus")
    for suffix, codec in (
        *((".m4a", "aac"), (".aac", "aac"), (".opus", "libopus"), (".mka", "aac"), (".wma", "wmav2")),
        *((".mp2", "mp2"), (".ac3", "ac3"), (".wv", "wavpack"), (".tta", "tta"), (".mov", "aac")),
        *((".avi", "libmp3lame"), (".flv", "aac"), (".ts", "mp2"), (".mpg", "mp2")),
    ):
        write_sound(folder / f"sound{suffix}", many, 48_000, codec)
    write_sound(folder / "surround.m4a", many, 48_000, "aac", "7.1")
    write_sound(folder / "film.mkv", many, 48_000, "flac", before="mpeg4")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def overwrite(content: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(content)), rng.randrange(1, 3_000)
    return (content[:at] + rng.randbytes(size) + content[at + size :])[: len(content)]


def wipe(content: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(content)), rng.randrange(1, len(content))
    return (content[:at] + bytes(size) + content[at + size :])[: len(content)]


def remove(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.randrange(1, 5_000) :]


def repeat(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[max(0, at - rng.randrange(1, 5_000)) :]


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 20)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def change_header(content: bytes, rng: random.Random) -> bytes:
    """Numbers of the first 600 bytes, and of the last 600, where an MP4's are."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(min(600, len(changed) - 4))
        at = len(changed) - 4 - at if rng.random() < 0.3 else at
        value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, rng.getrandbits(32)))
        size = rng.choice((1, 2, 4))
        changed[at : at + size] = (value % 256**size).to_bytes(size, rng.choice(("big", "little")))
    return bytes(changed)


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    cut,
    overwrite,
    wipe,
    remove,
    repeat,
    flip_bits,
    change_header,
)


def make_mutant(bases: dict[str, bytes], seed: int, number: int) -> tuple[str, str, bytes]:
    """The name of its base, what was done, and the bytes of a mutant."""
    rng = random.Random(f"{seed}:{number}")
    name = rng.choice(list(bases))
    content, done = bases[name], []
    for mutate in rng.sample(MUTATIONS, rng.choice((1, 1, 1, 2))):
        content = mutate(content, rng) or content[:1]
        done.append(mutate.__name__)
    return name, "+".join(done), content


def read(path: Path) -> tuple[str, float, int]:
    """How reading a file ended: "read", "refused" or an error; its seconds; how many warnings there were."""
    from abaw_emi.audio.decode import decode
    from abaw_emi.core.errors import ClipError

    try:
        found = decode(path, 60)
    except ClipError as error:
        names = {problem.where for problem in error.problems}
        return ("refused" if names == {str(path)} else f"an error that names {names}"), 0.0, 0
    except BaseException as error:  # that is what is looked for
        return f"{type(error).__name__}: {error}", 0.0, 0
    return "read", found.waveform.size / found.sample_rate, len(found.warnings)


def main() -> int:
    """Reads the mutants, and prints the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, help="one mutant")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    ends: Counter[str] = Counter()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bases = write_bases(folder)
        lengths = {base: read(folder / base)[1] for base in bases}
        assert all(lengths.values()), lengths
        pool = _start()
        for number in [options.only] if options.only is not None else range(options.mutants):
            base, done, content = make_mutant(bases, options.seed, number)
            path = folder / f"mutant{Path(base).suffix}"
            path.write_bytes(content)
            try:
                end, seconds, warned = pool.submit(read, path).result(MOST_SECONDS)
            except (BrokenProcessPool, TimeoutError) as error:
                end, seconds, warned = f"the process: {type(error).__name__}", 0.0, 0
                _kill(pool)
                pool = _start()
            short = path.suffix in DECLARING and base != "uncounted.mp3" and seconds < lengths[base] - 0.9
            lost = end == "read" and short and not warned and done in {"cut", "wipe"}
            ends[end if end in {"read", "refused"} else "fault"] += 1
            ends["read with a warning"] += bool(warned)
            if lost or end not in {"read", "refused"}:
                faults += 1
                print(f"--only {number}: {base}, {done}: {end}, {seconds:.2f} of {lengths[base]:.2f} s")
        _kill(pool)
    print(f"{dict(ends)}; {faults} faults")
    return 1 if faults else 0


def _start() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in multiprocessing.active_children():
        process.kill()
    pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
