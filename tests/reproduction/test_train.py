"""Rows of the tables that are run: small backbones and a few clips, from nothing to a score."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig

from abaw_emi.core.errors import CorpusError, UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.models.config import EmiConfig
from abaw_emi.models.emi import EmiModel
from abaw_emi.reproduction.measure import read_outcome
from abaw_emi.reproduction.published import ROWS, PublishedRow, find_rows
from abaw_emi.reproduction.requirements import Failure, find_failures, list_row, list_row_encoders
from abaw_emi.reproduction.rows import BACKBONES, RowPlan, plan_rows
from abaw_emi.reproduction.table import RowOutcome
from abaw_emi.reproduction.train import train_rows
from abaw_emi.runs.lock import lock_runs
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from tests.backbones import small_config, write_backbone
from tests.cli.conftest import environment
from tests.command import run_command
from tests.foreign_data import write_data

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = {"vit": 6, "wav2vec2": 8}
SMOKE = ("training.epochs=2", "training.batch_size=8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/` with sounds and supplied features, and `small/`, a backbone."""
    world = tmp_path_factory.mktemp("world")
    data = write_data(world / "data")
    rng = np.random.default_rng(0)
    for name, width in WIDTHS.items():
        (data / name).mkdir()
        for number in range(20):
            frames = rng.standard_normal((int(rng.integers(1, 9)), width)).astype(np.float32)
            np.save(data / name / f"{number:05}.npy", frames)
    write_backbone(world / "small")
    return world


def plan(
    world: Path,
    out: Path,
    names: Sequence[str],
    table: str = "1",
    *,
    changes: Sequence[str] = SMOKE,
    seeds: Sequence[int] = (),
) -> list[RowPlan]:
    backbones = {BACKBONES["audeering"]: str(world / "small")}
    rows = find_rows(table, names)  # type: ignore[arg-type]
    return plan_rows(rows, out, seeds=seeds, changes=changes, backbones=backbones)


def run(
    world: Path, plans: Sequence[RowPlan], data: str = "data"
) -> tuple[dict[str, Failure], list[RowOutcome]]:
    folder = DataFolder(world / data, world / "features")
    folder.read_labels("train", "valid")
    failures = find_failures(plans, folder, Reporter(quiet=True))
    ready = [each for each in plans if each.row.name not in failures]
    failures |= train_rows(ready, folder, Reporter(quiet=True), device="cpu")
    outcomes = [read_outcome(p, folder, world / "submissions", failures.get(p.row.name)) for p in plans]
    return failures, outcomes


def hashes(plans: Sequence[RowPlan]) -> dict[str, str]:
    return {run.name: run.read_provenance()["weights_sha256"] for p in plans for run in p.runs.values()}


def test_rows_of_features_and_of_sound_are_run_and_scored(world: Path, tmp_path: Path) -> None:
    plans = plan(world, tmp_path, ["baseline-audio", "frozen"], seeds=[1, 2])
    failures, outcomes = run(world, plans)
    assert failures == {}
    names = ["baseline-audio-seed1", "baseline-audio-seed2", "frozen-seed1", "frozen-seed2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for outcome, row_plan in zip(outcomes, plans, strict=True):
        measured = outcome.measured
        assert measured is not None
        recorded = [run.read_provenance()["valid"]["mean_pearson"] for run in row_plan.runs.values()]
        assert list(measured.by_seed.values()) == pytest.approx(recorded)
        assert (measured.n, measured.on, len(measured.by_seed)) == (8, "valid", 2)
        assert measured.ensemble is not None


def test_a_second_time_nothing_is_trained_and_the_table_is_the_same(world: Path, tmp_path: Path) -> None:
    plans = plan(world, tmp_path, ["baseline-audio", "paper-trainval"])
    first = run(world, plans)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(world, plans) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert first[1][1].state == "finished"
    assert first[1][1].measured is None  # trained on valid too


def test_what_train_made_is_used_and_rows_with_the_same_runs_share_them(world: Path, tmp_path: Path) -> None:
    plans = plan(world, tmp_path, ["baseline-audio", "baseline-audio-again", "baseline-audio-lstm"])
    made = Plan(config=plans[0].config, preset="baseline-audio", seeds=[1], out=tmp_path, device="cpu")
    (alone,) = train(made, DataFolder(world / "data"), Reporter(quiet=True))
    before = alone.weights_file.stat().st_mtime_ns
    failures, outcomes = run(world, plans)
    assert failures == {}
    assert alone.weights_file.stat().st_mtime_ns == before
    assert outcomes[0].measured == outcomes[1].measured != outcomes[2].measured
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "baseline-audio-lstm-seed1",
        "baseline-audio-seed1",
    ]


