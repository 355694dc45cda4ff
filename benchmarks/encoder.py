"""How fast is this package's model beside the released code's way of running it, and what does bf16 change?

    OMP_NUM_THREADS=1 python benchmarks/encoder.py              # CPU, some five minutes
    OMP_NUM_THREADS=1 python benchmarks/encoder.py --small      # the same on a tiny model, as a check
    python benchmarks/encoder.py --device cuda                  # a training step of 32 clips
    python benchmarks/encoder.py --train --small                # that without a GPU, as a check

"One by one" is the released code's forward: transformers' Wav2Vec2Model on each clip, the VAD head on each
frame, mean, LSTM, head. All ways share one set of random weights of the published architecture. On the CPU:
seconds of audio for each second that the process computes (user and system), one thread, ways in turn, the
best of the rounds; once with transparent huge pages for torch's memory and once without.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Wav2Vec2Config, Wav2Vec2Model

from abaw_emi.config.model import ModelConfig
from abaw_emi.core.constants import EMOTIONS, SAMPLE_RATE
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.models.encoders.waveform import Wav2Vec2Encoder

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch reads it when it is imported
PUBLISHED = {
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "feat_proj_dropout": 0.1,
    "num_labels": 3,
}
SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
SMALL |= {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
TRAINING_FLOP = 70.5e9  # a second of audio through the published architecture, forward and backward
FLOOR_FLOPS, DATASHEET_FLOPS = 800e12, 989e12  # an H100's bf16 matrix products: at their best, as sold

Ways = dict[str, tuple[float, Callable[[], object]]]
"""Each way's name, the seconds of audio that it runs, and itself."""


def make_sounds(lengths: list[float]) -> list[Tensor]:
    """Normalised waveforms of so many seconds, each a voice of its own: harmonics, syllables, noise."""
    sounds = []
    for number, seconds in enumerate(lengths):
        rng = np.random.default_rng(number)
        at = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = rng.uniform(80, 400) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * at))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        voice = sum(rng.uniform() * np.sin(harmonic * phase) for harmonic in range(1, 9))
        voice *= (1 + np.sin(2 * np.pi * rng.uniform(2, 7) * at)) * rng.uniform(0.2, 2)
        sound = voice + rng.uniform(0.01, 1) * rng.standard_normal(len(at))
        sound = (sound - sound.mean()) / sound.std()
        sounds.append(torch.from_numpy(sound.astype(np.float32)))
    return sounds


def make_models(small: bool) -> tuple[Wav2Vec2Model, EmiModel]:
    """The encoder of transformers and this package's model, with the same weights."""
    torch.manual_seed(0)
    config = PUBLISHED | (SMALL if small else {})
    theirs = Wav2Vec2Model(Wav2Vec2Config(**config))
    ours = EmiModel(EmiConfig.from_parts(ModelConfig(), config))
    ours.encoder.wav2vec2.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def one_by_one(theirs: Wav2Vec2Model, ours: EmiModel, sounds: list[Tensor]) -> Tensor:
    """The released code's forward (B, 6); the layers behind the encoder are those of `ours`."""
    rows = []
    for sound in sounds:
        hidden = theirs(sound[None]).last_hidden_state  # (1, F, H)
        frames = torch.cat([hidden, ours.vad_head(hidden)], dim=2)
        states, _ = ours.lstm(frames)
        clip = torch.cat([frames.mean(1), states[:, -1]], dim=1)
        rows.append(ours.head.projection(torch.tanh(ours.head.dense(clip))))
    return torch.cat(rows).float()


def clip_by_clip(model: EmiModel, sounds: list[Tensor]) -> Tensor:
    """This package's forward (B, 6) of one clip after the other."""
    return torch.cat([model(sound[None], torch.tensor([len(sound)])) for sound in sounds])


def lstm_at_once(model: EmiModel, sounds: list[Tensor]) -> Tensor:
    """Frames clip by clip, then (B, 6) from all of them in one pass of the LSTM."""
    frames = [model.encode(sound[None], torch.tensor([len(sound)]))[0][0] for sound in sounds]
    return model.regress(pad_sequence(frames, batch_first=True), torch.tensor([len(clip) for clip in frames]))


