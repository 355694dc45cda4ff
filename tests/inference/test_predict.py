"""Prediction: the same numbers however clips are grouped or shared out, in bounded memory, and kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from abaw_emi.audio.clips import Clip, Sound
from abaw_emi.batching.batches import make_batch
from abaw_emi.batching.examples import Example
from abaw_emi.config.run import RunConfig
from abaw_emi.config.tuning import TuningConfig
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import EMOTIONS, FILENAME, Precision
from abaw_emi.core.errors import EmiError, RunError, TrainingError, UsageError
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.progress import Bar, Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.inference.members import Members, predict_runs
from abaw_emi.inference.predict import load_run, predict
from abaw_emi.models.device import Runtime
from abaw_emi.models.distributed import World
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run, find_run
from tests.small_models import CPU, ENCODERS, make_clip, make_example, small_model

has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16, reason="a CPU without AVX512_BF16 and AMX")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def clips() -> list[Example]:
    """Three groups of a CPU, in no order of length."""
    lengths = np.random.default_rng(0).integers(400, 192_000, 36)
    return [make_example(number, int(samples)) for number, samples in enumerate(lengths)]


def to_array(table: pl.DataFrame) -> np.ndarray:
    assert table.columns == [FILENAME, *EMOTIONS]
    return table.select(EMOTIONS).to_numpy()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_clip_is_given_the_same_alone_and_in_company(encoder: str, clips: list[Example]) -> None:
    model = small_model(encoder)
    together = predict(model, clips, CPU)
    assert together[FILENAME].to_list() == [clip.filename for clip in clips]
    alone = pl.concat([predict(model, [clip], CPU) for clip in clips])
    np.testing.assert_allclose(to_array(together), to_array(alone), rtol=0, atol=1e-5)
    backwards = predict(model, clips[::-1], CPU)
    np.testing.assert_allclose(to_array(together), to_array(backwards), rtol=0, atol=1e-5)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two cores for torch, whatever the machine has."""
    monkeypatch.setattr("abaw_emi.inference.workers.count_cores", lambda: 2)
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as other:
        assert other.submit(torch.get_num_threads).result() == 2
    assert not inference_threads()
    torch.set_num_threads(1)


def inference_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("inference")]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bfloat16)])
def test_threads_give_the_bits_that_one_gives(
    precision: Precision, clips: list[Example], request: pytest.FixtureRequest
) -> None:
    class Watching(Counting):
        most = 0

        def watch(self) -> None:
            self.most = max(self.most, len(inference_threads()))

    model = small_model("layer")
    if precision == "bf16":
        model.encoder.to(torch.bfloat16)
        model.vad_head.to(torch.bfloat16)
    expected = predict(model, clips, replace(CPU, precision=precision))
    request.getfixturevalue("two_threads")
    watching = Watching()
    found = predict(model, clips, replace(CPU, precision=precision, reporter=watching))
    assert watching.most == 2
    assert found.equals(expected)
    assert watching.done == len(clips)


def test_no_clip_gives_an_empty_table() -> None:
    table = predict(small_model("layer"), [], CPU)
    assert table.is_empty()
    assert table.schema == {FILENAME: pl.String, **dict.fromkeys(EMOTIONS, pl.Float32)}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_was(training: bool, clips: list[Example]) -> None:
    model = small_model("layer", freeze_extractor=True).train(training)
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    predict(model, clips[:3], CPU)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_what_is_not_a_number_is_named(clips: list[Example]) -> None:
    model = small_model("logmel")
    with torch.no_grad():
        model.head.projection.bias[2] = float("nan")
    with pytest.raises(TrainingError, match="not finite for 2 clips: 00000, 00001"):
        predict(model, clips[:2], CPU)


