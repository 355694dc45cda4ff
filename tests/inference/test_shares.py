"""One run's clips predicted by several processes, through the command line: the bits of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.runs.run import Run
from tests.command import run_command
from tests.inference.test_predict import write_run
from tests.small_models import make_clip, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = 40
"""Of 12 s: eight fill a group on a CPU, so there are five groups."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "audio").mkdir()
    rows = ["Filename," + ",".join(EMOTIONS)]
    for number in range(CLIPS):
        sound = make_clip(number, 191_000 - 400 * (number % 7)).waveform
        soundfile.write(root / "audio" / f"{number:05}.wav", sound, 16_000, subtype="PCM_16")
        rows.append(f"{number:05}" + ",0" * 6)
    (root / "valid_split.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("runs") / "small-seed1", small_model("layer"))


def command(run: Run, data: Path, cache: Path, out: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    words = ["predict", "--ckpt", str(run.folder), "--split", "valid", "--data", str(data), "--out", str(out)]
    return [*words, "--device", "cpu", *more], {"ABAW_EMI_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def predict(*arguments: object, returncode: int = 0) -> subprocess.CompletedProcess[str]:
    words, variables = command(*arguments)  # type: ignore[arg-type]
    done = run_command(*words, env={**os.environ, **variables})
    assert done.returncode == returncode, done.stderr
    return done


@pytest.fixture(scope="module")
def expected(run: Run, data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    predict(run, data, folder / "cache", folder / "preds.csv")
    return (folder / "preds.csv").read_bytes()


def test_shares_make_what_one_process_makes_and_the_last_command_writes_it(
    run: Run, data: Path, expected: bytes, tmp_path: Path
) -> None:
    place = (run, data, tmp_path / "cache", tmp_path / "preds.csv")
    first = predict(*place, "--shard", "1/3")
    assert f"{run.folder}, valid: share 1/3 is kept, 16 clips; 16 of 40 are predicted" in first.stdout
    assert "next, once all shares are made: abaw-emi predict --ckpt" in first.stdout
    assert "--shard" not in first.stdout.splitlines()[-1]
    second = json.loads(predict(*place, "--shard", "2/3", "--json").stdout)
    assert (second["shard"], second["clips"], second["done"], second["total"]) == ("2/3", 16, 32, 40)
    again = predict(*place, "--shard", "1/3")
    assert "taken from the cache" in again.stderr
    third = predict(*place, "--shard", "3/3")
    assert "share 3/3 is kept, 8 clips; 40 of 40 are predicted" in third.stdout
    assert not (tmp_path / "preds.csv").exists()
    last = predict(*place)
    assert "1 of 1 runs predicted these clips before: taken from the cache" in last.stderr
    assert (tmp_path / "preds.csv").read_bytes() == expected


def test_a_share_that_is_not_made_is_made_by_the_last_command(
    run: Run, data: Path, expected: bytes, tmp_path: Path
) -> None:
    place = (run, data, tmp_path / "cache", tmp_path / "preds.csv")
    predict(*place, "--shard", "2/2")
    last = predict(*place)
    assert "16 of 40 clips were predicted before" in last.stderr
    assert (tmp_path / "preds.csv").read_bytes() == expected


@pytest.mark.exact
@pytest.mark.parametrize("more", [(), ("--shard", "1/2")])
def test_a_command_that_is_killed_goes_on_where_it_was(
    run: Run, data: Path, expected: bytes, more: tuple[str, ...], tmp_path: Path
) -> None:
    place = (run, data, tmp_path / "cache", tmp_path / "preds.csv")
    words, variables = command(*place, *more)
    # Slow enough that the first group of several is there long before the last.
    variables["PYTHONPATH"] = str(Path(__file__).parents[2])
    slow = "import abaw_emi.models.emi as emi, time, sys; r = emi.EmiModel.regress\n"
    slow += "emi.EmiModel.regress = lambda *a, **k: (time.sleep(1), r(*a, **k))[1]\n"
    slow += "from abaw_emi.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *words], env={**os.environ, **variables}, stderr=subprocess.DEVNULL
    )
    while not list((tmp_path / "cache").glob("predictions-*/*.array")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "preds.csv").exists()
    again = predict(*place, *more)
    assert "of 40 clips were predicted before" in again.stderr
    predict(*place)
    assert (tmp_path / "preds.csv").read_bytes() == expected


@pytest.mark.exact
def test_the_processes_of_torchrun_share_the_clips_and_the_first_one_writes(
    run: Run, data: Path, expected: bytes, tmp_path: Path
) -> None:
    words, variables = command(run, data, tmp_path / "cache", tmp_path / "preds.csv")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "abaw_emi", *words],
        env={**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("40 clips") == 1
    assert "taken from the cache" in done.stderr  # what the other process made, too
    assert (tmp_path / "preds.csv").read_bytes() == expected


def test_a_share_that_cannot_be_kept_is_an_error(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder was")
    done = predict(run, data, tmp_path / "cache", tmp_path / "preds.csv", "--shard", "1/2", returncode=1)
    assert "share 1/2 cannot be kept; set $ABAW_EMI_CACHE to a folder" in done.stderr


def test_a_share_of_files_or_of_none_is_wrong_usage(run: Run, data: Path, tmp_path: Path) -> None:
    place = (run, data, tmp_path / "cache", tmp_path / "preds.csv")
    none = predict(*place, "--shard", "3/2", returncode=2)
    assert "--shard: '3/2'; expected k/K with k from 1 to K" in none.stderr
    words = ("predict", "--ckpt", str(run.folder), "a.wav", "--shard", "1/2")
    assert "both --shard and files" in run_command(*words).stderr
