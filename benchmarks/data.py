"""How fast batches come from the cache, against decoding the MP3s; what opening it costs; why not int16.

`python benchmarks/data.py [CLIPS]` writes synthetic MP3s of the official lengths (mean 7 s, 4 % over 12 s) to
a temporary folder, and reads what lies in the page cache: no disk is measured.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import xxhash
from transformers import Wav2Vec2Config

from abaw_emi.audio.cache import ClipCache
from abaw_emi.audio.clips import Clip, read_clips
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.config.model import ModelConfig
from abaw_emi.core.cache import Cache
from abaw_emi.data.layout import ClipFiles
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel

BATCH, GROUP = 32, 8
ALL_CLIPS = 17_246

Float32 = npt.NDArray[np.float32]


def seconds(work: Callable[[], object], rounds: int = 1) -> float:
    """The quickest of some rounds, in s."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def lengths(count: int) -> list[float]:
    """Seconds: 3 % under one, 4 % over twelve, a mean of about 7 (PAPER, Figure 2; see `core.constants`)."""
    rng = np.random.default_rng(0)
    usual = np.clip(12.2 * rng.beta(1.9, 1.6, count), 0.1, None)
    usual[rng.random(count) < 0.044] = 14.0
    return usual.tolist()


def write_corpus(folder: Path, count: int) -> dict[str, ClipFiles]:
    rng = np.random.default_rng(1)
    files: dict[str, ClipFiles] = {}
    for number, duration in enumerate(lengths(count)):
        samples = round(duration * 16_000)
        t = np.arange(samples) / 16_000
        voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
        sound = 0.05 * voice * (1 + np.sin(25 * t)) + 0.005 * rng.standard_normal(samples)
        path = folder / f"{number:05}.mp3"
        soundfile.write(path, sound.astype(np.float32), 16_000)
        files[path.stem] = ClipFiles(filename=path.stem, audio=path)
    return files


def join(clips: Sequence[Clip]) -> list[Example]:
    return [Example.join(clip.filename, clip) for clip in clips]


def groups(clips: Sequence[Clip]) -> list[list[Example]]:
    """An epoch as training makes it: random batches, each cut into groups of similar length."""
    order = np.random.default_rng(2).permutation(len(clips))
    found: list[list[Example]] = []
    examples = join(clips)
    for start in range(0, len(order), BATCH):
        batch = sorted((examples[i] for i in order[start : start + BATCH]), key=lambda each: -each.samples)
        found += [batch[first : first + GROUP] for first in range(0, len(batch), GROUP)]
    return found


def run_epoch(epoch: Sequence[Sequence[Example]]) -> None:
    for group in epoch:
        make_batch(group)


def measure_cache(work: Path, files: dict[str, ClipFiles]) -> None:
    ids = list(files)
    time.sleep(2.1)  # a file younger than 2 s is hashed again each time
    decode = seconds(lambda: read_clips(ids, files), 2)
    build = seconds(lambda: ClipCache(folder=work).read_clips(ids, files))
    opened = seconds(lambda: ClipCache(folder=work).read_clips(ids, files), 3)
    before = resident_mb()
    cached = ClipCache(folder=work).read_clips(ids, files).clips
    epoch = groups(cached)
    run_epoch(epoch)
    batches = seconds(lambda: run_epoch(epoch), 5)
    grown = resident_mb() - before
    held = read_clips(ids, files).clips
    in_memory = seconds(lambda: run_epoch(groups(held)), 3)
    megabytes = sum(clip.samples for clip in cached) * 4 / 1e6
    rows = torch.empty(GROUP, 192_000)
    copy = seconds(lambda: rows.copy_(rows.clone()), 20)
    print(f"{len(ids)} clips, {megabytes / 64e-3:.0f} s of sound, {megabytes:.0f} MB as float32")
    print(f"decoding, once           {decode:6.2f} s  {len(ids) / decode:6.0f} clips/s")
    print(f"building the cache       {build:6.2f} s  {build / decode:.2f}x decoding")
    print(f"opening it               {opened:6.3f} s  {len(ids) / opened:6.0f} clips/s")
    rate = megabytes / 1e3 / batches
    print(f"an epoch's batches       {batches:6.3f} s  {rate:.1f} GB/s, {decode / batches:.1f}x decoding")
    print(f"  the same from memory   {in_memory:6.3f} s  {decode / in_memory:.1f}x decoding")
    print(f"  memory, for scale: clone and copy {2 * rows.nbytes / 1e9 / copy:.1f} GB/s")
    print(f"resident memory          +{grown:.0f} MB over opening and six epochs")
    measure_int16(work, cached, epoch, batches)


