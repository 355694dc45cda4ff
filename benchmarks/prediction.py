"""Prediction on a CPU: five checkpoints against one, with cold and warm caches, and again; threads; groups.

Run as `OMP_NUM_THREADS=1 python benchmarks/prediction.py [--clips 20] [--layers 2]` in a folder with room.

The corpus is made here: mp3 files of 2 to 12 s. The encoder is a wav2vec 2.0 with the audeering model's
widths and 2 of its 12 layers: wide enough that it is the encoder that takes the time, as it does in earnest,
and that weights are large (0.25 GB a checkpoint, so that loading counts), small enough for minutes on two
cores. Each measurement runs in a process of its own, as the command does; what it takes to import torch is
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers.utils import logging

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Example
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.inference import members, workers
from abaw_emi.inference.frozen_encoder import SharedParts
from abaw_emi.inference.groups import GroupedPredictions
from abaw_emi.inference.predict import predict
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run

CPU = Runtime.choose("cpu", "fp32", Reporter(quiet=True))


def backbone(layers: int) -> dict[str, object]:
    """The audeering model's config with fewer layers."""
    return {
        "model_type": "wav2vec2",
        "hidden_size": 1024,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
        "num_labels": 3,
        "final_dropout": 0.1,
    }


def make_model(layers: int, seed: int) -> EmiModel:
    torch.manual_seed(seed)
    return EmiModel(EmiConfig.from_parts(ModelConfig(), backbone(layers))).eval()


def make_corpus(root: Path, count: int) -> float:
    """Writes mp3 files and returns their seconds."""
    rng = np.random.default_rng(0)
    (root / "audio").mkdir(parents=True)
    rows, total = ["Filename," + ",".join(EMOTIONS)], 0.0
    for number in range(count):
        seconds = float(rng.uniform(2, 12))
        sound = rng.standard_normal(round(seconds * 16_000)).astype(np.float32) * 0.1
        soundfile.write(root / "audio" / f"{number:05}.mp3", sound, 16_000)
        rows.append(f"{number:05}" + ",0" * 6)
        total += seconds
    (root / "valid_split.csv").write_text("\n".join(rows) + "\n")
    return total


def make_run(folder: Path, model: EmiModel) -> None:
    run = Run(folder)
    model.save_pretrained(folder)
    run.write_config(RunConfig())
    run.write_provenance({"weights_sha256": hash_file(run.weights_file), "finished": "now", "trained_on": []})


def time_command(
    root: Path,
    runs: int,
    cache: Path,
    precision: str,
    threads: int = 1,
    *,
    divided: bool = False,
    apart: bool = False,
) -> dict[str, float]:
    """Seconds of one `predict_runs` in a process of its own, and of its parts.

    Args:
        root: holds the data and the runs.
        runs: how many of them predict.
        cache: the cache folder.
        precision: of the arithmetic.
        threads: that the process may use.
        divided: whether torch divides each operation among them, in place of whole groups of clips.
        apart: whether runs share nothing of their encoders.
    """
    script = [sys.executable, __file__, "--work", str(root), "--runs", str(runs)]
    script += ["--divided"] if divided else []
    script += ["--apart"] if apart else []
    environment = {**os.environ, "ABAW_EMI_CACHE": str(cache), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*script, "--precision", precision], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    times: dict[str, float] = json.loads(done.stdout)
    return times


def work(root: Path, runs: int, precision: str, *, divided: bool, apart: bool) -> None:
    """What `time_command` starts: prints the seconds as JSON, those of the processor as "cpu"."""
    times = {"reading": 0.0, "inference": 0.0}

    def timed(name: str, function):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                times[name] += time.perf_counter() - start

        return call

    members.read_inputs = timed("reading", members.read_inputs)
    GroupedPredictions.make = timed("inference", GroupedPredictions.make)  # type: ignore[method-assign]
    if divided:
        workers.count_cores = lambda: 1
    if apart:
        SharedParts.encode = lambda self, model, name, examples: examples  # type: ignore[method-assign]
    start, cpu = time.perf_counter(), time.process_time()
    members.predict_runs(
        [Run(root / f"run{number}") for number in range(runs)],
        DataFolder(root / "data"),
        "valid",
        Runtime.choose("cpu", precision, CPU.reporter),  # type: ignore[arg-type]
    )
    times = {"total": time.perf_counter() - start, "cpu": time.process_time() - cpu, **times}
    print(json.dumps(times))


def make_frozen_model(layers: int, seed: int) -> EmiModel:
    """The same encoder for every seed, under another head."""
    torch.manual_seed(0)
    parts = ModelConfig(freeze_encoder=True)
    model = EmiModel(EmiConfig.from_parts(parts, backbone(layers))).eval()
    with torch.no_grad():
        model.head.projection.bias += seed
    return model


