"""A small data folder in the official layout, written by none of the package's own writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

EMOTIONS = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")


def write_data(
    root: Path, train: int = 12, valid: int = 8, test: int = 6, *, suffix: str = ".wav", seed: int = 0
) -> Path:
    """Tones whose levels follow the labels, in noise, and label files."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True)
    (root / "test_data" / "audio").mkdir(parents=True)
    start = 0
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        rows = ["Filename," + ",".join(EMOTIONS)]
        for number in range(start, start + count):
            labels = rng.integers(0, 6, 6) / 10
            samples = int(rng.integers(1_600, 24_000))
            time = np.arange(samples) / 16_000
            tones = sum(value * np.sin(2 * np.pi * 200 * 2**band * time) for band, value in enumerate(labels))
            waveform = 0.1 * tones + 0.01 * rng.standard_normal(samples)
            folder = root / "test_data" / "audio" if split == "test" else root / "audio"
            soundfile.write(folder / f"{number:05}{suffix}", waveform.astype(np.float32), 16_000)
            rows.append(f"{number:05}," + ",".join(f"{value:g}" for value in labels))
        if split != "test":
            (root / f"{split}_split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        start += count
    return root