def test_a_row_within_train_is_scored_on_what_it_holds_out(world: Path, tmp_path: Path) -> None:
    failures, (outcome,) = run(world, plan(world, tmp_path, ["vision-within-train"], "text"))
    assert failures == {}
    assert outcome.measured is not None
    assert (outcome.measured.n, outcome.measured.on) == (4, "fold 3/3 of train")
    assert outcome.runs == ("vision-within-train-fold3of3-seed1",)
    assert "measured on fold 3/3 of train" in outcome.remarks


def test_missing_inputs_of_every_row_are_reported_before_any_is_trained_and_the_others_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plans = plan_rows(find_rows("1", ["baseline-vision", "zhang", "frozen"]), tmp_path, changes=SMOKE)
    failures, outcomes = run(world, plans)
    assert {name: failure[0] for name, failure in failures.items()} == dict.fromkeys(
        ("zhang", "frozen"), "lacks inputs"
    )
    assert [outcome.state for outcome in outcomes] == ["finished", "lacks inputs", "lacks inputs"]
    (zhang,), (frozen,) = (failures[name][1] for name in ("zhang", "frozen"))
    assert str(zhang).startswith("feature folder gte: no clip of train or valid has any; put it into ")
    assert "abaw-emi transcribe" in str(zhang)
    assert frozen.where == BACKBONES["audeering"]
    assert "--backbone audeering=DIR" in frozen.next_step
    said = capsys.readouterr().err
    assert said.index("row zhang, feature folder gte") < said.index("row frozen, ")


def test_clips_that_have_nothing_of_what_a_row_reads_are_named(world: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "vit").mkdir(parents=True)
    for split in ("train", "valid"):
        (data / f"{split}_split.csv").write_text((world / "data" / f"{split}_split.csv").read_text())
    for path in sorted((world / "data" / "vit").iterdir())[1:]:
        (data / "vit" / path.name).write_bytes(path.read_bytes())
    plans = plan(world, tmp_path / "runs", ["vision", "baseline-audio"])
    failures, _ = run(tmp_path, plans)
    (vision,), (audio,) = (failures[name][1] for name in ("vision", "baseline-audio"))
    assert "1 id have no vit: 00000; put it into " in str(vision)
    assert str(vision).endswith("or --on-bad-clip skip")
    assert "no clip of train or valid has any" in str(audio)
    assert not (tmp_path / "runs").exists()


