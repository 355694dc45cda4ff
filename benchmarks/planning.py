"""17,246 clips of the official lengths, planned and batched: time, padding, memory, and steps of an LSTM.

`python benchmarks/planning.py` takes the samples from one buffer, so that only planning, drawing what the
encoder leaves out, normalising and padding are measured; benchmarks/data.py measures the reading.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from data import ALL_CLIPS, lengths
from transformers import Wav2Vec2Config

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.batching.sampler import group_by_length, plan_epoch, plan_epoch_by_budget, sort_by_length
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel

SECONDS = 224.0
"""A budget of 32 clips of 7 s."""


FRAMES_PER_SECOND = 50


def count_steps(plan: list[list[int]], samples: list[int], size: int | None) -> tuple[float, float]:
    """Time steps of a batch that wait for each other: by groups of `size` clips in turn, and all at once."""
    apart = together = 0
    for batch in plan:
        groups = group_by_length(sort_by_length(batch, samples), samples, size=size)
        longest = [samples[group[0]] * FRAMES_PER_SECOND // 16_000 for group in groups]
        apart, together = apart + sum(longest), together + longest[0]
    return apart / len(plan), together / len(plan)


def main() -> None:
    buffer = np.random.default_rng(0).standard_normal(192_000).astype(np.float32)
    samples = [round(min(duration, 12.0) * 16_000) for duration in lengths(ALL_CLIPS)]
    clips = [Clip.from_waveform(f"{number:05}", buffer[:count]) for number, count in enumerate(samples)]
    examples = [Example.join(clip.filename, clip) for clip in clips]
    labels = {clip.filename: np.zeros(6, np.float32) for clip in clips}
    backbone = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=12, num_attention_heads=2, intermediate_size=32
    )
    config = {**backbone.to_dict(), "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    model = EmiModel(EmiConfig.from_parts(ModelConfig(vad_head=False), config))
    print(f"{ALL_CLIPS:,} clips, {sum(samples) / 16_000 / 3600:.1f} h")
    print(
        "| batches | steps | planned in | padding efficiency | an epoch batched in | peak memory "
        "| LSTM steps, by groups | at once |"
    )
    print("|---|---|---|---|---|---|---|---|")
    dials: list[tuple[str, TrainingConfig]] = [
        (f"32 clips, groups of {size}", TrainingConfig(group_size=size)) for size in (32, 16, 8, 4)
    ]
    dials.append((f"{SECONDS:.0f} s", TrainingConfig(batch_seconds=SECONDS)))
    for name, training in dials:
        start = time.perf_counter()
        if training.batch_seconds:
            plan = plan_epoch_by_budget(samples, budget=round(SECONDS * 16_000), seed=1, epoch=0)
        else:
            plan = plan_epoch(samples, batch_size=training.batch_size, seed=1, epoch=0)
        planned = time.perf_counter() - start
        loader = Loader(examples=examples, labels=labels, model=model, config=training)
        efficiency = loader.padding_efficiency(0)
        start = time.perf_counter()
        count = sum(step.size for step in loader.load(plan, 0, 0))
        batched = time.perf_counter() - start
        assert count == ALL_CLIPS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        apart, together = count_steps(plan, samples, None if training.batch_seconds else training.group_size)
        cells = (name, len(plan), f"{planned * 1e3:.0f} ms", f"{efficiency:.3f}", f"{batched:.1f} s")
        print(*("", *cells, f"{peak:.0f} MiB", f"{apart:.0f}", f"{together:.0f}", ""), sep=" | ")


if __name__ == "__main__":
    main()