def make_small_model(seed: int) -> EmiModel:
    torch.manual_seed(seed)
    return EmiModel(EmiConfig.from_parts(ModelConfig(encoder="logmel", vad_head=False))).eval()


def compare_checkpoints(
    root: Path, models: Callable[[int], EmiModel], what: str, precision: str = "fp32"
) -> None:
    """One checkpoint and five, each with nothing in the cache; the five again."""
    for number in range(5):
        make_run(root / f"run{number}", models(number))

    def measure(runs: int, cache: str) -> float:
        took = time_command(root, runs, root / cache, precision)
        parts = ", ".join(f"{name} {value:.1f}" for name, value in took.items() if name != "total")
        print(f"{what}, {runs} checkpoints: {took['total']:.1f} s ({parts})", flush=True)
        return took["total"]

    one, five, again = (measure(*how) for how in ((1, "cache-one"), (5, "cache-five"), (5, "cache-five")))
    print(f"  five / one: {five / one:.2f}; again / five: {again / five:.3f}", flush=True)


def compare_threads(root: Path, model: EmiModel, rounds: int = 2) -> None:
    """One thread, torch's threads for each operation, and a thread for each core with groups of its own.

    Clips are in the cache. All of it again while another program keeps one core busy.
    """
    make_run(root / "run0", model)
    time_command(root, 1, root / "cache", "fp32")
    cores = len(os.sched_getaffinity(0))
    ways = {
        "1 thread": (1, False),
        f"{cores} threads divide operations": (cores, True),
        f"{cores} threads divide groups": (cores, False),
    }
    for busy in (False, True):
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):
            for name, (threads, divided) in ways.items():
                for file in (root / "cache").glob("predictions-*/*"):
                    file.unlink()
                with busy_core() if busy else nullcontext():
                    took = time_command(root, 1, root / "cache", "fp32", threads, divided=divided)
                best[name] = min(best[name], took["inference"])
        one, state = best["1 thread"], "a busy core" if busy else "quiet"
        for name, seconds in best.items():
            print(f"{state}, {name}: {seconds:.1f} s, {one / seconds:.2f} times one")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)


@contextmanager
def busy_core() -> Iterator[None]:
    """Another program that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def compare_groups(layers: int) -> None:
    """Clips alone against a group of them, with one thread: the encoder, the LSTM, and the small encoder."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    clips = []
    for number in range(8):
        sound = rng.standard_normal(160_000 + 320 * number).astype(np.float32)
        clips.append(Example.join(f"{number:05}", Clip.from_waveform(f"{number:05}", sound)))
    seconds = sum(clip.samples for clip in clips) / 16_000
    for name, model in (("wav2vec2", make_model(layers, 0)), ("logmel", make_small_model(0))):
        for what, groups in (("alone", [[clip] for clip in clips]), ("together", [clips])):
            best = float("inf")
            for _ in range(3):
                start = time.process_time()
                for group in groups:
                    predict(model, group, CPU)
                best = min(best, time.process_time() - start)
            print(f"{name}, 8 clips of 10 s {what}: {seconds / best:,.1f} s of sound a second")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--divided", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--precision", default="fp32")
    sections = ["checkpoints", "frozen", "logmel", "threads", "groups"]
    parser.add_argument("--only", nargs="*", default=sections)
    given = parser.parse_args()
    if given.work:
        work(given.work, given.runs, given.precision, divided=given.divided, apart=given.apart)
        return
    logging.disable_progress_bar()
    print(f"{torch.get_num_threads()} threads; load of the machine: {os.getloadavg()}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if "checkpoints" in given.only:
            for precision in ("fp32", "bf16"):
                seconds = make_corpus(root / precision / "data", given.clips)
                what = f"{precision}, {given.clips} mp3 files of {seconds:.0f} s"
                large = partial(make_model, given.layers)
                compare_checkpoints(root / precision, large, what, precision)
        if "frozen" in given.only:
            seconds = make_corpus(root / "frozen" / "data", given.clips)
            what = f"heads on one frozen encoder, {given.clips} mp3 files of {seconds:.0f} s"
            compare_checkpoints(root / "frozen", partial(make_frozen_model, given.layers), what)
        if "logmel" in given.only:
            seconds = make_corpus(root / "logmel" / "data", 20 * given.clips)
            what = f"logmel, {20 * given.clips} mp3 files of {seconds:.0f} s"
            compare_checkpoints(root / "logmel", make_small_model, what)
        if "threads" in given.only:
            make_corpus(root / "threads" / "data", 7 * given.clips)
            compare_threads(root / "threads", make_model(given.layers, 0))
    if "groups" in given.only:
        compare_groups(given.layers)


if __name__ == "__main__":
    main()