def test_a_row_that_fails_does_not_stop_the_others(world: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    (broken / "vit").mkdir(parents=True)
    for path in (world / "data").rglob("*"):
        target = broken / path.relative_to(world / "data")
        target.mkdir(parents=True, exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    np.save(broken / "vit" / "00003.npy", np.full((4, WIDTHS["vit"]), np.nan, np.float32))
    plans = plan(world, tmp_path / "runs", ["vision", "baseline-audio"])
    failures, outcomes = run(tmp_path, plans)
    assert {outcome.row.name: outcome.state for outcome in outcomes} == {
        "baseline-audio": "finished",
        "vision": "failed",
    }
    assert list(failures) == ["vision"]
    assert tuple(failures["vision"][1]) == tuple(outcomes[1].problems)
    assert any("00003" in str(problem) for problem in failures["vision"][1])


def test_a_folder_of_another_config_is_refused_and_left_as_it_is(world: Path, tmp_path: Path) -> None:
    run(world, plan(world, tmp_path, ["baseline-audio"]))
    before = hashes(plan(world, tmp_path, ["baseline-audio"]))
    other = plan(world, tmp_path, ["baseline-audio"], changes=[*SMOKE, "training.learning_rate=0.5"])
    failures, (outcome,) = run(world, other)
    assert failures["baseline-audio"][0] == outcome.state == "refused"
    assert "training.learning_rate is 0.001, not 0.5" in str(failures["baseline-audio"][1][0])
    assert hashes(other) == before


def test_clips_left_out_are_left_out_of_the_score(world: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "vit").mkdir(parents=True)
    for split in ("train", "valid"):
        (data / f"{split}_split.csv").write_text((world / "data" / f"{split}_split.csv").read_text())
    for path in sorted((world / "data" / "vit").iterdir()):
        if path.stem not in ("00003", "00015"):  # of train, of valid
            (data / "vit" / path.name).write_bytes(path.read_bytes())
    (row_plan,) = plan(world, tmp_path / "runs", ["vision"])
    folder = DataFolder(data)
    assert find_failures([row_plan], folder, Reporter(quiet=True)).keys() == {"vision"}
    assert find_failures([row_plan], folder, Reporter(quiet=True), skip_bad=True) == {}
    assert train_rows([row_plan], folder, Reporter(quiet=True), on_bad_clip="skip", device="cpu") == {}
    outcome = read_outcome(row_plan, folder, tmp_path / "submissions")
    assert outcome.measured is not None
    assert outcome.measured.n == 7


def test_each_row_is_one_line_and_each_warning_is_printed_once(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = plan(world, tmp_path, ["baseline-audio", "baseline-audio-again", "vision"], seeds=[1, 2])
    train_rows(plans, DataFolder(world / "data"), Reporter(), device="cpu")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("warning: ")] == [
        "row 1 of 3, baseline-audio: training baseline-audio-seed1, baseline-audio-seed2",
        "row 2 of 3, vision: training vision-seed1, vision-seed2",
        "row 3 of 3, baseline-audio-again: finished before: baseline-audio-seed1, baseline-audio-seed2",
    ]
    assert len(set(lines)) == len(lines) > 3


def test_data_that_cannot_be_read_is_reported_once(world: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        run(world, plan(world, tmp_path, ["baseline-audio", "frozen"]), data="nowhere")


def test_a_run_that_another_process_trains_is_passed_over(world: Path, tmp_path: Path) -> None:
    plans = plan(world, tmp_path, ["baseline-audio"], seeds=[1, 2])
    reporter = Reporter(quiet=True)
    with ExitStack() as locks:
        lock_runs([plans[0].runs[1]], locks)
        folder = DataFolder(world / "data", world / "features")
        assert train_rows(plans, folder, reporter, device="cpu") == {}
    assert [plans[0].runs[seed].finished for seed in (1, 2)] == [False, True]
    assert [str(warning).endswith("; passed over") for warning in reporter.warnings].count(True) == 1
    assert read_outcome(plans[0], folder, world / "submissions").state == "unfinished"


def test_changes_go_to_the_rows_that_have_the_key(world: Path, tmp_path: Path) -> None:
    changes = ["model.features.1.hidden_size=16", "training.epochs=3"]
    av, frozen = plan(world, tmp_path, ["baseline-av", "frozen"], changes=changes)
    assert [feature.hidden_size for feature in av.config.model.features] == [0, 16]
    assert (av.config.training.epochs, frozen.config.training.epochs) == (3, 3)
    assert frozen.config.model.backbone == str(world / "small")
    longer, plain = plan(world, tmp_path, ["paper-longer", "paper-trainval"], changes=[])[::-1]
    assert (longer.config.training.epochs, plain.config.training.epochs) == (60, 30)
    with pytest.raises(UsageError, match=r"model\.features\.1\.hidden_size=16: not KEY=VALUE of a known key"):
        plan(world, tmp_path, ["frozen"], changes=changes)


def test_the_command_ends_with_1_after_running_what_can_be_run(world: Path, tmp_path: Path) -> None:
    words = [
        "tables",
        "--table",
        "2",
        "--only",
        "gv",
        "w2v2-gv",
        "--set",
        *SMOKE,
        "--json",
        "--device",
        "cpu",
    ]
    place = ["--backbone", f"audeering={world / 'small'}", "--data", str(world / "data")]
    env = environment(HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path / "hub"))
    done = run_command(*words, *place, cwd=tmp_path, env=env)
    assert done.returncode == 1, done.stderr
    table = json.loads(done.stdout)
    assert {row["name"]: row["state"] for row in table["rows"]} == {
        "w2v2-gv": "lacks inputs",
        "gv": "finished",
    }
    assert table["rows"][1]["difference"] == pytest.approx(
        table["rows"][1]["measured"]["mean_pearson"] - 0.342
    )
    (lack,) = [
        text for text in table["problems"] if text.startswith("row w2v2-gv, facebook/wav2vec2-large: ")
    ]
    assert lack in done.stderr.splitlines()
    assert done.stderr.splitlines()[-1].startswith("tables: 1 of 2 rows have no number: w2v2-gv")
    assert (tmp_path / "tables" / "gv-seed1" / "model.safetensors").is_file()


@pytest.mark.exact
def test_a_table_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(world: Path, tmp_path: Path) -> None:
    changes = ["training.epochs=16", "training.batch_size=4"]

    def start(out: str) -> subprocess.Popen[str]:
        words = f"tables --table 1 --only baseline-audio paper-trainval --set {' '.join(changes)}"
        place = ["--backbone", f"audeering={world / 'small'}", "--data", str(world / "data"), "--out", out]
        return subprocess.Popen(
            [sys.executable, "-m", "abaw_emi", *words.split(), *place, "--device", "cpu", "--json"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    stopped = start("stopped")
    log = tmp_path / "stopped" / "paper-trainval-seed1" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while (
        stopped.poll() is None and time.monotonic() < deadline and not (log.is_file() and log.stat().st_size)
    ):
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, said
    assert "; go on with: abaw-emi tables --table 1 --only baseline-audio paper-trainval " in said
    assert not json.loads((log.parent / "provenance.json").read_text())["finished"]

    again, straight = start("stopped"), start("straight")
    for process in (again, straight):
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    names = ["baseline-audio", "paper-trainval"]
    assert hashes(plan(world, tmp_path / "stopped", names, changes=changes)) == hashes(
        plan(world, tmp_path / "straight", names, changes=changes)
    )


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.preset], ids=lambda row: f"{row.table}-{row.name}"
)
def test_the_model_of_every_row_can_be_made(row: PublishedRow, tmp_path: Path) -> None:
    (row_plan,) = plan_rows([row], tmp_path)
    model = row_plan.config.model
    widths = {feature.name: 24 for feature in model.features if not feature.backbone}
    words = None
    if len(widths) < len(model.features):
        words = BertConfig(
            hidden_size=24, num_attention_heads=2, intermediate_size=32, vocab_size=50
        ).to_dict()
    encoder = small_config() if model.encoder == "pretrained" else None
    with torch.device("meta"):
        made = EmiModel(EmiConfig.from_parts(model, encoder, widths, words))
    assert sum(weight.numel() for weight in made.parameters()) > 0
    assert set(made.widths) >= set(widths)
    assert hasattr(made, "text") == (words is not None)


def test_each_encoder_of_a_row_that_is_not_here_says_how_to_get_it(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (plan,) = plan_rows(find_rows("1", ["winner-2025"]), tmp_path / "tables")
    listed = list_row(plan, DataFolder(data_root))
    speech, words = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", "Alibaba-NLP/gte-en-mlm-base"
    assert listed["reads"] == ["sound", "vit-huge", "text", speech, words]
    assert listed["missing"] == ["vit-huge", "text", speech, words]
    said = {problem.partition(":")[0]: problem for problem in listed["problems"]}
    assert said[speech].endswith(f"hf download {speech}; or use a folder: --backbone audeering=DIR")
    assert said[words].endswith(f"hf download {words}; or use a folder: --set model.features.1.backbone=DIR")
    assert "abaw-emi prepare --presets winner-2025 makes it" in said["feature folder vit-huge"]


def test_a_row_that_starts_from_a_run_reads_no_published_encoder(world: Path, tmp_path: Path) -> None:
    for name in ("paper", "winner-2025"):
        (plain,), (started,) = (
            plan(world, tmp_path, [name], changes=changes) for changes in ((), ["training.init_from=runs/a"])
        )
        assert list_row_encoders(plain)
        assert list_row_encoders(started) == {}
