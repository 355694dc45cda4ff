"""Training and prediction on a GPU as the commands run them: steps, padding, waits, memory, kernels.

    OMP_NUM_THREADS=8 python benchmarks/gpu.py                            # a GPU of 40 GB, some minutes
    OMP_NUM_THREADS=1 python benchmarks/gpu.py --device cpu --small       # as a check

The published architecture with random weights, on noise of the official lengths (`data.lengths`): batches of
32, planned, drawn for, padded, copied to the GPU, forward, backward, AdamW. The floor is that of the matrix
products (`encoder.FLOOR_FLOPS`), of sound alone: padding and waiting are above it.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from data import lengths
from encoder import DATASHEET_FLOPS, FLOOR_FLOPS, PUBLISHED, SMALL, TRAINING_FLOP
from torch import nn
from torch.nn import functional

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.batching.loader import Loader
from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import AugmentationConfig
from abaw_emi.config.run import TrainingConfig
from abaw_emi.core.progress import Reporter
from abaw_emi.inference import engine
from abaw_emi.inference.predict import predict
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.device import Runtime, set_up_gpus
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import Checkpoint
from abaw_emi.training.optimisation.gradients import Place
from abaw_emi.training.optimisation.step import TrainStep
from abaw_emi.training.saver import Saver

EPOCH = 8_072  # clips of the official train split
GROUP_NORM = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
AUGMENTATION = AugmentationConfig(speed=(0.9, 1.0, 1.1), noise_probability=1.0)


@dataclass(frozen=True)
class Machine:
    """What is measured on, and how much."""

    runtime: Runtime
    small: bool
    steps: int
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def make_model(self, *, backbone: dict[str, Any] | None = None, **parts: Any) -> EmiModel:
        """A model of the published widths on the device."""
        torch.manual_seed(0)
        config = PUBLISHED | (backbone or {}) | (SMALL if self.small else {})
        with self.runtime.device:
            return EmiModel(EmiConfig.from_parts(ModelConfig(**parts), config))

    def make_examples(self, count: int) -> list[Example]:
        """Noise of the official lengths, cut to 12 s."""
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(400_000).astype(np.float32)
        examples = []
        for number, seconds in enumerate(lengths(count)):
            samples, start = round(min(seconds, 12.0) * 16_000), int(rng.integers(200_000))
            name = f"{number:05}"
            examples.append(Example.join(name, Clip.from_waveform(name, noise[start : start + samples])))
        return examples

    def count(self) -> int:
        """0, 1, 2, ..."""
        return next(self.numbers)

    def wait(self) -> None:
        """Until the GPU has done all."""
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Gives memory back, and counts its peak anew."""
        if self.runtime.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        """GiB of tensors at once."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.runtime.device.type == "cuda" else 0.0


def measure_steps(machine: Machine, name: str, model: EmiModel, **dials: Any) -> None:
    """Prints a row: what `train` takes for a step of 32 clips, after some that do not count."""
    runtime = replace(machine.runtime, precision=dials.pop("precision", machine.runtime.precision))
    joined, warm, cudnn = dials.pop("joined", True), dials.pop("warm", 3), dials.pop("cudnn", False)
    recurrent = dials.pop("recurrent", "")
    set_up_gpus(runtime.precision)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    if recurrent:
        torch.backends.cudnn.rnn.fp32_precision = recurrent
    config = TrainingConfig(seed=1, learning_rate=1e-6, **dials)
    machine.forget()
    examples = machine.make_examples(1_024)
    labels = {each.filename: np.full(6, 0.3, np.float32) for each in examples}
    pinned = runtime.device.type == "cuda"
    loader = Loader(examples=examples, labels=labels, model=model, config=config, pinned=pinned)
    model.train()
    if config.compile and model.encoder is not None:
        model.encoder.compile_regions()
    step = TrainStep(model, config, runtime)
    step.gradients.joined = joined and step.gradients.joined
    epoch = machine.count()  # other clips, and so other lengths, than in any row before
    plan = loader.plan(epoch)[: warm + machine.steps]
    begin = first = time.perf_counter()
    for number, each in enumerate(loader.load(plan, epoch, 0)):
        if number == warm:
            machine.wait()
            begin = time.perf_counter()
        step.run(each, Place(epoch, number), partial(loader.make, plan[number], epoch, number))
    machine.wait()
    took = time.perf_counter() - begin
    timed = plan[warm:]
    clips = sum(map(len, timed))
    audio = sum(examples[index].samples for batch in timed for index in batch) / 16_000
    floor, share = audio * TRAINING_FLOP / FLOOR_FLOPS, audio * TRAINING_FLOP / took / DATASHEET_FLOPS
    cells = f"{1e3 * took / len(timed):.1f} | {took / floor:.1f} | {share:.1%} | {EPOCH * took / clips:.1f}"
    print(f"| {name} | {cells} | {machine.peak():.1f} | {begin - first:.1f} |", flush=True)


def print_heading() -> None:
    """Of the rows of `measure_steps`."""
    print("\n| training | ms a step | times the floor | of 989 TFLOP/s | s an epoch | GiB | s first |")
    print("|---|---|---|---|---|---|---|")


def compare_steps(machine: Machine) -> None:
    """What changes a step's time."""
    print_heading()
    row = partial(measure_steps, machine)
    model = machine.make_model()
    row("what `train` does", model)
    row("the LSTM in float32", model, recurrent="ieee")
    row("groups of 8", model, group_size=8)
    row("groups of 32", model, group_size=32)
    row("regressed group by group", model, joined=False)
    row("compiled", model, compile=True, warm=8)
    row("compiled, groups of 32", model, compile=True, group_size=32, warm=8)
    row("without the LSTM", machine.make_model(lstm=False))


