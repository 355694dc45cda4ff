"""What a GPU would have to do, counted on a CPU: before and after each change of the training engine.

`python benchmarks/counting.py` takes 17,246 clips of the official lengths in batches of 32, in groups of 8.
"Before" is computed from what the code did then. `--graphs` compiles, which takes a minute.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from data import ALL_CLIPS, lengths
from planning import count_steps

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.batching.sampler import (
    group_by_length,
    padding_efficiency,
    plan_epoch,
    share_batch,
    sort_by_length,
)
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.inference.engine import GPU_SECONDS
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel

BATCH, GROUP = 32, 8

BACKBONE = {
    "model_type": "wav2vec2",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [16] * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}

AUGMENTATIONS = {
    "none": AugmentationConfig(),
    "gain and mask": AugmentationConfig(gain_db=3.0, time_mask_seconds=0.5),
    "noise for each clip": AugmentationConfig(noise_probability=1.0),
    "speed .9, 1, 1.1": AugmentationConfig(speed=(0.9, 1.0, 1.1)),
}


def cut(share: Sequence[int], samples: Sequence[int]) -> list[list[int]]:
    """The groups of a share, as the loader cuts them."""
    return group_by_length(share, samples, size=GROUP)


def count_whole(groups: Sequence[Sequence[int]], samples: Sequence[int]) -> int:
    """How many groups have clips of one length."""
    return sum(len({samples[index] for index in group}) == 1 for group in groups)


def count_plan(plan: list[list[int]], samples: list[int]) -> None:
    """Items 1 to 4, and which groups need no mask."""
    apart, together = count_steps(plan, samples, GROUP)
    print(f"1. LSTM time steps a batch: {apart:.0f} by groups, {together:.0f} at once")
    for size in (1, 2, 4, 8):
        before = [
            group for batch in plan for rank in range(size) for group in cut(batch[rank::size], samples)
        ]
        now = [
            group
            for batch in plan
            for share in share_batch(batch, samples, size)
            for group in cut(share, samples)
        ]
        efficiencies = (padding_efficiency(groups, samples) for groups in (before, now))
        print(
            f"2. padding efficiency, {size} processes: "
            + " before, ".join(f"{each:.3f}" for each in efficiencies)
        )
    groups = [group for batch in plan for group in cut(batch, samples)]
    forwards = sum(len({samples[index] for index in group}) for group in groups)
    print(f"3. forwards of a group-norm backbone an epoch: {forwards:,} before, {len(groups):,}")
    print(f"4. cuDNN's dropout set up {len(groups):,} times an epoch by groups, {len(plan):,} at once; 0 now")
    whole = count_whole(groups, samples)
    predicted = group_by_length(
        sort_by_length(range(len(samples)), samples), samples, budget=round(GPU_SECONDS * 16_000)
    )
    print(
        f"6. groups without any padding: {whole:,} of {len(groups):,} of training; "
        f"{count_whole(predicted, samples):,} of {len(predicted):,} of prediction on a GPU"
    )


def time_loader(plan: list[list[int]], samples: list[int], model: EmiModel, steps: int = 20) -> None:
    """CPU milliseconds that a step of 32 clips takes to make, by augmentation, in one thread."""
    buffer = np.random.default_rng(0).standard_normal(max(samples)).astype(np.float32)
    clips = [Clip.from_waveform(f"{number:05}", buffer[:count]) for number, count in enumerate(samples)]
    examples = [Example.join(clip.filename, clip) for clip in clips]
    labels = {clip.filename: np.zeros(6, np.float32) for clip in clips}
    for name, augmentation in AUGMENTATIONS.items():
        training = TrainingConfig(batch_size=BATCH, group_size=GROUP, augmentation=augmentation)
        loader = Loader(examples=examples, labels=labels, model=model, config=training)
        loader.make(plan[0], 0, 0)  # imports, and the filters of resampling
        start = time.process_time()
        for step in range(steps):
            loader.make(plan[step], 0, step)
        took = (time.process_time() - start) / steps * 1e3
        print(f"6. a step is made in {took:.0f} ms of CPU, augmentation: {name}")


def count_graphs(model: EmiModel) -> None:
    """Graphs that torch.compile makes of the encoder's regions in training and prediction."""
    graphs: Counter[str] = Counter()
    stage = [""]

    def count(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        graphs[stage[0]] += 1
        return graph.forward

    def run(name: str, clips: int, *, equal: bool = False) -> None:
        stage[0] = name
        drawn = sorted(rng.integers(3_000, 9_000, clips).tolist(), reverse=True)
        if equal:
            drawn = drawn[:1] * clips
        sounds = [
            Clip.from_waveform(f"{i:05}", rng.standard_normal(n).astype(np.float32))
            for i, n in enumerate(drawn)
        ]
        masks = model.draw_masks(drawn, rng) if model.training else None
        batch = make_batch([Example.join(clip.filename, clip) for clip in sounds], masks=masks)
        frames, _ = batch.encode(model)
        if frames is not None and frames.requires_grad:
            frames.sum().backward()

    rng = np.random.default_rng(0)
    assert model.encoder is not None
    model.encoder.compile_regions(backend=count)  # type: ignore[arg-type]
    for _ in range(2):
        model.train()
        for clips in (8, 8, 8, 8, 5):
            run("training", clips)
        model.eval()
        with torch.inference_mode():
            for clips in (9, 4, 5, 6):
                run("validation", clips)
            for clips in (4, 7):
                run("nothing padded", clips, equal=True)
            run("a clip alone", 1)
    print(f"6. graphs: {dict(graphs)}, {sum(graphs.values())} in all")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphs", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    samples = [round(min(duration, 12.0) * 16_000) for duration in lengths(ALL_CLIPS)]
    model = EmiModel(EmiConfig.from_parts(ModelConfig(vad_head=False), BACKBONE))
    plan = plan_epoch(samples, batch_size=BATCH, seed=1, epoch=0)
    count_plan(plan, samples)
    time_loader(plan, samples, model)
    weights = 186.46e6  # of the paper's model
    buckets = -(-weights // (25 * 2**18))  # of 25 MiB: `training.optimisation.sums`
    print(f"6. a process sums {4 * weights / 2**20:,.0f} MiB of gradients a step, in {buckets:.0f} buckets")
    if given.graphs:
        count_graphs(model)


if __name__ == "__main__":
    main()