class Counting(Reporter):
    """Calls `watch` whenever a bar moves, and counts how far; keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.done = 0.0
        self.said: list[str] = []

    def watch(self) -> None:
        """Nothing yet."""

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextmanager
    def bar(self, description: str, total: float, unit: str = "clips", done: int = 0) -> Iterator[Bar]:
        class Watched(Bar):
            def advance(_, steps: float = 1, **fields: object) -> None:  # noqa: N805
                self.done += steps
                self.watch()

        with super().bar(description, total, unit, done) as bar:
            yield Watched(bar._progress, bar._task)


def test_memory_holds_no_more_than_a_group(tmp_path: Path) -> None:
    class Watching(Counting):
        most = 0

        def watch(self) -> None:
            self.most = max(self.most, resident())

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf(
            "SC_PAGESIZE"
        )

    count, samples = 250, 192_000
    sound = make_clip(0, samples)
    array = Cache("sounds", folder=tmp_path).cached("sound", lambda: (sound.waveform, {}))
    clips = [Clip(f"{number:05}", Sound(Path(), "", array, sound.moments)) for number in range(count)]
    many = [Example.join(clip.filename, clip) for clip in clips]  # 192 MB of sound, if it were held
    model = small_model("layer")
    few, all_of_them = Watching(), Watching()
    predict(model, many[:40], replace(CPU, reporter=few))
    predict(model, many, replace(CPU, reporter=all_of_them))
    assert all_of_them.done == count
    assert all_of_them.most - few.most < count * samples * 4 / 4


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_thread_names_the_clip(clips: list[Example]) -> None:
    with pytest.raises(TrainingError, match=r"^00099: the model fails on it: "):
        predict(small_model("layer"), [*clips, make_example(99, 399)], CPU)


_STOPPED = """
import signal, sys, time, torch
from dataclasses import replace
from abaw_emi.core.signals import Interrupted
from abaw_emi.inference import workers
from abaw_emi.inference.predict import predict
from tests.inference.test_predict import Counting, inference_threads
from tests.small_models import CPU, make_example, small_model

class Printing(Counting):
    def watch(self):
        print(len(inference_threads()), flush=True)

def stop(signum, frame):
    global stopped
    stopped = time.process_time()
    raise Interrupted(signum)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    workers.count_cores = lambda: 2
    torch.set_num_threads(2)
    model = small_model("layer", backbone={"num_hidden_layers": 12, "hidden_size": 256})
    clips = [make_example(number, 190_000) for number in range(400)]
    try:
        predict(model, clips, replace(CPU, reporter=Printing()))
    except Interrupted as interrupted:
        print(time.process_time() - stopped)
        sys.exit(interrupted.exit_code)
