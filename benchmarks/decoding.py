"""Decoding: this package's reader against plain soundfile and plain PyAV, on the same files, in one run.

    python benchmarks/decoding.py DEMO_FOLDER

DEMO_FOLDER is one that `abaw-emi demo` made. Ratios count; the clips a second depend on the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

from abaw_emi.audio.clips import read_clip
from abaw_emi.audio.decode import decode
from abaw_emi.data.layout import ClipFiles


def rate(read: Callable[[Path], object], paths: list[Path], rounds: int = 3) -> float:
    """Files a second, the best of `rounds`."""
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        for path in paths:
            read(path)
        best = max(best, len(paths) / (time.perf_counter() - start))
    return best


def with_pyav(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def seconds(read: Callable[[], object]) -> float:
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


def main(folder: Path) -> None:
    mp3 = sorted((folder / "data" / "audio").glob("*.mp3"))[:200]
    mp4 = sorted((folder / "data" / "raw").glob("*.mp4"))
    ours = rate(lambda path: read_clip(ClipFiles(filename=path.stem, audio=path)), mp3)
    plain = rate(lambda path: soundfile.read(path, dtype="float32"), mp3)
    pyav = rate(with_pyav, mp3)
    print(f"mp3: read_clip {ours:.0f}/s, plain PyAV {pyav:.0f}/s, plain soundfile {plain:.0f}/s")
    print(f"     read_clip is {ours / plain:.2f}x soundfile, {ours / pyav:.2f}x PyAV")
    video = rate(lambda path: read_clip(ClipFiles(filename=path.stem, video=path)), mp4)
    print(f"mp4: read_clip {video:.0f}/s")
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "long.mp3"
        noise = 0.1 * np.random.default_rng(0).standard_normal(1_200 * 16_000).astype(np.float32)
        soundfile.write(path, noise, 16_000)
        first, whole = seconds(lambda: decode(path, 12.0)), seconds(lambda: decode(path, 1e6))
        print(f"20-minute mp3: the first 12 s {first * 1e3:.0f} ms, all of it {whole * 1e3:.0f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