def measure_int16(
    work: Path, clips: Sequence[Clip], epoch: Sequence[Sequence[Example]], float_seconds: float
) -> None:
    """The same epoch from 16-bit integers, scaled by each clip's own peak."""
    path = work / "int16.bin"
    places: dict[str, tuple[int, np.float32]] = {}
    with path.open("wb") as file:
        for clip in clips:
            scale = np.abs(clip.waveform).max() / np.float32(32_767)
            places[clip.filename] = (file.tell(), scale)
            file.write(np.rint(clip.waveform / scale).astype("<i2").tobytes())
    with path.open("rb", buffering=0) as file:

        def run() -> None:
            for group in epoch:
                rows = torch.empty(len(group), group[0].samples).numpy()
                for clip, row in zip([example.audio for example in group], rows, strict=True):
                    offset, scale = places[clip.filename]
                    mean, variance = clip.moments
                    numbers = np.empty(clip.samples, np.int16)
                    os.preadv(file.fileno(), [numbers.data.cast("B")], offset)
                    part = row[: clip.samples]
                    np.multiply(numbers, scale, out=part)
                    part -= mean
                    part /= np.sqrt(variance + 1e-7)
                    row[clip.samples :] = 0

        run()
        took = seconds(run, 5)
    exact, rounded = [], []
    for clip in clips[:16]:
        quiet = clip.waveform * np.float32(0.01 / clip.waveform.std())  # -40 dB
        scale = np.abs(quiet).max() / np.float32(32_767)
        exact.append(Clip.from_waveform(clip.filename, quiet))
        rounded.append(Clip.from_waveform(clip.filename, np.rint(quiet / scale).astype(np.int16) * scale))
    difference = np.abs(predict_randomly(rounded) - predict_randomly(exact)).max()
    share = path.stat().st_size / (4 * sum(clip.samples for clip in clips))
    print(f"int16: {share:.2f} of the size, an epoch {took:.3f} s, {took / float_seconds:.2f}x float32;")
    print(f"  predictions of a small random wav2vec 2.0 at -40 dB differ by {difference:.1e}")


def predict_randomly(clips: Sequence[Clip]) -> Float32:
    """(B, 6) of a small model with random weights, always the same."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=[32] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    model = EmiModel(EmiConfig.from_parts(ModelConfig(), config.to_dict())).eval()
    batches = [make_batch([example]) for example in join(clips)]
    with torch.inference_mode():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
        return np.concatenate([model(batch.waveforms, batch.lengths).numpy() for batch in batches])


def measure_entries(work: Path) -> None:
    """As many entries as there are clips, each of one sample; and the checksums in question."""
    record = {"moments": [1.2345678e-05, 0.0012345678], "silent": False, "warnings": []}
    cache = Cache("small", folder=work)
    keys = [f"{number:064}.mp3:12.0" for number in range(ALL_CLIPS)]

    def make() -> tuple[Float32, dict[str, object]]:
        return np.zeros(1, np.float32), record

    made = seconds(lambda: [cache.cached(key, make) for key in keys])
    opened = seconds(lambda: [cache.cached(key, make) for key in keys], 3)
    content = np.random.default_rng(3).bytes(450_000)
    checks = {
        "XXH3": xxhash.xxh3_64_digest,
        "CRC-32": zlib.crc32,
        "SHA-256": lambda data: hashlib.sha256(data).digest(),
    }
    for name, check in checks.items():
        print(f"{name}: {len(content) / 1e9 / seconds(lambda check=check: check(content), 50):.1f} GB/s")
    print(f"{ALL_CLIPS:,} entries: made in {made:.2f} s, opened in {opened:.2f} s")


def main(count: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "mp3").mkdir()
        measure_cache(work / "cache", write_corpus(work / "mp3", count))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"peak resident memory {peak:.0f} MB, clips held for the comparison included")
        measure_entries(work)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
