"""`abaw-emi tables` without torch: what is listed, read and refused."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from abaw_emi.config.presets import PRESETS
from abaw_emi.config.read import change_config, format_config
from abaw_emi.config.run import RunConfig
from abaw_emi.data.folds import hold_out
from abaw_emi.data.provenance import Provenance, write_with_provenance
from tests.cli.conftest import EMOTIONS, Shell, problems, test_ids

TRAIN = frozenset(f"{i:05}" for i in range(5))
VALID = [f"{i:05}" for i in range(5, 17)]


BEGUN = "warning: runs: paper-seed1: begun there, and not finished; --runs runs goes on"


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    return replace(config, training=replace(config.training, seed=seed))


def draw(ids: list[str], seed: int) -> pl.DataFrame:
    cells = np.random.default_rng(seed).uniform(0, 1, (len(ids), 6)).astype(np.float32).astype(float)
    return pl.DataFrame({"Filename": ids, **dict(zip(EMOTIONS, cells.T, strict=True))})


def write_run(
    runs: Path,
    name: str,
    config: RunConfig,
    *,
    seed: int = 1,
    preset: str = "",
    predicts: list[str] | None = None,
    trained_on: frozenset[str] = TRAIN,
    finished: str | None = "2026-11-22T20:00:00+00:00",
    **record: Any,
) -> Path:
    """A run folder as `train` leaves it, as far as it is read without torch."""
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(format_config(with_seed(config, seed)))
    record |= {"preset": preset or name.rpartition("-seed")[0], "seed": seed, "finished": finished}
    (folder / "provenance.json").write_text(json.dumps({"weights_sha256": f"of {name}", **record}))
    if predicts:
        table = draw(predicts, seed + len(name))
        origin = Provenance(command="train", trained_on=trained_on, trained_on_complete=True)
        write_with_provenance(table, folder / "valid_predictions.csv", origin)
    return folder


@pytest.fixture
def runs(folder: Path) -> Path:
    """Two seeds of `gv` on valid, and `paper` half done."""
    runs = folder / "runs"
    for seed in (1, 2):
        write_run(runs, f"gv-seed{seed}", PRESETS["gv"], seed=seed, predicts=VALID)
    write_run(runs, "paper-seed1", PRESETS["paper"], finished=None)
    return runs


def row_of(done: Any, name: str) -> dict[str, Any]:
    (row,) = [row for row in json.loads(done.stdout)["rows"] if row["name"] == name]
    return dict(row)


def test_list_names_every_row_what_it_reads_and_how_to_get_it(shell: Shell, runs: Path) -> None:
    (runs.parent / "small").mkdir()
    (runs.parent / "data" / "audio").mkdir()
    for number in range(17):
        (runs.parent / "data" / "audio" / f"{number:05}.mp3").touch()
    hidden = {"HF_HUB_CACHE": str(runs.parent / "hub")}
    done = shell("tables", "--list", "--backbone", "xlsr=small", **hidden)
    assert problems(done, 0) == [BEGUN]
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    large = PRESETS["w2v2-gv"].model.backbone
    assert lines["gv"] == ["gv", "gv", "sound,", "audeering", "audeering", "finished"]
    assert lines["xlsr-gv"] == ["xlsr-gv", "xlsr-gv", "sound,", "small", "-", "not", "run"]
    assert lines["vision"] == ["vision", "vision", "vit", "vit", "not", "run"]
    assert lines["paper-trainval"][1:3] == ["paper", "--train-plus-val"]
    assert lines["other-faces"] == ["other-faces", "-", "-", "-", "no", "preset"]
    told = done.stdout.splitlines()
    assert (
        f"{large}: not on this machine; where there is a network: hf download {large}; or use a "
        "folder: --backbone w2v2-large=DIR (w2v2-gv)"
    ) in told
    (vit,) = [
        line for line in told if line.startswith("feature folder vit: no clip of train or valid has any")
    ]
    assert "put it into data/vit/ or features/vit/" in vit
    assert told[-2].startswith("presets of no row: released, ")
    assert told[-1] == "next: abaw-emi tables --backbone xlsr=small --table 2"


def test_list_as_json_tells_the_runs_there_are(shell: Shell, runs: Path) -> None:
    arguments = ("--list", "--table", "2", "--seeds", "1", "2", "--json", "--runs", "runs")
    done = shell("tables", *arguments)
    problems(done, 0)
    row = row_of(done, "gv")
    assert (row["state"], row["runs"]) == ("finished", ["runs/gv-seed1", "runs/gv-seed2"])
    assert row_of(done, "paper")["state"] == "unfinished"
    assert row_of(done, "gv-head")["state"] == "not run"
    assert "sound" in row["reads"]
    assert any("put the audio files into data/audio/" in text for text in row["problems"])
    told = json.loads(done.stdout)
    assert {row["table"] for row in told["rows"]} == {"2"}
    assert told["presets_of_no_row"]


def test_what_is_there_is_shown_and_nothing_is_run(shell: Shell, runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    done = shell("tables", "--table", "2", "--no-run", "--runs", "runs")
    assert problems(done, 0) == []
    lines = done.stdout.splitlines()
    (gv,) = [line.split() for line in lines if line.startswith("audeering: GV  ")]
    assert gv[2] == ".342"
    assert gv[-2:] == ["seed", "1"]
    assert [line.split()[-1] for line in lines if "LSTM, VAD" in line] == ["run", "unfinished"]
    assert "the official valid split has 4,588 clips: the scores are not comparable" in lines
    assert sorted(runs.rglob("*")) == before


def test_one_seed_has_exactly_the_numbers_of_score(shell: Shell, runs: Path) -> None:
    labels = "data/valid_split.csv"
    scored = json.loads(shell("score", str(runs / "gv-seed1/valid_predictions.csv"), labels, "--json").stdout)
    done = shell("tables", "--table", "2", "--no-run", "--json", "--only", "gv")
    problems(done, 0)
    measured = row_of(done, "gv")["measured"]
    assert measured["mean_pearson"] == pytest.approx(scored["mean_pearson"], abs=1e-12)
    assert measured["interval"] == pytest.approx(scored["interval"]["mean_pearson"], abs=1e-12)
    assert measured["pearson"] == pytest.approx(scored["pearson"], abs=1e-12)
    assert measured["signature"] == scored["signature"]
    assert (measured["n"], measured["on"], measured["spread"]) == (12, "valid", None)
    assert row_of(done, "gv")["difference"] == pytest.approx(scored["mean_pearson"] - 0.342)


def test_several_seeds_have_a_mean_a_spread_and_an_ensemble(shell: Shell, runs: Path) -> None:
    files = [str(runs / f"gv-seed{seed}" / "valid_predictions.csv") for seed in (1, 2)]
    problems(shell("ensemble", "--preds", *files, "--split", "valid", "--out", "both.csv"), 0)
    alone = [json.loads(shell("score", file, "data/valid_split.csv", "--json").stdout) for file in files]
    both = json.loads(shell("score", "both.csv", "data/valid_split.csv", "--json").stdout)
    done = shell(*shlex.split("tables --table 2 --no-run --json --only gv --seeds 1 2"))
    problems(done, 0)
    measured = row_of(done, "gv")["measured"]
    one, two = (result["mean_pearson"] for result in alone)
    assert measured["by_seed"] == pytest.approx({"1": one, "2": two})
    assert measured["mean_pearson"] == pytest.approx((one + two) / 2)
    assert measured["spread"] == pytest.approx(abs(one - two) / 2**0.5)
    assert measured["ensemble"] == pytest.approx(both["mean_pearson"])
    assert measured["ensemble_interval"] == pytest.approx(both["interval"]["mean_pearson"])
    low, high = measured["interval"]
    widths = [upper - lower for lower, upper in (result["interval"]["mean_pearson"] for result in alone)]
    assert low < measured["mean_pearson"] < high
    assert 0 < high - low < max(widths)  # errors of unlike runs cancel in their mean


def test_runs_of_another_recipe_are_refused_by_name(shell: Shell, runs: Path) -> None:
    done = shell(
        *shlex.split("tables --table 2 --no-run --set training.epochs=7 --only gv xlsr-gv --runs runs")
    )
    first, last = problems(done, 1)
    assert first == (
        "row gv, runs/gv-seed1: training.epochs is 30, not 7; expected the config of row gv; use the --set "
        "and --backbone that it was trained with, or another --runs"
    )
    assert last == "tables: 1 of 2 rows have no number: gv; the reasons are above, a line each"
    assert "refused" in done.stdout


def test_runs_of_tables_have_a_folder_of_their_own_and_finished_ones_of_train_are_used(
    shell: Shell, runs: Path
) -> None:
    done = shell("tables", "--list", "--table", "2", "--json")
    assert row_of(done, "gv")["runs"] == ["runs/gv-seed1"]
    assert row_of(done, "gv-head")["runs"] == ["tables/gv-head-seed1"]
    assert (row_of(done, "paper")["runs"], row_of(done, "paper")["state"]) == (
        ["tables/paper-seed1"],
        "not run",
    )
    assert problems(done, 0) == [BEGUN]
    write_run(runs.parent / "tables", "gv-seed1", PRESETS["gv"], finished=None)
    done = shell("tables", "--list", "--table", "2", "--json")
    assert row_of(done, "gv")["runs"] == ["tables/gv-seed1"]


def test_runs_made_with_the_same_settings_are_taken(shell: Shell, runs: Path) -> None:
    config = change_config(PRESETS["gv-head"], ["training.epochs=7", "model.backbone=small"])
    write_run(runs, "gv-head-seed1", config, predicts=VALID)
    arguments = (
        "tables --table 2 --no-run --json --only gv-head --set training.epochs=7 --backbone audeering=small"
    )
    done = shell(*shlex.split(arguments))
    assert problems(done, 0) == []
    assert row_of(done, "gv-head")["state"] == "finished"


def test_a_score_on_clips_seen_in_training_is_none(shell: Shell, runs: Path) -> None:
    seen = TRAIN | {VALID[3]}
    write_run(runs, "gv-head-seed1", PRESETS["gv-head"], predicts=VALID, trained_on=seen)
    done = shell("tables", "--table", "2", "--no-run", "--json", "--only", "gv-head")
    assert "SEEN IN TRAINING: 1 of its clips" in problems(done, 1)[0]
    row = row_of(done, "gv-head")
    assert (row["state"], row["measured"], row["difference"]) == ("refused", None, None)
    assert any("SEEN IN TRAINING" in text for text in json.loads(done.stdout)["problems"])


def test_runs_on_train_and_valid_have_no_number_but_that_of_folds(shell: Shell, runs: Path) -> None:
    everything = sorted(TRAIN | set(VALID))
    run = write_run(runs, "paper-trainval-seed1", PRESETS["paper"], preset="paper", train_plus_val=True)
    write_with_provenance(draw(VALID, 1), run / "valid_predictions.csv", Provenance(command="a stray file"))
    arguments = shlex.split("tables --table 1 --no-run --json --only paper-trainval")
    done = shell(*arguments)
    assert problems(done, 0) == []
    assert (row_of(done, "paper-trainval")["state"], row_of(done, "paper-trainval")["measured"]) == (
        "finished",
        None,
    )
    for fold in ("1/2", "2/2"):
        held_out = hold_out(everything, fold)
        write_run(
            runs,
            f"paper-trainval-fold{fold.replace('/', 'of')}-seed1",
            change_config(PRESETS["paper"], [f"data.fold={fold}"]),
            preset="paper",
            predicts=sorted(held_out),
            trained_on=frozenset(everything) - held_out,
            train_plus_val=True,
            fold=fold,
        )
    done = shell(*arguments)
    assert problems(done, 0) == []
    row = row_of(done, "paper-trainval")
    assert row["measured"]["n"] == len(everything)
    assert "2-fold runs of preset paper on train+val" in row["measured"]["on"]
    assert row["difference"] is None
    # Folds of another recipe say nothing of this one.
    toml = runs / "paper-trainval-fold1of2-seed1" / "run.toml"
    toml.write_text(toml.read_text().replace("epochs = 30", "epochs = 31"))
    done = shell(*arguments)
    assert any("training.epochs is 31, not 30; it is not counted" in line for line in problems(done, 0))
    assert row_of(done, "paper-trainval")["measured"] is None


def submit(shell: Shell, folder: Path, name: str, made_of: list[str], score: str) -> None:
    """A submission made of these runs, with the organisers' score of it."""
    members = [{"run": run, "weights_sha256": f"of {run}"} for run in made_of]
    record = Provenance(
        command="ensemble", split="test", members=members, trained_on=TRAIN, trained_on_complete=True
    )
    table = draw(test_ids(), len(name) + int(1000 * float(score)))
    write_with_provenance(table, folder / f"{name}.csv", record)
    problems_of = shell("submit", "--preds", f"{name}.csv", "--name", name)
    assert problems_of.returncode == 0, problems_of.stderr
    assert shell("ledger", "set", name, "--test-score", score).returncode == 0


