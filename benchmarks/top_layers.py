"""What is shared below the layers that are trained: five checkpoints against one, and a training step.

Run as `OMP_NUM_THREADS=1 python benchmarks/top_layers.py [--clips 6] [--layers 12] [--top 2]` in a folder
with room (3.5 GB with 12 layers). A wav2vec 2.0 with the audeering model's widths and random weights. Seconds
of the processor, which other programs on the machine change less than they change the wall time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from prediction import CPU, backbone, make_corpus, make_frozen_model, make_model, make_run, time_command
from transformers.utils import logging

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.cache import CACHE_VARIABLE
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.inference.frozen_encoder import encode_examples, find_fixed_part
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.training.optimisation.gradients import Place
from abaw_emi.training.optimisation.step import TrainStep


def make_top_model(layers: int, top: int, seed: int, *, keep: bool = False) -> EmiModel:
    """The same encoder for every seed below the last `top` layers, and other weights in these."""
    torch.manual_seed(0)
    tuning = TuningConfig(train_layers=top, keep_lower=keep)
    model = EmiModel(EmiConfig.from_parts(ModelConfig(tuning=tuning), backbone(layers))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return model


def compare_checkpoints(root: Path, models: Callable[[int], EmiModel], what: str, *, apart: bool) -> None:
    """One checkpoint, and five that share what can be shared; `apart`, five that share nothing, too."""
    for number in range(5):
        make_run(root / f"run{number}", models(number))
    ways = {"1": (1, False), "5": (5, False)} | ({"5 that share nothing": (5, True)} if apart else {})
    took = {}
    for name, (runs, alone) in ways.items():
        took[name] = time_command(root, runs, root / "cache", "fp32", apart=alone)
        shutil.rmtree(root / "cache")
        cpu, wall = (took[name][kind] / took["1"][kind] for kind in ("cpu", "total"))
        seconds = took[name]["cpu"]
        print(f"{what}, {name}: {seconds:.1f} s, {cpu:.2f} times one; wall {wall:.2f} times", flush=True)
    for number in range(5):
        shutil.rmtree(root / f"run{number}")


def time_steps(model: EmiModel, examples: list[Example], what: str, steps: int) -> None:
    """A training step on all examples, in groups of 4: the median of some."""
    rng = np.random.default_rng(0)
    labels = {example.filename: rng.random(len(EMOTIONS), dtype=np.float32) for example in examples}
    config = TrainingConfig(batch_size=len(examples), group_size=4)
    start = time.process_time()
    fixed = find_fixed_part(model, training=True)
    if fixed is not None:
        encoded = encode_examples(model, fixed, examples, CPU)
        assert encoded is not None
        examples = encoded
    once = time.process_time() - start
    loader = Loader(examples=examples, labels=labels, model=model, config=config)
    step, took = TrainStep(model, config, CPU), []
    model.train()
    (indices,) = loader.plan(0)
    for number in range(steps + 1):
        start = time.process_time()
        remake = partial(loader.make, indices, 0, number)
        step.run(remake(), Place(0, number), remake)
        took.append(time.process_time() - start)
    print(f"{what}: {statistics.median(took[1:]):.2f} s a step; {once:.1f} s once", flush=True)


def make_examples(count: int) -> tuple[list[Example], float]:
    """Clips of noise of 2 to 12 s, and their seconds."""
    rng = np.random.default_rng(1)
    lengths = [round(float(rng.uniform(2, 12)) * 16_000) for _ in range(count)]
    clips = [
        Clip.from_waveform(f"{number:05}", rng.standard_normal(length).astype(np.float32))
        for number, length in enumerate(lengths)
    ]
    return [Example.join(clip.filename, clip) for clip in clips], sum(lengths) / 16_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--top", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["checkpoints", "steps"])
    given = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}; {given.layers} layers", flush=True)
    top = partial(make_top_model, given.layers, given.top)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        root = Path(folder)
        os.environ[CACHE_VARIABLE] = str(root / "cache")
        if "checkpoints" in given.only:
            seconds = make_corpus(root / "data", given.clips)
            print(f"{given.clips} mp3 files, {seconds:.0f} s of sound")
            compare_checkpoints(root, partial(make_model, given.layers), "fine-tuned whole", apart=False)
            compare_checkpoints(root, top, f"the last {given.top} layers trained", apart=True)
            compare_checkpoints(root, partial(make_frozen_model, given.layers), "frozen", apart=False)
        if "steps" in given.only:
            examples, seconds = make_examples(given.clips)
            print(f"a step of {given.clips} clips, {seconds:.0f} s of sound")
            time_steps(make_model(given.layers, 0), examples, "fine-tuned whole", given.steps)
            time_steps(top(0), examples, f"the last {given.top} layers", given.steps)
            time_steps(top(0, keep=True), examples, f"the last {given.top}, kept below", given.steps)


if __name__ == "__main__":
    main()