def compare_systems(machine: Machine) -> None:
    """What other systems take."""
    print_heading()
    row = partial(measure_steps, machine)
    model = machine.make_model()
    row("fp32", model, precision="fp32", warm=1)
    row("`paper-dropout`", machine.make_model(lstm_dropout=0.1))
    row("group norm", machine.make_model(backbone=GROUP_NORM))
    row("pearson", model, loss="pearson")
    row("speed and noise for each clip", model, augmentation=AUGMENTATION)
    row("convolutions frozen", machine.make_model(freeze_extractor=True))
    row("batches of 224 s", model, batch_seconds=224.0)
    row("fp16", model, precision="fp16")
    row("gradients clipped, average of weights", model, clip_grad_norm=1.0, ema_decay=0.99)
    row("attention by cuDNN", model, cudnn=True)


def compare_lengths(machine: Machine) -> None:
    """What the first run of a length costs beside the second, by part; forward and backward."""
    device, width = machine.runtime.device, (SMALL if machine.small else PUBLISHED)["hidden_size"]
    model = machine.make_model()
    network: Any = model.encoder.wav2vec2  # type: ignore[union-attr]

    def attend(frames: int, *, cudnn: bool) -> torch.Tensor:
        query = torch.randn(8, 16, frames, 64, device=device, requires_grad=True)
        mask = torch.arange(frames, device=device) < torch.arange(frames - 8, frames, device=device)[:, None]
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        return functional.scaled_dot_product_attention(
            *(query.bfloat16() for _ in range(3)), attn_mask=mask[:, None, None], dropout_p=0.1
        )

    def listen(frames: int) -> torch.Tensor:
        return network.feature_extractor(torch.randn(8, 320 * frames + 80, device=device), None)

    def place(frames: int) -> torch.Tensor:
        return network.encoder.pos_conv_embed(torch.randn(8, frames, width, device=device))

    def recur(
        frames: int, hidden: int = width + 3, dtype: torch.dtype = torch.float32, *, tf32: bool = False
    ):
        torch.backends.cudnn.rnn.fp32_precision = "tf32" if tf32 else "ieee"
        lstm = lstms.setdefault(
            (hidden, dtype), nn.LSTM(hidden, hidden, 2, batch_first=True).to(device, dtype)
        )
        with torch.autocast(device.type, enabled=False):
            return lstm(torch.randn(32, frames, hidden, device=device, dtype=dtype))[0][:, -1]

    lstms: dict[Any, nn.LSTM] = {}
    aligned = (width + 3 + 7) // 8 * 8
    parts: dict[str, Callable[[int], torch.Tensor]] = {
        "attention by cuDNN": partial(attend, cudnn=True),
        "attention without cuDNN": partial(attend, cudnn=False),
        "convolutions": listen,
        "positional convolution": place,
        f"LSTM of {width + 3}, 32 clips": recur,
        f"LSTM of {aligned}": partial(recur, hidden=aligned),
        f"LSTM of {width + 3}, TF32": partial(recur, tf32=True),
        f"LSTM of {aligned}, TF32": partial(recur, hidden=aligned, tf32=True),
        f"LSTM of {aligned}, bf16": partial(recur, hidden=aligned, dtype=torch.bfloat16),
    }
    print("\n| part | a length's first run, ms | its second, ms |\n|---|---|---|")
    for name, run in parts.items():
        taken: tuple[list[float], list[float]] = ([], [])
        for frames in (599, 301, 410, 503, 288, 377):  # the first is for the library to load
            for again in (0, 1):
                machine.wait()
                begin = time.perf_counter()
                with machine.runtime.autocast():
                    out = run(frames)
                out.float().sum().backward()
                machine.wait()
                taken[again].append(1e3 * (time.perf_counter() - begin))
        first, second = (np.median(each[1:]) for each in taken)
        print(f"| {name} | {first:.1f} | {second:.1f} |", flush=True)
    set_up_gpus(machine.runtime.precision)


