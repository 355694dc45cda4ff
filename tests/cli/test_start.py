from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
import typer

from abaw_emi.cli.app import app
from abaw_emi.cli.evaluation import score as score_commands
from abaw_emi.cli.prediction import ensemble
from abaw_emi.cli.submission import submit
from abaw_emi.cli.training import runs, train
from abaw_emi.config.run import RunConfig
from abaw_emi.evaluation import compare as comparison
from abaw_emi.evaluation import score as scoring
from abaw_emi.submission import write
from tests.cli.conftest import Shell, environment, problems

COMMANDS = (
    "demo",
    "audit",
    "presets",
    "options",
    "pipeline",
    "prepare",
    "sweep",
    "search",
    "train",
    "tables",
    "faces",
    "extract",
    "transcribe",
    "predict",
    "ensemble",
    "score",
    "compare",
    "submit",
    "check",
    "ledger",
    "report",
    "import-weights",
)
HEAVY = ("torch", "torchaudio", "transformers", "pandas", "pandera", "scipy", "matplotlib")


def default(function: Any, parameter: str) -> Any:
    return inspect.signature(function).parameters[parameter].default


def test_importing_the_command_line_and_every_help_load_no_heavy_library() -> None:
    code = f"""
import contextlib, io, json, sys
from abaw_emi.cli import main
loaded = {{}}
for command in ("", *{COMMANDS!r}):
    sys.argv = ["abaw-emi", *filter(None, [command]), "--help"]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    listed = listed if loaded else sorted(sys.modules)  # by the first, the list of all commands
    loaded[command] = [code, len(text.getvalue()), sorted(set(sys.modules) & set({HEAVY!r}))]
print(json.dumps([listed, loaded]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    listed, loaded = json.loads(done.stdout)
    assert set(loaded) == {"", *COMMANDS}
    assert not {"polars", "pydantic"} & set(listed)
    for command, (code, length, heavy) in loaded.items():
        assert (code, heavy) == (0, []), command
        assert length > 300


def test_every_command_of_the_contract_is_listed(shell: Shell) -> None:
    done = shell("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout


def test_the_help_of_train_says_where_presets_and_keys_are_listed(shell: Shell) -> None:
    text = shell("train", "--help", COLUMNS="200").stdout
    assert "abaw-emi presets lists the presets, abaw-emi options every key of --set" in text


def test_brackets_in_examples_are_shown(shell: Shell) -> None:
    assert "pip install 'abaw-emi[faces]'" in shell("faces", "--help", COLUMNS="120").stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "--lr", "1e-4"], "options of a run are set with --set training.learning_rate=VALUE"),
        (["train", "--batch-size", "8"], "--set training.batch_size=VALUE"),
        (["train", "--epoch", "3"], "--set training.epochs=VALUE"),
        (["train", "--seeds", "1,2"], "values are separated by spaces: 1 2"),
        (["train", "--seeds", "1-3"], "values are separated by spaces: 1 2 3"),
        (["train", "--seeds", "1-90"], "values are separated by spaces: $(seq 1 90)"),
        (["train", "tiny"], "name a preset with --preset"),
        (["pipeline", "paper"], "name presets with --presets"),
        (["audit", "data"], "name the data folder with --data"),
        (["ledger", "set", "submission-1", ".554"], "enter the score with --test-score"),
        (["ledger", "set", "submission-1", "--test-score", "0,554"], "with a decimal point: 0.554"),
        (["submit", "predictions/ensemble-test.csv"], "name the predictions with --preds"),
        (["submit", "--ckpts", "runs/a"], "combine runs with abaw-emi ensemble --ckpts RUN..., and name the"),
        (["score", "a", "b", "c"], "name rivals with --against, or use abaw-emi compare PREDS PREDS LABELS"),
        (["score", "--preds=a"], "predictions come first, then labels, without an option: PREDS LABELS"),
        (["compare", "a", "b", "--labels", "c"], "and the label file last, without an option"),
        (["runs", "--runs", "x"], "name the folder alone: abaw-emi runs FOLDER"),
        (["ensemble", "--runs", "runs"], "name the runs with --ckpts, as in --ckpts runs/*"),
        (["ensemble", "runs/a", "runs/b"], "name the runs with --ckpts, and CSV files with --preds"),
        (["train", "--set", "lr=3"], "abaw-emi options lists them"),
        (["train", "--set", "learning_rate=3"], "did you mean training.learning_rate?"),
        (["train", "--preset", "xyz"], "abaw-emi presets lists them"),
    ],
    ids=" ".join,
)
def test_what_was_probably_meant_is_said(shell: Shell, arguments: list[str], hint: str) -> None:
    done = shell(*arguments, COLUMNS="200")
    assert done.returncode == 2
    assert hint in " ".join(done.stderr.split())


def test_defaults_of_the_command_line_are_those_of_the_library() -> None:
    score, compare = score_commands.score, score_commands.compare
    assert default(score, "bootstrap") == default(scoring.score, "resamples") == scoring.DEFAULT_RESAMPLES
    assert default(score, "seed") == default(scoring.score, "seed") == scoring.DEFAULT_SEED
    for command, function in ((score, scoring.score), (compare, comparison.compare)):
        assert default(command, "bootstrap") == default(function, "resamples")
        assert default(command, "interval") == default(function, "method")
        assert default(command, "permutations") == default(function, "permutations")
        assert default(command, "seed") == default(function, "seed")
    assert default(submit.submit, "bounds") == default(write.write_submission, "bounds") == "auto"
    assert default(submit.submit, "name") == default(write.write_submission, "name")
    assert default(submit.submit, "fill") is default(write.write_submission, "fill") is None
    assert default(runs.import_weights, "revision") == RunConfig().model.revision


def test_default_paths_are_those_of_the_contract() -> None:
    assert str(default(submit.submit, "preds")) == "predictions/ensemble-test.csv"
    assert str(default(submit.submit, "out")) == "submissions"
    assert str(default(train.train, "out")) == "runs"
    assert str(default(submit.check, "data")) == "data"
    assert default(submit.check, "kind") == "submission"
    assert default(ensemble.ensemble, "split") == "test"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["score", "--no-such-option", "a", "b"], "--no-such-option"),
        (["score", "data/valid_split.csv"], "abaw-emi score data/valid_split.csv LABELS"),
        (["score", "a", "b", "--bootstrap", "-1"], "--bootstrap"),
        (["score", "a", "b", "--interval", "normal"], "normal"),
        (["score", "a", "b", "--against", "c", "a"], "given twice: a"),
        (["compare", "a", "labels"], "1 file of predictions; expected two at least, then the label file"),
        (["check", "x", "--kind", "zip"], "zip"),
        (["no-such-command"], "no-such-command"),
        (["predict", "--ckpt", "x", "--split", "dev"], "dev"),
        (["submit", "--fill", "zeros"], "zeros"),
        (["ensemble"], "--ckpts RUN... or --preds CSV..."),
        (["ensemble", "--preds", "a.csv", "b.csv", "a.csv"], "given twice: a.csv"),
        (["train", "--preset", "papper"], "did you mean paper?"),
        (["train", "--set", "training.epoch=3"], "--set training.epoch=3: not KEY=VALUE of a known key"),
        (["train", "--set", "training.epochs=0"], "--set, training.epochs: 0"),
        (["train", "--resume", "--overwrite"], "both --resume and --overwrite"),
        (["train", "--preset", "tiny", "--config", "x.toml"], "both --preset and --config"),
        (["train", "--limit", "0"], "--limit"),
        (["train", "--seeds", str(2**63)], "--seeds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2_and_names_what_is_wrong(
    shell: Shell, arguments: list[str], expected: str
) -> None:
    done = shell(*arguments, COLUMNS="200")
    assert expected in "\n".join(problems(done, 2))
    assert done.stdout == ""


def test_every_command_takes_json_and_debug_after_its_name() -> None:
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    commands |= commands["ledger"].commands
    assert {*COMMANDS, "set"} <= set(commands)
    for name, command in commands.items():
        given = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--debug"} <= given, name


def test_wrong_usage_is_one_json_object_too(shell: Shell) -> None:
    done = shell("score", "--no-such-option", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"problems": ["wrong usage, see stderr"]}
