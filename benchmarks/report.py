"""How long a report of the official number of clips takes, and how large the page is.

    python benchmarks/report.py [FOLDER]

Makes a folder with labels of 8,072 and 4,588 clips (see `simulated`), a sound file for each of the 17,246
(headers and silence, no disk space), five runs, two more systems and a ledger; then runs
`abaw-emi report --figures` there.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from simulated import MEANS, World

from abaw_emi.config.read import format_config
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import EMOTIONS, FILENAME, OFFICIAL_COUNTS
from abaw_emi.data.provenance import Provenance, write_with_provenance

SIGNALS = (0.50, 0.47, 0.46, 0.45, 0.44, 0.36, 0.15)
NAMES = (*(f"paper-seed{seed}" for seed in range(1, 6)), "text-and-sound", "baseline")
EPOCHS = 12
TRAIN, VALID = OFFICIAL_COUNTS["train"], OFFICIAL_COUNTS["valid"]


def make_folder(folder: Path, *, sound: bool = True) -> None:
    rng = np.random.default_rng(4)
    world = World(speaker=0.4, signal=SIGNALS, shared=0.62)
    labels, systems, _ = world.draw_all(rng, speakers=-(-(TRAIN + VALID) // 31))
    data = folder / "data"
    data.mkdir(parents=True)
    frame(labels[:TRAIN], 0).write_csv(data / "train_split.csv")
    frame(labels[TRAIN : TRAIN + VALID], TRAIN).write_csv(data / "valid_split.csv")
    for name, values in zip(NAMES, systems, strict=True):
        scaled = MEANS + 0.075 * (values - values.mean(axis=0)) / values.std(axis=0)
        scaled = np.maximum(scaled, 0.02 * scaled)  # as models end: rarely below zero
        table = frame(scaled[TRAIN : TRAIN + VALID], TRAIN)
        run = folder / "runs" / name
        record = Provenance(
            command="abaw-emi train" if name.startswith("paper") else "another toolkit",
            split="valid",
            trained_on=frozenset(f"{i:05}" for i in range(TRAIN)),
            trained_on_complete=True,
        )
        if name.startswith("paper"):
            run.mkdir(parents=True)
            write_with_provenance(table, run / "valid_predictions.csv", record)
            make_run(run, int(name[-1]), rng)
        else:
            (folder / "predictions").mkdir(exist_ok=True)
            write_with_provenance(table, folder / "predictions" / f"{name}.csv", record)
    make_ledger(folder / "submissions")
    if sound:
        make_sound(data, rng)


def frame(values: np.ndarray, start: int) -> pl.DataFrame:
    ids = [f"{start + i:05}" for i in range(len(values))]
    return pl.DataFrame({FILENAME: ids, **dict(zip(EMOTIONS, values.T, strict=True))})


def make_run(run: Path, seed: int, rng: np.random.Generator) -> None:
    (run / "run.toml").write_text(format_config(RunConfig()))
    ceiling = np.array([0.49, 0.47, 0.36, 0.31, 0.45, 0.41]) + 0.01 * rng.standard_normal(6)
    lines = []
    for epoch in range(1, EPOCHS + 1):
        r = ceiling * (1 - np.exp(-epoch / 1.6)) - 0.004 * max(0, epoch - 5) + 0.008 * rng.standard_normal(6)
        valid = {"mean_pearson": float(r.mean()), "pearson": dict(zip(EMOTIONS, r.tolist(), strict=True))}
        loss = 0.031 + 0.02 * np.exp(-epoch / 3) + 0.0006 * rng.standard_normal()
        rate = 1e-4 * (1 + np.cos(np.pi * (epoch - 1) / EPOCHS)) / 2
        lines.append({"epoch": epoch, "train_loss": loss, "learning_rate": rate, "valid": valid})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = {
        "preset": "paper",
        "seed": seed,
        "train_plus_val": False,
        "trained_on": [f"00000-{TRAIN - 1:05}"],
        "trained_on_complete": True,
        "precision": "bf16",
        "version": "0.1.0",
        "git_commit": "86db2c2ceb76a9feb1cc7732be14a25bb0bb752d",
        "data": {"fingerprint": "d9b1f7b4b338249b25dc76c4e66731a421ec513100e2bd283d1287414db4c890"},
        "hardware": {"device": "cuda"},
        "backbone": {"name": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"},
        "finished": "2026-03-01T00:00:00+00:00",
        "epochs": EPOCHS,
    }
    (run / "provenance.json").write_text(json.dumps(record))


def make_ledger(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = []
    for day, name, valid, test in (
        (10, "one-run", 0.37, 0.448),
        (12, "five-runs", 0.401, 0.497),
        (14, "trainval", None, 0.536),
    ):
        val = valid and {
            "mean_pearson": valid,
            "interval": {"mean_pearson": [valid - 0.011, valid + 0.011]},
            "kind": "of the run on valid" if name == "one-run" else "of the mean of 5 runs on valid",
        }
        line = {"name": name, "created": f"2026-03-{day}T20:00:00+00:00", "sha256": f"{day:064x}", "val": val}
        line["signature"] = "emi_submission|rows:4586|clip:yes|filled:0|abaw_emi:0.1.0"
        lines += [line, {"amends": name, "test_score": test}]
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_sound(data: Path, rng: np.random.Generator) -> None:
    """Files of the official durations: 6.93 s on the mean, a few very short or very long."""
    counts = list(OFFICIAL_COUNTS.values())
    seconds = np.clip(rng.gamma(5.2, 1.3, sum(counts)) + 0.1, 0.1, 60)
    seconds[rng.choice(len(seconds), 500, replace=False)] = rng.uniform(0.1, 1.0, 500)
    seconds[5] = 1249.9
    (data / "audio").mkdir()
    (data / "test_data" / "audio").mkdir(parents=True)
    for number, length in enumerate(seconds):
        size = 2 * round(length * 16_000)
        head = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF",
            36 + size,
            b"WAVE",
            b"fmt ",
            16,
            1,
            1,
            16_000,
            32_000,
            2,
            16,
            b"data",
            size,
        )
        folder = data / "audio" if number < TRAIN + VALID else data / "test_data" / "audio"
        with (folder / f"{number:05}.wav").open("wb") as file:
            file.write(head)
            file.truncate(44 + size)  # a hole: it takes no space


def main(folder: Path) -> None:
    start = time.perf_counter()
    make_folder(folder)
    print(f"made in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    command = [sys.executable, "-m", "abaw_emi", "report", "--figures", "figures", "--quiet"]
    subprocess.run(command, cwd=folder, check=True)
    seconds = time.perf_counter() - start
    size = (folder / "report.html").stat().st_size
    print(f"{sum(OFFICIAL_COUNTS.values()):,} clips: {seconds:.1f} s, {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "made")