"""


@pytest.mark.exact
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_threads_soon_and_in_silence(signum: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "predicting.py"
    script.write_text(_STOPPED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, script],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        os.killpg(process.pid, signum)  # as a terminal does, and a cluster
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signum
    assert stderr == ""
    # CPU seconds of both threads, which do not depend on the machine's load; a group takes 3 (measured 0.1).
    assert float(stdout.split()[-1]) < 1


# From here on: runs and a data folder on disk.


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    root = tmp_path / "data"
    (root / "audio").mkdir(parents=True)
    rows = ["Filename," + ",".join(EMOTIONS)]
    for number, samples in enumerate((1_024, 80_000, 16_000)):
        clip = make_clip(number, samples)
        soundfile.write(root / "audio" / f"{clip.filename}.wav", clip.waveform, 16_000, subtype="PCM_16")
        rows.append(clip.filename + ",0" * 6)
    (root / "valid_split.csv").write_text("\n".join(rows) + "\n")
    return DataFolder(root)


def write_run(folder: Path, model: EmiModel) -> Run:
    """A finished run of `model`."""
    run = Run(folder)
    model.save_pretrained(folder)
    run.write_config(RunConfig())
    run.write_provenance({"weights_sha256": hash_file(run.weights_file), "finished": "now", "trained_on": []})
    return find_run(folder)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [write_run(tmp_path / f"run{seed}", small_model("layer", seed=seed)) for seed in (0, 1)]


def predict_valid(
    runs: list[Run], data: DataFolder, precision: Precision = "fp32", reporter: Reporter | None = None
) -> Members:
    runtime = Runtime.for_prediction("cpu", precision, reporter or CPU.reporter)
    return predict_runs(runs, data, "valid", runtime)


def said_kept(reporter: Counting) -> list[str]:
    return [line for line in reporter.said if "taken from the cache" in line]


def test_what_was_predicted_before_is_not_run_again(
    runs: list[Run], data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, reporter = predict_valid(runs[:1], data), Counting()
    both = predict_valid(runs, data, reporter=reporter)
    (line,) = said_kept(reporter)
    assert line.startswith("1 of 2 runs")
    assert both.members[0].table.equals(first.members[0].table)
    assert both.members[0].table.schema == first.members[0].table.schema
    assert both.members[0].record == first.members[0].record
    assert both.members[0].record["precision"] == "fp32"
    assert both.members[0].record["device"] == "cpu"

    def fail(*_: object) -> EmiModel:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("abaw_emi.inference.members.load_run", fail)
    again = predict_valid(runs, data)
    assert [member.table.rows() for member in again.members] == [
        member.table.rows() for member in both.members
    ]


def test_what_predictions_follow_from_is_what_they_are_kept_for(
    runs: list[Run], data: DataFolder, tmp_path: Path
) -> None:
    before = predict_valid(runs[:1], data).members[0].table
    sound = data.root / "audio" / "00001.wav"
    soundfile.write(sound, make_clip(7, 80_000).waveform, 16_000, subtype="PCM_16")
    changed = Counting()
    after = predict_valid(runs[:1], DataFolder(data.root), reporter=changed).members[0].table
    assert not said_kept(changed)
    assert [left == right for left, right in zip(before.rows(), after.rows(), strict=True)] == [
        True,
        False,
        True,
    ]
    config = runs[0].folder / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 2', '"num_attention_heads": 4'))
    assert not before.equals(predict_valid(runs[:1], DataFolder(data.root)).members[0].table)


def test_tampered_weights_are_refused_whatever_is_stored(runs: list[Run], data: DataFolder) -> None:
    predict_valid(runs, data)
    for run in runs:
        content = bytearray(run.weights_file.read_bytes())
        content[-1] ^= 1
        run.weights_file.write_bytes(bytes(content))
    with pytest.raises(RunError, match="SHA-256") as caught:
        predict_valid(runs, data)
    assert len(caught.value.problems) == 2


def test_damaged_predictions_are_made_anew_with_a_warning(
    runs: list[Run], data: DataFolder, cache: Path
) -> None:
    before = predict_valid(runs[:1], data).members[0].table
    (file,) = cache.glob("predictions-*/*.array")
    content = bytearray(file.read_bytes())
    content[-5] ^= 64
    file.write_bytes(bytes(content))
    reporter = Counting()
    after = predict_valid(runs[:1], data, reporter=reporter).members[0].table
    assert not said_kept(reporter)
    assert "a damaged entry" in str(reporter.warnings[-1])
    assert after.equals(before)
    reporter = Counting()
    predict_valid(runs[:1], data, reporter=reporter)
    assert said_kept(reporter)


def test_a_cache_that_cannot_be_written_is_a_warning(runs: list[Run], data: DataFolder, cache: Path) -> None:
    predict_valid(runs[:1], data)
    (folder,) = cache.glob("predictions-*")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    reporter = Counting()
    assert len(predict_valid(runs[:1], data, reporter=reporter).members) == 1
    assert any(f"{folder}: cannot be written" in str(problem) for problem in reporter.warnings)


@needs_bfloat16
def test_bf16_on_a_cpu_is_the_encoder_alone(data: DataFolder, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small_model("layer", backbone={"hidden_size": 64}))
    model = load_run(run, CPU.device, "bf16")
    half = {name for name, weight in model.named_parameters() if weight.dtype == torch.bfloat16}
    assert half == {
        name for name, _ in model.named_parameters() if name.startswith(("encoder.", "vad_head."))
    }
    full = predict_valid([run], data)
    reporter = Counting()
    found = predict_valid([run], data, "bf16", reporter)
    assert not said_kept(reporter)
    assert found.members[0].record["precision"] == "bf16"
    difference = np.abs(to_array(found.members[0].table) - to_array(full.members[0].table)).max()
    assert 0 < difference < 0.1


@needs_bfloat16
@pytest.mark.parametrize("width", [32, 64, 128])  # torch 2.14 with AMX: wrong positions at 32
def test_bf16_on_a_cpu_is_close_or_refused(width: int, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", small_model("layer", backbone={"hidden_size": width}))
    batch = make_batch([make_example(0, 50_000)])
    with torch.inference_mode():
        expected, _ = load_run(run, CPU.device).encode(batch.waveforms, batch.lengths)
        try:
            found, _ = load_run(run, CPU.device, "bf16").encode(batch.waveforms, batch.lengths)
        except UsageError as error:
            assert "bf16 on this CPU gives frames that are off by" in str(error)  # noqa: PT017
        else:
            assert (found.float() - expected).norm() < 0.1 * expected.norm()


def test_bf16_on_a_cpu_that_imitates_it_is_refused(
    runs: list[Run], data: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    with pytest.raises(UsageError, match="neither AVX512_BF16 nor AMX"):
        predict_valid(runs, data, "bf16")
    with pytest.raises(EmiError):
        predict_valid(runs, data, "fp16")


def test_runs_of_one_frozen_encoder_share_its_frames(data: DataFolder, tmp_path: Path, cache: Path) -> None:
    model = small_model("layer", freeze_encoder=True)
    runs = [write_run(tmp_path / "first", model)]
    with torch.no_grad():
        model.head.projection.bias += 1
    runs.append(write_run(tmp_path / "second", model))
    reporter = Counting()
    found = predict_valid(runs, data, reporter=reporter)
    assert sum("frames of 3 clips" in line for line in reporter.said) == 1
    assert "second: its encoder is equal to that of first: not run a second time" in reporter.said
    assert len(list(cache.glob("frames-*"))) == 1
    first, second = (to_array(member.table) for member in found.members)
    np.testing.assert_allclose(second, first + 1, rtol=0, atol=1e-5)


def test_runs_that_are_equal_below_the_trained_layers_share_what_these_read(
    data: DataFolder, tmp_path: Path, cache: Path
) -> None:
    model = small_model("layer", tuning=TuningConfig(train_layers=1))
    runs, expected = [], []
    for number, change in enumerate(("", "encoder.layers.1.", "pos_conv_embed.")):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if change and change in name:
                    weight += 0.01
        runs.append(write_run(tmp_path / f"run{number}", model))
        # A run alone writes nothing for others.
        expected.append(to_array(predict_valid(runs[-1:], data).members[0].table))
    assert not list(cache.glob("states-*"))
    shutil.rmtree(cache)
    reporter = Counting()
    found = predict_valid(runs, data, reporter=reporter)
    # The third one differs below, whatever its folder and its config say.
    assert sum("states below the last layer of 3 clips" in line for line in reporter.said) == 2
    said = "run1: its encoder below the last layer is equal to that of run0: not run a second time"
    assert [line for line in reporter.said if "is equal to" in line] == [said]
    assert len(list(cache.glob("states-*"))) == 2
    for member, values in zip(found.members, expected, strict=True):
        np.testing.assert_array_equal(to_array(member.table), values)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4


@pytest.mark.parametrize("key", ["attn_implementation", "quantization_config", "auto_map"])
def test_keys_that_transformers_would_obey_are_refused(key: str, runs: list[Run], data: DataFolder) -> None:
    path = runs[0].folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: {"x": "y"}}))
    with pytest.raises(RunError, match=rf"config\.json: unknown keys: {key}"):
        predict_valid(runs[:1], data)


@pytest.mark.parametrize(
    "change", [{"encoder_config": None}, {"lstm_layers": "x"}, {"widths": 3}, {"fusion": []}]
)
def test_a_config_of_impossible_values_is_the_runs_problem(
    change: dict[str, object], runs: list[Run], data: DataFolder
) -> None:
    path = runs[0].folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=f"^{runs[0].folder}: the model cannot be loaded: "):
        predict_valid(runs[:1], data)


def test_one_gpu_is_not_shared_by_the_processes_of_torchrun() -> None:
    with pytest.raises(UsageError, match="'cuda:0' under torchrun, for 2 processes; expected auto or cuda"):
        Runtime.choose("cuda:0", "fp32", CPU.reporter, world=World(rank=1, size=2, local_rank=1))
