"""Every preset on a small demo corpus: an epoch trained, stopped, resumed to the end of the second, and used.

The encoders are tiny and random, so that scores say nothing and are not printed. The numbers are exit codes
of commands; 143 is of a run that a signal stopped, after saving.

    python -m benchmarks.presets [PRESET...]
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import torch

from abaw_emi.config.presets import PRESETS
from abaw_emi.demo.corpus import write_corpus
from abaw_emi.demo.encoders import write_encoders
from abaw_emi.runs.resume import name_run
from abaw_emi.runs.run import Run
from tests.command import run_command
from tests.small_encoders import write_audio

OTHER_ENCODERS = {"hubert": "hubert", "wavlm": "wavlm", "whisper": "whisper"}
"""Presets of encoders that are no wav2vec 2.0, and which of `small_encoders` stands in."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), metavar="PRESET")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        os.environ["ABAW_EMI_CACHE"] = "cache"
        write_corpus(Path(), train=24, valid=16, test=8)
        write_encoders(Path("encoders"))
        for made in ("wav2vec2", "wavlm-large"):
            run("extract", "encoders/speech", "--name", made)
        for preset, kind in OTHER_ENCODERS.items():
            write_audio(Path("encoders") / preset, kind)
        print("| preset | --set | train, stopped | train --resume | predict | seconds |")
        print("|---|---|---|---|---|---|", flush=True)
        for preset in arguments.presets:
            start = time.monotonic()
            changes = find_changes(preset)
            words = ["train", "--preset", preset, "--device", "cpu", "--on-bad-clip", "skip"]
            words += ["--set", "training.epochs=2", *changes]
            fold = PRESETS[preset].data.fold
            folder = Path("runs") / name_run(preset, train_plus_val=False, fold=fold, seed=1)
            stop = threading.Thread(target=stop_after_an_epoch, args=(folder,))
            stop.start()
            codes = [run(*words)]
            stop.join()
            codes.append(run(*words, "--resume"))
            codes.append(
                run(
                    "predict",
                    "--ckpt",
                    str(folder),
                    "--split",
                    "test",
                    "--on-bad-clip",
                    "skip",
                    "--out",
                    "test.csv",
                )
            )
            cells = [preset, " ".join(changes), *map(str, codes), f"{time.monotonic() - start:.0f}"]
            print("|", " | ".join(cells), "|", flush=True)


def find_changes(preset: str) -> list[str]:
    """What puts tiny encoders and the demo's faces in the place of the published ones."""
    model = PRESETS[preset].model
    changes = [f"model.backbone=encoders/{preset if preset in OTHER_ENCODERS else 'speech'}"]
    if model.encoder != "pretrained":
        changes = []
    for number, feature in enumerate(model.features):
        if feature.backbone:
            changes.append(f"model.features.{number}.backbone=encoders/text")
        elif feature.name in ("vit-huge", "vit-base"):
            changes.append(f"model.features.{number}.name=vit")
    return changes


def stop_after_an_epoch(folder: Path) -> None:
    """Sends this process the signal of a scheduler once a run has written its first epoch."""
    end = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.002)
    if folder.exists() and not Run(folder).finished:
        os.kill(os.getpid(), signal.SIGTERM)


def run(*words: str) -> int:
    """The exit code of a command of abaw-emi; what it prints is shown where that is not a stop."""
    done = run_command(*words)
    if done.returncode not in (0, 143):
        print(done.stderr, flush=True)
    return done.returncode


if __name__ == "__main__":
    main()
