from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig
from abaw_emi.config.presets import PRESETS, find_preset
from abaw_emi.config.read import change_config, format_config, read_config
from abaw_emi.config.run import DataConfig, RunConfig, TrainingConfig
from abaw_emi.core.errors import ConfigError, UsageError

SPECIAL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    return RunConfig(
        data=DataConfig(max_seconds=draw(st.floats(0.025, 1e6))),
        model=ModelConfig(
            backbone=draw(SPECIAL),
            revision=draw(SPECIAL),
            freeze_encoder=draw(st.booleans()),
            lstm=draw(st.booleans()),
            lstm_layers=draw(st.integers(1, 9)),
            lstm_dropout=draw(st.floats(0, 0.99)),
        ),
        training=TrainingConfig(
            epochs=draw(st.integers(1, 999)),
            learning_rate=draw(st.floats(1e-12, 10)),
            seed=draw(st.integers(0, 2**32)),
            precision=draw(st.sampled_from(["auto", "fp32", "bf16", "fp16"])),
        ),
    )


@given(config=configs())
@settings(max_examples=60, deadline=None)
def test_run_toml_reads_back_as_the_run_that_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, config: RunConfig
) -> None:
    path = tmp_path_factory.getbasetemp() / "run.toml"
    path.write_bytes(format_config(config).encode())
    assert read_config(path) == config


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_passes_the_check_at_the_door(tmp_path: Path, preset: RunConfig) -> None:
    path = tmp_path / "run.toml"
    path.write_text(format_config(preset))
    assert read_config(path) == preset


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["training.loss=mse+gate"], "needs a gate: set model.fusion.gate = true"),
        (["training.loss=gate", "model.fusion.gate=true"], "'gate' trains no intensities"),
        (["model.fusion.gate=true", "model.fusion.kind=mean"], "for fusion with one head"),
    ],
)
def test_a_gate_that_has_no_loss_or_no_head_is_refused(changes: list[str], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        change_config(RunConfig(), changes)


def test_the_tables_and_keys_that_others_rely_on_are_there() -> None:
    values = tomllib.loads(format_config(RunConfig()))
    assert set(values) == {"data", "model", "training"}
    assert values["data"]["max_seconds"] == 12.0
    assert {key: values["training"][key] for key in ("epochs", "batch_size", "learning_rate")} == {
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 1e-4,
    }
    assert isinstance(values["training"]["patience"], int)


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 3\n")
    assert read_config(path) == RunConfig(training=TrainingConfig(epochs=3))
    path.write_text("")
    assert read_config(path) == RunConfig()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[training]\nepoch = 3\n", "training.epoch: no such key"),
        ("[trainin]\nepochs = 3\n", "trainin: no such key"),
        ("[model.logmel]\nmels = 3\n", "model.logmel.mels: no such key"),
        ("[training]\nepochs = 0\n", "training.epochs: 0"),
        ("[training]\nepochs = 1.5\n", "training.epochs: 1.5"),
        ("[training]\nepochs = 'many'\n", "training.epochs: 'many'"),
        ("[training]\nlearning_rate = 0\n", "training.learning_rate: 0"),
        ("[training]\nlearning_rate = nan\n", "training.learning_rate: nan"),
        ("[training]\nlearning_rate = inf\n", "training.learning_rate: inf"),
        ("[training]\npatience = -1\n", "training.patience: -1"),
        ("[training]\nprecision = 'fp8'\n", "training.precision: 'fp8'"),
        ("[data]\nmax_seconds = 0.02\n", "data.max_seconds: 0.02"),
        ("[model]\nlstm_dropout = 1\n", "model.lstm_dropout: 1"),
        ("[model]\nlstm = false\nglobal_vector = false\n", "model: global_vector and lstm are both off"),
        ("[model]\nencoder = 'logmel'\n", "model: vad_head needs a pretrained"),
        ("training = 3\n", "training: 3"),
        (f"[model]\nbackbone = 0x{'9' * 5_000}\n", "model.backbone: an integer of thousands of digits"),
        (f"[training]\nepochs = {2**63}\n", "training.epochs: an integer of more than 64 bits"),
        (f"[training]\nseed = {2**63}\n", "training.seed: an integer of more than 64 bits"),
        (f"[training]\nepochs = '{'x' * 5_000}'\n", f"training.epochs: '{'x' * 199}...: Input should be"),
    ],
)
def test_an_impossible_file_is_refused_by_key_and_value(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}, {where}")
    assert "\n" not in str(caught.value)


def test_all_problems_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[data]\nmax_seconds = -1\n[training]\nepochs = 0\nspeed = 9\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    keys = [problem.where.rpartition(", ")[2] for problem in caught.value.problems]
    assert keys == ["data.max_seconds", "training.epochs", "training.speed"]