def count_waits(machine: Machine) -> None:
    """How often the CPU waits for the GPU in a step, and where."""
    model = machine.make_model()
    examples = machine.make_examples(32)
    labels = {each.filename: np.full(6, 0.3, np.float32) for each in examples}
    pinned = machine.runtime.device.type == "cuda"
    loader = Loader(examples=examples, labels=labels, model=model, config=TrainingConfig(), pinned=pinned)
    step = TrainStep(model.train(), TrainingConfig(), machine.runtime)
    remake = partial(loader.make, range(32), 0, 0)
    step.run(remake(), Place(0, 0), remake)
    made = remake()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if pinned:
            torch.cuda.set_sync_debug_mode("warn")
        step.run(made, Place(0, 0), remake)
        if pinned:
            torch.cuda.set_sync_debug_mode("default")
    where: dict[str, int] = {}
    for each in caught:
        place = f"{Path(each.filename).name}:{each.lineno} {str(each.message)[:50]}"
        where[place] = where.get(place, 0) + 1
    print(f"\nthe CPU waits for the GPU {len(caught)} times a step: {where}", flush=True)


def compare_prediction(machine: Machine) -> None:
    """How much sound is predicted in a second, by the seconds of a group."""
    examples = machine.make_examples(32 if machine.small else 1_000)
    audio = sum(each.samples for each in examples) / 16_000
    model = machine.make_model().eval()
    print("\n| prediction | s of sound a second | GiB |\n|---|---|---|")
    for precision, sizes in (("bf16", (192, 96, 384, 768)), ("fp32", (192, 384))):
        runtime = replace(machine.runtime, precision=precision)
        for seconds in sizes:
            machine.forget()
            with mock.patch.object(engine, "GPU_SECONDS", float(seconds)):
                begin = time.perf_counter()
                predict(model, examples, runtime)
            took = time.perf_counter() - begin
            print(f"| {precision}, groups of {seconds} s | {audio / took:,.0f} | {machine.peak():.1f} |")


