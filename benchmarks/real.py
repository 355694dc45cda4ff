"""Real voices, a real Whisper and a real MiniLM: what sound, words and both together reach; `nox -s real`.

Pseudo-labels of acted game voices: the figures say that real models and files go through every command, and
whether modalities together gain; nothing of Hume-Vidmimic2.

    python -m benchmarks.real [--work DIR] [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from platformdirs import user_cache_dir

from benchmarks.real_models import fetch, write_corpus, write_minilm, write_whisper

# 537 clips: higher rates and fewer epochs than the presets', which are for 8,072.
_HEADS = ("training.learning_rate=1e-3", "training.batch_size=16", "training.epochs=12")
_FROZEN = (
    "model.vad_head=false",
    "model.freeze_encoder=true",
    "model.global_vector=true",
    "model.lstm=false",
)
_WORDS = ("model.features.0.name=text", "model.features.0.pooling=mean")

SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sound: log-mel, from scratch": ("tiny", ()),
    "sound: Whisper, frozen": ("whisper", (*_HEADS, *_FROZEN)),
    "words: MiniLM, trained": ("text", ("training.epochs=12", *_WORDS, "training.learning_rate=1e-4")),
    "both, side by side": (
        "whisper",
        (*_HEADS, *_FROZEN, *_WORDS, "model.features.0.rate=0.1", "model.fusion.modality_dropout=0.1"),
    ),
    "both, text-anchored": (
        "whisper",
        (
            *_HEADS,
            *_FROZEN,
            *("model.global_vector=false", "model.fusion.kind=text-anchored"),
            *_WORDS,
            *("model.features.0.rate=0.1", "model.fusion.modality_dropout=0.1"),
        ),
    ),
}
"""Name, preset, and what is changed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path(user_cache_dir("abaw-emi", appauthor=False)) / "real"
    )
    parser.add_argument("--seeds", nargs="*", default=["1", "2", "3"])
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    os.environ["OMP_NUM_THREADS"] = "1"
    fetch(work)
    os.chdir(work)
    if not Path("data/valid_split.csv").is_file():
        write_corpus(work, Path("data"))
    if not Path("whisper/tokenizer_config.json").is_file():
        write_whisper(work, Path("whisper"))
    if not Path("minilm/config.json").is_file():
        write_minilm(work, Path("minilm"))
    run("audit")
    run("transcribe", "whisper")
    members: dict[str, list[str]] = {}
    for name, (preset, changes) in SYSTEMS.items():
        out = Path("runs") / name.translate(str.maketrans({":": "", ",": "", " ": "-"}))
        settings = [*changes, *(["model.features.0.backbone=minilm"] if _WORDS[0] in changes else [])]
        backbone = ["--backbone", "whisper"] if preset == "whisper" else []
        start = time.monotonic()
        options = ["--preset", preset, *backbone, "--seeds", *arguments.seeds, "--out", str(out), "--resume"]
        run("train", *options, "--on-bad-clip", "skip", *(["--set", *settings] if settings else []))
        members[name] = [f"{out}/{preset}-seed{seed}" for seed in arguments.seeds]
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    files = []
    for name, folders in members.items():
        path = Path("predictions") / f"{Path(folders[0]).parent.name}.csv"
        run("ensemble", "--ckpts", *folders, "--split", "valid", "--out", str(path))
        files.append(str(path))
        print(f"{path.stem}: {name}")
    print(run("compare", *files, "data/valid_split.csv"))


def run(*arguments: str) -> str:
    """The output of a command of abaw-emi, which must end well; what it says of its work is shown."""
    command = [sys.executable, "-m", "abaw_emi", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