def test_all_parts_that_do_not_go_together_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="vad_head needs") as found:
        ModelConfig(encoder="none", features=(FeatureConfig(name="vit"),), pad_seconds=1.0, lstm=False)
    assert str(found.value).endswith("; pad_seconds is for an encoder that is trained")


@pytest.mark.parametrize(
    "content",
    [
        b"epochs = ",
        b"[training",
        b"\xff\xfe",
        b"a = 1\na = 2\n",
        b"a = " + b"[" * 5_000 + b"]" * 5_000,
        b"a = " + b"9" * 5_000,
    ],
    ids=lambda content: content[:9].decode(errors="replace"),
)
def test_what_is_no_toml_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: not readable as TOML"):
        read_config(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="is a folder; expected a TOML file"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("training.epochs=3", RunConfig(training=TrainingConfig(epochs=3))),
        (" training.epochs = 3 ", RunConfig(training=TrainingConfig(epochs=3))),
        ("training.learning_rate=3e-5", RunConfig(training=TrainingConfig(learning_rate=3e-5))),
        ("training.precision=bf16", RunConfig(training=TrainingConfig(precision="bf16"))),
        ("model.lstm=false", RunConfig(model=ModelConfig(lstm=False))),
        (
            "model.backbone=facebook/wav2vec2-base",
            RunConfig(model=ModelConfig(backbone="facebook/wav2vec2-base")),
        ),
        ("data.max_seconds=6", RunConfig(data=DataConfig(max_seconds=6.0))),
    ],
)
def test_one_key_is_changed_and_nothing_else(change: str, expected: RunConfig) -> None:
    assert change_config(RunConfig(), [change]) == expected


def test_later_changes_win_and_the_preset_itself_stays_as_it_is() -> None:
    before = replace(find_preset("tiny"))
    changed = change_config(
        find_preset("tiny"), ["training.epochs=3", "model.logmel.layers=2", "training.epochs=4"]
    )
    assert (changed.training.epochs, changed.model.logmel.layers) == (4, 2)
    assert find_preset("tiny") == before


@pytest.mark.parametrize(
    "change",
    [
        "epochs=3",
        "training.epochs",
        "training",
        "training=3",
        "training.epoch=3",
        "model.logmel=3",
        "",
        "=",
        "a.b.c.d=1",
    ],
)
def test_a_change_of_no_known_key_is_wrong_usage_that_names_the_known_ones(change: str) -> None:
    with pytest.raises(UsageError, match=r"not KEY=VALUE of a known key; (did you mean|abaw-emi options)"):
        change_config(RunConfig(), [change])


@pytest.mark.parametrize(
    "change", ["training.epochs=0", "training.epochs=many", "training.epochs=", "model.encoder=x"]
)
def test_an_impossible_value_is_wrong_usage_that_names_the_key(change: str) -> None:
    with pytest.raises(UsageError, match=f"^--set, {change.partition('=')[0]}: "):
        change_config(RunConfig(), [change])


def test_an_unknown_preset_is_wrong_usage_that_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no preset 'papper'; did you mean paper\?"):
        find_preset("papper")


def test_the_presets_differ_from_the_paper_where_their_sources_do() -> None:
    paper = find_preset("paper")
    assert paper == RunConfig()
    assert find_preset("paper-dropout") == replace(paper, model=replace(paper.model, lstm_dropout=0.1))
    released = find_preset("released").training
    assert (released.patience, released.clip_grad_value, released.precision) == (0, 100.0, "fp16")


def test_the_next_number_adds_a_feature_and_needs_its_name() -> None:
    changes = ["model.features.0.pooling=last", "model.features.0.name=faces", "model.features.1.name=words"]
    features = change_config(RunConfig(), changes).model.features
    assert [(feature.name, feature.pooling) for feature in features] == [("faces", "last"), ("words", "mean")]
    with pytest.raises(UsageError, match=r"model\.features\.0\.name"):
        change_config(RunConfig(), ["model.features.0.pooling=last"])
    with pytest.raises(UsageError, match=r"model\.features\.1\.name=words: not KEY=VALUE of a known key"):
        change_config(RunConfig(), ["model.features.1.name=words"])


def test_a_feature_goes_by_the_name_of_its_folder_too() -> None:
    both = change_config(RunConfig(), ["model.features.0.name=faces", "model.features.1.name=words"])
    first, second = change_config(both, ["model.features.words.rate=0.5"]).model.features
    assert (first.rate, second.rate) == (1.0, 0.5)
    with pytest.raises(UsageError, match=r"model\.features\.word\.rate=0\.5: not KEY=VALUE of a known key"):
        change_config(both, ["model.features.word.rate=0.5"])


def test_the_earlier_name_of_the_encoder_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[model]\nencoder = "wav2vec2"\n')
    assert read_config(path) == RunConfig()
    assert change_config(RunConfig(), ["model.encoder=wav2vec2"]).model.encoder == "pretrained"