def compare_masks(machine: Machine) -> None:
    """A group without any padding with and without its mask."""
    network = machine.make_model().encoder.wav2vec2  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    print("\n| encoder, no clip is padded | masked, ms | no mask, ms | ratio |\n|---|---|---|---|")
    for count, seconds in ((8, 12), (8, 6), (32, 12)):
        sound = rng.standard_normal(seconds * 16_000).astype(np.float32)
        batch = make_batch([Example.join(f"{i}", Clip.from_waveform(f"{i}", sound)) for i in range(count)])
        batch = batch.to(machine.runtime.device)
        with torch.no_grad(), machine.runtime.autocast():
            frames = network(batch.waveforms, None, lengths=None, real=None).shape[1]
        real = torch.ones(count, frames, dtype=torch.bool, device=machine.runtime.device)
        for way in ("forward", "forward and backward"):

            def run(mask: torch.Tensor | None, way: str = way, batch: Any = batch) -> None:
                with torch.no_grad() if way == "forward" else nullcontext(), machine.runtime.autocast():
                    out = network(batch.waveforms, None, lengths=None, real=mask)
                if way != "forward":
                    out.float().sum().backward()

            masked, plain = (best(machine, partial(run, mask)) for mask in (real, None))
            print(f"| {count} of {seconds} s, {way} | {masked:.1f} | {plain:.1f} | {masked / plain:.2f} |")


def best(machine: Machine, work: Callable[[], object], rounds: int = 5) -> float:
    """Milliseconds of the fastest of some rounds, after two."""
    taken = []
    for _ in range(2 + rounds):
        machine.wait()
        begin = time.perf_counter()
        work()
        machine.wait()
        taken.append(time.perf_counter() - begin)
    return 1e3 * min(taken[2:])


def measure_saves(machine: Machine) -> None:
    """How long training waits for a checkpoint."""
    model = machine.make_model()
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    step = TrainStep(model, TrainingConfig(), machine.runtime)
    step.optimizer.step()
    with tempfile.TemporaryDirectory() as folder, Saver(Run(Path(folder) / "run"), model) as saver:
        for number in range(2):
            machine.wait()
            begin = time.perf_counter()
            saver.keep()
            saver.save(Checkpoint(epoch=number, best_epoch=number), step.state_dict())
            first = time.perf_counter()
            saver.wait()
            print(
                f"\nsave {number + 1}: training waits {first - begin:.2f} s; "
                f"written after {time.perf_counter() - begin:.1f} s"
            )


def profile(machine: Machine, out: Path) -> None:
    """Writes which kernels take the time of two steps."""
    model = machine.make_model()
    measure_steps(machine, "before the profile", model)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        measure_steps(replace(machine, steps=2), "two steps, profiled", model, warm=0)
    table = found.key_averages().table(sort_by="self_cuda_time_total", row_limit=45, max_name_column_width=90)
    out.write_text(table, encoding="utf-8")


def main() -> None:
    parts: dict[str, Callable[[Machine], None]] = {
        "waits": count_waits,
        "lengths": compare_lengths,
        "steps": compare_steps,
        "systems": compare_systems,
        "prediction": compare_prediction,
        "masks": compare_masks,
        "saves": measure_saves,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts))
    parser.add_argument("--profile", type=Path, metavar="FILE", help="kernels of two steps")
    given = parser.parse_args()
    runtime = Runtime.choose(given.device, "auto", Reporter(quiet=True))
    machine = Machine(runtime, given.small, given.steps)
    name = torch.cuda.get_device_name() if runtime.device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {runtime.precision}, {torch.get_num_threads()} threads")
    work = [(part, parts[part]) for part in given.only]
    if given.profile:
        work.append(("profile", partial(profile, out=given.profile)))
    for part, measure in work:
        begin = time.perf_counter()
        try:
            measure(machine)
        except Exception:  # what was measured before and after it is worth having
            traceback.print_exc()
        machine.forget()
        print(f"({part}: {time.perf_counter() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