def test_the_score_on_test_is_of_a_submission_of_exactly_the_rows_runs(
    shell: Shell, folder: Path, runs: Path
) -> None:
    write_run(runs, "paper-dropout-seed1", PRESETS["paper-dropout"], predicts=VALID)
    write_run(runs, "paper-dropout-seed2", PRESETS["paper-dropout"], seed=2, predicts=VALID)
    submit(shell, folder, "both", ["paper-dropout-seed1", "paper-dropout-seed2"], ".47")
    submit(shell, folder, "alone", ["paper-dropout-seed1"], ".46")
    submit(shell, folder, "mixed", ["paper-dropout-seed1", "gv-seed1"], ".99")
    for seeds, expected in ((["1"], ("alone", 0.46)), (["1", "2"], ("both", 0.47))):
        done = shell(*shlex.split("tables --table 1 --no-run --json --only paper-dropout --seeds"), *seeds)
        assert problems(done, 0) == []
        row = row_of(done, "paper-dropout")
        assert (row["tested"]["submission"], row["tested"]["mean_pearson"]) == expected
        assert row["test_difference"] == pytest.approx(expected[1] - 0.465)


def test_every_form_goes_to_stdout(shell: Shell, runs: Path) -> None:
    base = shlex.split("tables --table 2 --no-run --only gv --format")
    assert shell(*base, "markdown").stdout.splitlines()[2].startswith("| System | Published |")
    assert r"\toprule" in shell(*base, "latex").stdout
    (row,) = csv.DictReader(shell(*base, "csv").stdout.splitlines())
    assert (row["row"], row["published_valid"]) == ("gv", "0.342")
    assert row_of(shell(*base, "json"), "gv")["state"] == "finished"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "tables: no --table; expected one of 1, 2, text, or --list"),
        (["--list", "--only", "gv"], "no --table"),
        (["--table", "3"], "3"),
        (
            ["--table", "2", "--only", "gv", "papper"],
            "--only: no row 'papper' of table 2; did you mean paper?",
        ),
        (
            ["--table", "2", "--set", "training.epoch=3"],
            "--set training.epoch=3: not KEY=VALUE of a known key",
        ),
        (["--table", "2", "--set", "training.epochs=0"], "training.epochs: 0"),
        (
            ["--table", "2", "--backbone", "small"],
            "expected NAME=ID_OR_DIR, NAME one of audeering, w2v2-large, xlsr",
        ),
        (["--table", "2", "--no-run", "--format", "html"], "html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2(shell: Shell, arguments: list[str], expected: str) -> None:
    done = shell("tables", *arguments, COLUMNS="200")
    assert expected in "\n".join(problems(done, 2))
    assert done.stdout == ""


def test_running_needs_the_extra_and_says_so(shell_without_torch: Shell, folder: Path) -> None:
    (line,) = problems(shell_without_torch("tables", "--table", "2"), 1)
    assert line.endswith("pip install 'abaw-emi[train]'")
    assert not (folder / "runs").exists()