def cpu_seconds(way: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    way()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def print_rates(title: str, ways: Ways, rounds: int, against: dict[str, str]) -> None:
    """A table of the ways; `against` says which way each is compared with."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (_, way) in ways.items():
            spent[name].append(cpu_seconds(way))
    rates = {name: seconds / min(spent[name]) for name, (seconds, _) in ways.items()}
    print(f"\n| {title} | audio-s per CPU-s | ratio |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} | {rate / rates[against[name]]:.2f} |", flush=True)


@torch.inference_mode()
def compare_on_cpu(small: bool, rounds: int) -> None:
    """Prints what one process, with or without huge pages, gets done."""
    theirs, ours = make_models(small)
    half = copy.deepcopy(ours)
    half.encoder.to(torch.bfloat16)
    half.vad_head.to(torch.bfloat16)
    sounds = make_sounds([1.2, 1.7, 2.3, 2.9, 3.4, 4.1, 4.8, 5.6])
    every = sum(map(len, sounds)) / SAMPLE_RATE
    first = "one by one, fp32"
    ways: Ways = {
        first: (every, lambda: one_by_one(theirs, ours, sounds)),
        "clip by clip, fp32": (every, lambda: clip_by_clip(ours, sounds)),
        "clip by clip, LSTM at once, fp32": (every, lambda: lstm_at_once(ours, sounds)),
        "clip by clip, bf16": (every, lambda: clip_by_clip(half, sounds)),
        "clip by clip, LSTM at once, bf16": (every, lambda: lstm_at_once(half, sounds)),
    }
    print_rates("whole forward of 8 clips", ways, rounds, dict.fromkeys(ways, first))

    sound = sounds[4][None]
    one = sound.shape[1] / SAMPLE_RATE
    networks = {
        "transformers, fp32": theirs,
        "ours, fp32": ours.encoder.wav2vec2,
        "ours, bf16": half.encoder.wav2vec2,
    }
    parts: Ways = {}
    against = {}
    for name, network in networks.items():
        cast = sound.to(network.feature_projection.projection.weight.dtype)
        convolutions, whole = network.feature_extractor, network
        if network is not theirs:  # neither padding nor masks
            convolutions = partial(convolutions, lengths=None)
            whole = partial(network, masks=None, lengths=None, real=None)
        parts[f"convolutions, {name}"] = one, partial(convolutions, cast)
        parts[f"encoder, {name}"] = one, partial(whole, cast)
        against |= {f"{part}, {name}": f"{part}, transformers, fp32" for part in ("convolutions", "encoder")}
    frames, lengths = ours.encode(sound, torch.tensor([sound.shape[1]]))
    parts["LSTM and head, 1 clip"] = one, lambda: ours.regress(frames, lengths)
    parts["LSTM and head, 8 clips"] = 8 * one, lambda: ours.regress(frames.repeat(8, 1, 1), lengths.repeat(8))
    against |= {f"LSTM and head, {clips}": "LSTM and head, 1 clip" for clips in ("1 clip", "8 clips")}
    print_rates("part, 3.4 s", parts, rounds, against)

    base = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}  # wav2vec2-base's
    base |= {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
    encoder = Wav2Vec2Encoder({**PUBLISHED, **base, **(SMALL if small else {})}).eval()
    batch, lengths = pad_sequence(sounds, batch_first=True), torch.tensor([len(sound) for sound in sounds])
    frames = encoder.frame_lengths(lengths)
    real = torch.arange(int(frames.max())) < frames[:, None]
    padded = partial(encoder.wav2vec2, batch, None, lengths=lengths, real=real)  # what a GPU does
    ways = {
        "one after the other": (every, lambda: encoder(batch, lengths)),
        "one padded batch": (every, padded),
    }
    print_rates("norm over time, 8 clips", ways, rounds, dict.fromkeys(ways, "one after the other"))


@torch.inference_mode()
def correlate(small: bool, clips: int = 48) -> None:
    """Prints how far the ways' predictions are from each other."""
    theirs, ours = make_models(small)
    sounds = make_sounds(np.random.default_rng(0).uniform(0.5, 2.0, clips).tolist())
    exact = lstm_at_once(ours, sounds)
    difference = (one_by_one(theirs, ours, sounds[:8]) - exact[:8]).abs().max()
    ours.encoder.to(torch.bfloat16)
    ours.vad_head.to(torch.bfloat16)
    rounded = lstm_at_once(ours, sounds)
    print(f"\nmax |one by one - ours|, fp32, 8 clips: {difference:.1e}; spread of a clip's intensities over")
    print(f"{clips} clips: {exact.std(0).min():.1e}. Pearson r(bf16, fp32) over the {clips}:")
    for emotion, a, b in zip(EMOTIONS, exact.T, rounded.T, strict=True):
        print(f"  {emotion}: {torch.corrcoef(torch.stack([a, b]))[0, 1]:.5f}")


def seconds_of(step: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The fastest of some rounds, after two that do not count."""
    taken = []
    for _ in range(2 + rounds):
        _wait(device)
        begin = time.perf_counter()
        step()
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return min(taken[2:])


def train(small: bool, device: torch.device, rounds: int) -> None:
    """Prints the time of a training step of 32 clips, and where it goes."""
    theirs, ours = (model.to(device).train() for model in make_models(small))
    rng = np.random.default_rng(0)
    sounds = make_sounds(sorted((0.3 + 11.7 * rng.beta(1.6, 1.2, 32)).tolist(), reverse=True))
    if small:
        sounds = [sound[: len(sound) // 8 + 4_000] for sound in sounds]
    lengths = [len(sound) for sound in sounds]
    audio = sum(lengths) / SAMPLE_RATE
    truth = torch.rand(32, 6, device=device)
    on_device = [sound.to(device) for sound in sounds]

    def autocast() -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if device.type == "cuda" else nullcontext()

    def step(optimiser: torch.optim.Optimizer, losses: Callable[[], list[Callable[[], Tensor]]]) -> None:
        for loss in losses():
            loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    def released() -> list[Callable[[], Tensor]]:
        def loss() -> Tensor:
            with autocast():
                return (one_by_one(theirs, ours, on_device) - truth).square().mean()

        return [loss]

    def grouped(size: int) -> Callable[[], list[Callable[[], Tensor]]]:
        def losses() -> list[Callable[[], Tensor]]:
            return [lambda rows=slice(start, start + size): loss(rows) for start in range(0, 32, size)]

        def loss(rows: slice) -> Tensor:
            masks = ours.draw_masks(lengths[rows], rng)
            with autocast():
                found = ours(
                    pad_sequence(on_device[rows], batch_first=True),
                    torch.tensor(lengths[rows]).to(device, non_blocking=True),
                    None if masks is None else masks.map(lambda values: values.to(device, non_blocking=True)),
                )
            return (found - truth[rows]).square().sum() / truth.numel()

        return losses

    head = [weight for name, weight in ours.named_parameters() if "encoder.wav2vec2" not in name]
    fused = device.type == "cuda"
    theirs_optimiser = torch.optim.AdamW([*theirs.parameters(), *head], lr=1e-6, fused=fused)
    optimiser = torch.optim.AdamW(ours.parameters(), lr=1e-6, fused=fused)
    floor = audio * TRAINING_FLOP / FLOOR_FLOPS
    print(f"\n32 clips, {audio:.0f} s of audio; floor of the matrix products {1e3 * floor:.1f} ms")
    print("\n| training step | ms | times the floor | MFU of 989 TFLOP/s | ratio |\n|---|---|---|---|---|")
    first = 0.0

    def row(
        name: str, optimiser: torch.optim.Optimizer, losses: Callable[[], list[Callable[[], Tensor]]]
    ) -> None:
        nonlocal first
        took = seconds_of(lambda: step(optimiser, losses), device, rounds)
        first = first or took
        share = audio * TRAINING_FLOP / took / DATASHEET_FLOPS
        print(
            f"| {name} | {1e3 * took:.1f} | {took / floor:.1f} | {share:.1%} | {first / took:.2f} |",
            flush=True,
        )

    row("one by one", theirs_optimiser, released)
    row("groups of 8", optimiser, grouped(8))
    row("all 32 at once", optimiser, grouped(32))

    def parts(title: str) -> None:
        waveforms = pad_sequence(on_device, batch_first=True)
        samples = torch.tensor(lengths, device=device)
        network = ours.encoder.wav2vec2
        with torch.no_grad(), autocast():
            features = network.feature_extractor(waveforms, None)
            frames, frame_lengths = ours.encode(waveforms, samples)
        real = torch.arange(frames.shape[1], device=device) < frame_lengths[:, None]
        features.requires_grad_()
        frames.requires_grad_()
        forwards: dict[str, Callable[[], Tensor]] = {
            "convolutions": lambda: network.feature_extractor(waveforms, None),
            "transformer": lambda: network.encoder(network.feature_projection(features), real, None, None),
            "LSTM and head": lambda: ours.regress(frames, frame_lengths),
        }
        for name, forward in forwards.items():

            def both(forward: Callable[[], Tensor] = forward) -> None:
                with autocast():
                    out = forward()
                out.sum().backward()

            with torch.no_grad(), autocast():
                alone = seconds_of(forward, device, rounds)
            took = seconds_of(both, device, rounds)
            print(f"| {name}, {title} | {1e3 * alone:.1f} | {1e3 * took:.1f} |", flush=True)
        ours.zero_grad()

    print("\n| part, all 32 at once | forward ms | forward and backward ms |\n|---|---|---|")
    parts("eager")
    if device.type == "cuda":
        ours.encoder.compile_regions()
        parts("compiled")
        print("\n| training step, compiled | ms | times the floor | MFU of 989 TFLOP/s | ratio |")
        print("|---|---|---|---|---|")
        row("groups of 8", optimiser, grouped(8))
        row("all 32 at once", optimiser, grouped(32))
        print(f"\npeak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny model")
    parser.add_argument("--train", action="store_true", help="training steps (always on a GPU)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.train or options.device != "cpu":
        train(options.small, torch.device(options.device), options.rounds)
        return
    torch.set_num_threads(1)
    if HUGE_PAGES in os.environ:
        compare_on_cpu(options.small, options.rounds)
        return
    for huge in "01":
        print(f"\n{HUGE_PAGES}={huge}", flush=True)
        subprocess.run([sys.executable, *sys.argv], env={**os.environ, HUGE_PAGES: huge}, check=True)
    correlate(options.small)


if __name__ == "__main__":
    main()
