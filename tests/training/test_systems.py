"""Every preset, on sound and feature folders with gaps: it trains, predicts, and says what it lacks."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.presets import PRESETS
from abaw_emi.config.read import change_config
from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import OnBadClip
from abaw_emi.core.errors import ClipError, CorpusError, RunError, UsageError, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.tables import read_predictions
from abaw_emi.evaluation.score import score
from abaw_emi.inference.members import Members, predict_runs
from abaw_emi.inference.predictor import load
from abaw_emi.models.hub import find_backbone
from abaw_emi.models.weight_files import read_weights
from abaw_emi.models.weights import load_backbone, make_model
from abaw_emi.runs.run import Run
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train, try_out
from abaw_emi.training.verify_resume import verify_resume
from tests.backbones import write_backbone
from tests.foreign_data import EMOTIONS, write_data
from tests.inference.test_predict import Counting
from tests.small_encoders import write_audio, write_text
from tests.small_models import CPU

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = Reporter(quiet=True)
FOLDERS = {
    "vit": (384, 6.4),
    "wav2vec2": (768, 50.0),
    "gte": (24, 3.0),
    "vit-huge": (20, 6.4),
    "vit-base": (12, 6.4),
    "wavlm-large": (16, 50.0),
}
OFFICIAL = ("vit", "wav2vec2")
SAYINGS = ("i am so happy for you", "we did it", "", "ha ha ha", "happy")
FACELESS, WORDLESS, SOUNDLESS = "00003", "00004", "00022"
"""Of train twice, and of test; the soundless one is known by its features alone."""


def write_features(data: DataFolder) -> None:
    """Features of each clip that carry its labels, for 26 clips; some clips lack some."""
    rng = np.random.default_rng(5)
    for folder, (width, rate) in FOLDERS.items():
        for number in range(26):
            if (folder.partition("-")[0], f"{number:05}") in {("vit", FACELESS), ("gte", WORDLESS)}:
                continue
            frames = rng.normal(size=(max(1, int(rate * rng.uniform(0.3, 1))), width)).astype(np.float32)
            frames[:, :6] += number % 6
            official = data.root / ("test_data" if number >= 20 else ".")
            root = official if folder in OFFICIAL else data.features
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / f"{number:05}.npy", frames)
    (data.features / "text").mkdir()
    for number in range(26):
        if f"{number:05}" != WORDLESS:
            (data.features / "text" / f"{number:05}.txt").write_text(SAYINGS[number % 5], encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    root = tmp_path_factory.mktemp("systems")
    folder = DataFolder(write_data(root / "data"), root / "features")
    write_features(folder)
    (folder.root / "test_data" / "audio" / f"{SOUNDLESS}.wav").unlink()
    ids = "".join(f"{number:05}\n" for number in range(20, 26))
    (folder.root / "test_split.csv").write_text(f"Filename\n{ids}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "small")


def plan_for(preset: str, backbone: Path, out: Path, *changes: str) -> Plan:
    config = change_config(PRESETS[preset], ["training.epochs=1", "training.precision=fp32"])
    text = out / "words"
    features = []
    for feature in config.model.features:
        if feature.backbone:
            write_text(text)
            features.append(replace(feature, backbone=str(text), max_tokens=16))
        else:
            features.append(feature)
    config = replace(config, model=replace(config.model, backbone=str(backbone), features=tuple(features)))
    return Plan(config=change_config(config, changes), preset=preset, seeds=[1], out=out)


def predict_test(run: Run, data: DataFolder, reporter: Reporter = QUIET) -> Members:
    return predict_runs([run], data, "test", replace(CPU, reporter=reporter))


def uses_sound_alone(config: RunConfig) -> bool:
    return not config.model.features


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_predicts(
    preset: str, data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    if preset == "whisper":  # which reads spectrograms of its own
        backbone = write_audio(tmp_path / "whisper", "whisper")
    plan = plan_for(preset, backbone, tmp_path)
    alone = dict.fromkeys(("vision", "baseline-vision", "vision-within-train"), FACELESS)
    alone["text"] = WORDLESS
    lacking = preset in alone
    if lacking:  # one modality is all that they have: a clip without it is a bad clip
        with pytest.raises(
            ClipError, match=rf"1 of \d+ clips: nothing to predict from: {alone[preset]}; expected (vit|text)"
        ):
            train(plan, data, QUIET)
        plan = replace(plan, on_bad_clip="skip")
    (run,) = train(plan, data, QUIET)
    if uses_sound_alone(plan.config):
        with pytest.raises(ClipError, match=SOUNDLESS):
            predict_test(run, data)
        return
    (member,) = predict_test(run, data).members
    assert member.table["Filename"].to_list() == [f"{number:05}" for number in range(20, 26)]
    values = member.table.select(EMOTIONS).to_numpy()
    assert np.isfinite(values).all()
    assert np.ptp(values, axis=0).min() > 0
    record = run.read_provenance()
    folders = {feature.name for feature in plan.config.model.features}
    expected = {
        **{name: [FACELESS] for name in ("vit", "vit-base", "vit-huge")},
        **{name: [WORDLESS] for name in ("gte", "text")},
    }
    assert record["missing"] == ({} if lacking else {k: v for k, v in expected.items() if k in folders})
    assert record["skipped"] == ([alone[preset]] if lacking else [])
    assert ("missing" in member.record) == (plan.config.model.encoder != "none")
    (again,) = predict_test(run, data).members  # from the store
    assert again.table.equals(member.table)


FAMILIES = ("hubert", "wavlm", "data2vec", "wav2vec2-bert", "whisper")


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_of_speech_encoders_trains_and_predicts(
    kind: str, freeze: bool, data: DataFolder, tmp_path: Path
) -> None:
    backbone = write_audio(tmp_path / "backbone", kind)
    freezing = f"model.freeze_encoder={str(freeze).lower()}"
    with pytest.raises(WeightsError, match=r"no VAD head.*--set model\.vad_head=false"):
        train(plan_for("paper", backbone, tmp_path / "runs"), data, QUIET)
    plan = plan_for("paper", backbone, tmp_path / "runs", "model.vad_head=false", freezing)
    (run,) = train(plan, data, QUIET)
    written = read_predictions(run.valid_predictions)
    (member,) = predict_runs([run], data, "valid", CPU).members
    assert _largest_difference(member.table, written) < 1e-6
    ids = written["Filename"].to_list()
    table = load(run.folder).predict([data.root / "audio" / f"{name}.wav" for name in ids])
    assert _largest_difference(table, written) < 1e-6


TOP = ("model.vad_head=false", "model.tuning.train_layers=1", "model.tuning.keep_lower=true")


@pytest.mark.parametrize("kind", ["wav2vec2-group", *FAMILIES])
def test_a_run_of_top_layers_is_the_same_with_and_without_what_is_kept_below(
    kind: str, data: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    backbone = write_audio(tmp_path / "backbone", kind)
    changes = (*TOP, "training.epochs=2", "training.batch_size=4", "training.warmup_epochs=0.0")
    reporter = Counting()
    (run,) = train(plan_for("paper", backbone, tmp_path / "kept", *changes), data, reporter)
    assert sum("states below the last layer of " in line for line in reporter.said) == 1
    said = [line for line in reporter.said if line.startswith("what lies below the last layer runs once")]
    assert len(said) == 1
    assert ("LayerDrop" in said[0]) == (kind != "whisper")
    with monkeypatch.context() as patch:
        patch.setattr("abaw_emi.training.trainer.find_fixed_part", lambda model, *, training: None)
        (whole,) = train(plan_for("paper", backbone, tmp_path / "whole", *changes), data, QUIET)
    for left, right in zip(read_losses(run), read_losses(whole), strict=True):
        assert left == pytest.approx(right, rel=0, abs=1e-5)
    weights, others = (load_file(each.weights_file) for each in (run, whole))
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=1e-4)
    pretrained = find_backbone(str(backbone))
    first = make_model(ModelConfig(vad_head=False), pretrained)
    load_backbone(first, pretrained)
    assert first.encoder is not None
    before = first.encoder.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, weights[f"encoder.{name}"])}
    assert moved
    assert {first.encoder.find_level(name) for name in moved} == {3}
    written = read_predictions(run.valid_predictions)
    (member,) = predict_runs([run], data, "valid", CPU).members
    assert _largest_difference(member.table, written) < 1e-6
    ids = written["Filename"].to_list()
    table = load(run.folder).predict([data.root / "audio" / f"{name}.wav" for name in ids])
    assert _largest_difference(table, written) < 1e-6


def read_losses(run: Run) -> list[float]:
    lines = map(json.loads, run.metrics_file.read_text().splitlines())
    return [line["train_loss"] for line in lines if "train_loss" in line]


@pytest.mark.parametrize("preset", ["winner-2025", "winner-2026", "text"])
def test_a_run_with_a_text_encoder_predicts_words_that_are_given_to_it(
    preset: str, data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    plan = replace(plan_for(preset, backbone, tmp_path), on_bad_clip="skip")
    (run,) = train(plan, data, QUIET)
    written = read_predictions(run.valid_predictions)
    (member,) = predict_runs([run], data, "valid", CPU).members
    assert _largest_difference(member.table, written) < 1e-6
    ids = written["Filename"].to_list()
    features: dict[str, list[object]] = {"text": [SAYINGS[int(name) % 5] for name in ids]}
    faces = {"winner-2025": "vit-huge", "winner-2026": "vit-base"}.get(preset)
    if faces is not None:
        features[faces] = [data.features / faces / f"{name}.npy" for name in ids]
    sounds = [data.root / "audio" / f"{name}.wav" for name in ids] if faces is not None else ()
    table = load(run.folder).predict(sounds, features=features)
    assert _largest_difference(table, written) < 1e-6
    other = load(run.folder).predict(sounds, features={**features, "text": ["we did it"] * len(ids)})
    assert _largest_difference(other, written) > 1e-6


def test_a_text_encoder_that_is_frozen_stays_and_each_part_learns_at_its_own_rate(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    frozen = plan_for("winner-2026", backbone, tmp_path / "a", "model.features.1.freeze=true")
    slow = plan_for(
        "winner-2026", backbone, tmp_path / "b", "model.features.1.rate=1e-9", "training.encoder_rate=1e-9"
    )
    published = load_file(tmp_path / "a" / "words" / "model.safetensors")
    for plan, tolerance in ((frozen, 0.0), (slow, 1e-7)):
        (run,) = train(plan, data, QUIET)
        moved = load_file(run.weights_file)
        for name, weight in published.items():
            if not name.startswith("pooler."):
                torch.testing.assert_close(moved[f"text.model.{name}"], weight, rtol=0, atol=tolerance)


def test_branches_start_from_runs_of_one_modality_each(
    data: DataFolder, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (words,) = train(replace(plan_for("text", backbone, tmp_path), on_bad_clip="skip"), data, QUIET)
    sound_only = plan_for("paper", backbone, tmp_path, "model.global_vector=false")
    (sound,) = train(replace(sound_only, on_bad_clip="skip"), data, QUIET)
    joined = plan_for(
        "winner-2025",
        backbone,
        tmp_path,
        f'training.init_branches=["{words.folder}", "{sound.folder}"]',
        "training.learning_rate=1e-12",
    )
    (run,) = train(joined, data, Reporter())
    said = capsys.readouterr().err
    assert f"text from {words.folder}" in said
    assert f"sound from {sound.folder}" in said
    found = load_file(run.weights_file)
    for start, prefixes in ((words, ("text.",)), (sound, ("encoder.", "vad_head.", "lstm."))):
        weights = {k: w for k, w in load_file(start.weights_file).items() if k.startswith(prefixes)}
        assert len(weights) > 10
        for name, weight in weights.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-9)
    assert [each["run"] for each in run.read_provenance()["init_branches"]] == [words.name, sound.name]
    faces = plan_for("baseline-av", backbone, tmp_path / "f", f'training.init_branches=["{words.folder}"]')
    with pytest.raises(RunError, match="its branches are text; expected one of wav2vec2, vit"):
        train(faces, data, QUIET)


def test_transcripts_that_are_missing_cut_or_damaged_are_named(
    data: DataFolder, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = DataFolder(data.root, tmp_path / "features")
    with pytest.raises(
        CorpusError, match=r"text: no clip to train on or to validate on has any; .*abaw-emi transcribe"
    ):
        train(replace(plan_for("text", backbone, tmp_path), on_bad_clip="skip"), other, QUIET)
    (other.features / "text").mkdir(parents=True)
    (other.features / "text" / "00001.vtt").write_text("WEBVTT", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"text: no clip .*holds 1 file not read, such as 00001\.vtt"):
        train(replace(plan_for("text", backbone, tmp_path), on_bad_clip="skip"), other, QUIET)
    plan = plan_for("text", backbone, tmp_path, "model.features.0.max_tokens=4")
    train(replace(plan, on_bad_clip="skip"), data, Reporter())
    assert "transcripts have more than 4 tokens: " in capsys.readouterr().err
    plan = plan_for("text", backbone, tmp_path / "long", "model.features.0.max_tokens=17")
    with pytest.raises(WeightsError, match=r"max_tokens: 17; expected at most 16"):
        train(plan, data, QUIET)
    shutil.copytree(data.features / "text", tmp_path / "features" / "text", dirs_exist_ok=True)
    (tmp_path / "features" / "text" / "00001.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ClipError, match=r"00001\.txt: is no UTF-8 text"):
        train(plan_for("text", backbone, tmp_path / "bad"), other, QUIET)


def test_whisper_does_not_read_more_than_30_s(data: DataFolder, tmp_path: Path) -> None:
    backbone = write_audio(tmp_path / "backbone", "whisper")
    plan = plan_for("paper", backbone, tmp_path, "model.vad_head=false", "data.max_seconds=31")
    with pytest.raises(UsageError, match=r"data\.max_seconds: 31; expected at most 30"):
        train(plan, data, QUIET)


@pytest.mark.exact
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_of_speech_encoders_resumes_exactly(kind: str, data: DataFolder, tmp_path: Path) -> None:
    backbone = write_audio(tmp_path / "backbone", kind)
    assert verify_resume(plan_for("paper", backbone, tmp_path, "model.vad_head=false"), data, QUIET).identical


def test_a_finished_system_predicts_valid_as_its_training_did(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    (run,) = train(plan_for("text-vision-audio", backbone, tmp_path), data, QUIET)
    (member,) = predict_runs([run], data, "valid", CPU).members
    written = read_predictions(run.valid_predictions)
    np.testing.assert_allclose(
        member.table.select(EMOTIONS).to_numpy(), written.select(EMOTIONS).to_numpy(), rtol=0, atol=1e-6
    )


def test_coverage_is_told(
    data: DataFolder, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = train(plan_for("text-vision-audio", backbone, tmp_path), data, QUIET)
    predict_test(run, data, Reporter())
    said = capsys.readouterr().err
    assert "of 6 clips: sound 5, vit 6, gte 6" in said
    assert f"1 of 6 clips: no sound: {SOUNDLESS}" in said


def test_a_run_of_frozen_sound_and_features_encodes_sound_once_and_scores_the_same(
    data: DataFolder, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("model.freeze_encoder=true", "model.features.0.hidden_size=5")
    (kept,) = train(plan_for("vision-audio", backbone, tmp_path / "kept", *changes), data, QUIET)
    monkeypatch.setattr("abaw_emi.training.trainer.encode_examples", lambda *_, **__: None)
    (anew,) = train(plan_for("vision-audio", backbone, tmp_path / "anew", *changes), data, QUIET)
    tables = [read_predictions(run.valid_predictions).select(EMOTIONS).to_numpy() for run in (kept, anew)]
    np.testing.assert_allclose(tables[0], tables[1], rtol=0, atol=1e-5)


def test_a_folder_of_another_width_is_refused_by_name(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    (run,) = train(plan_for("zhang", backbone, tmp_path), data, QUIET)
    other = tmp_path / "features"
    (other / "gte").mkdir(parents=True)
    for number in range(20, 26):
        np.save(other / "gte" / f"{number:05}.npy", np.ones((3, 25), np.float32))
    with pytest.raises(CorpusError, match="gte: 25 wide; expected 24, as zhang-seed1 was trained"):
        predict_test(run, DataFolder(data.root, other))


def test_a_modality_that_no_test_clip_has_is_refused_and_of_few_recorded(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    (run,) = train(plan_for("vision", backbone, tmp_path, "model.features.1.name=gte"), data, QUIET)
    other = DataFolder(data.root, tmp_path / "features")
    shutil.copytree(data.features / "gte", other.features / "gte")
    for number in range(21, 26):
        (other.features / "gte" / f"{number:05}.npy").unlink()
    (member,) = predict_test(run, other).members
    assert member.record["missing"] == {"gte": ["00021-00025"]}
    (other.features / "gte" / "00020.npy").unlink()
    for on_bad in get_args(OnBadClip):
        with pytest.raises(
            CorpusError, match=r"folder gte: no clip of test has any; put features into .*gte"
        ):
            predict_runs([run], other, "test", CPU, on_bad=on_bad)


def test_a_modality_that_no_clip_to_validate_on_has_is_refused(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    other = DataFolder(data.root, tmp_path / "features")
    shutil.copytree(data.features / "gte", other.features / "gte")
    for clip in data.ids("valid"):
        (other.features / "gte" / f"{clip}.npy").unlink()
    with pytest.raises(CorpusError, match=r"gte: no clip to validate on has any; "):
        train(plan_for("vision", backbone, tmp_path, "model.features.1.name=gte"), other, QUIET)


def test_a_folder_that_is_not_there_is_told_before_training(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        CorpusError,
        match=r"feature folder gte: no clip to train on or to validate on has any; .*abaw-emi extract",
    ):
        train(plan_for("zhang", backbone, tmp_path), DataFolder(data.root, tmp_path / "none"), QUIET)
    assert not (tmp_path / "zhang-seed1").exists()


def test_a_changed_feature_file_is_another_data_fingerprint(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    plan = plan_for("baseline-av", backbone, tmp_path)
    (run,) = train(plan, data, QUIET)
    before = run.read_provenance()["data"]["fingerprint"]
    path = data.root / "wav2vec2" / "00000.npy"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-4] + np.float32(3).tobytes())
        (again,) = train(replace(plan, out=tmp_path / "again"), data, QUIET)
    finally:
        path.write_bytes(content)
    assert again.read_provenance()["data"]["fingerprint"] != before


@pytest.mark.exact
def test_feature_systems_can_be_tried_out_and_resume_exactly(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    plan = plan_for("zhang", backbone, tmp_path)
    assert try_out(replace(plan, limit=4), data, QUIET)["run"] > 0
    assert verify_resume(plan, data, QUIET).identical


@pytest.mark.exact
def test_a_tuned_encoder_resumes_exactly(data: DataFolder, backbone: Path, tmp_path: Path) -> None:
    dials = ("reset_layers=1", "train_layers=1", "hidden_dropout=0.2", "attention_dropout=0.2")
    changes = ["model.pooling=attention", *(f"model.tuning.{dial}" for dial in dials)]
    changes += ["model.vad_head=false", "model.layer_weights=true"]
    assert verify_resume(plan_for("paper", backbone, tmp_path, *changes), data, QUIET).identical


@pytest.mark.exact
def test_a_system_that_runs_both_ways_with_a_ramped_loss_resumes_exactly(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    assert verify_resume(plan_for("casia-2026", backbone, tmp_path), data, QUIET).identical


@pytest.mark.exact
@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm"])
def test_a_run_of_top_layers_resumes_exactly(kind: str, data: DataFolder, tmp_path: Path) -> None:
    backbone = write_audio(tmp_path / "backbone", kind)
    assert verify_resume(plan_for("paper", backbone, tmp_path, *TOP), data, QUIET).identical


@pytest.mark.exact
def test_adapters_resume_exactly(data: DataFolder, backbone: Path, tmp_path: Path) -> None:
    changes = ["model.tuning.lora_rank=2", "model.tuning.lora_dropout=0.1", "training.ema_decay=0.9"]
    assert verify_resume(plan_for("paper", backbone, tmp_path, *changes), data, QUIET).identical


def test_a_run_with_adapters_is_saved_merged_and_loads_without_peft(
    data: DataFolder, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["model.tuning.lora_rank=2", "training.batch_size=4", "training.warmup_epochs=0.0"]
    (run,) = train(plan_for("paper", backbone, tmp_path, *changes), data, QUIET)
    weights = load_file(run.weights_file)
    assert not [name for name in weights if "lora" in name or "base_layer" in name]
    published = read_weights(backbone)
    moved = {
        name
        for name, value in weights.items()
        if name.startswith("encoder.wav2vec2.encoder.layers.")
        and not torch.equal(value, published[name.removeprefix("encoder.")])
    }
    assert {name.rpartition("attention.")[2] for name in moved} == {"q_proj.weight", "v_proj.weight"}
    monkeypatch.setitem(sys.modules, "peft", None)
    (name, *_), table = data.ids("valid"), read_predictions(run.valid_predictions)
    found = load(run.folder, device="cpu", quiet=True).predict([data.root / "audio" / f"{name}.wav"])
    expected = table.filter(table["Filename"] == name).select(EMOTIONS).to_numpy()
    np.testing.assert_allclose(found.select(EMOTIONS).to_numpy(), expected, rtol=0, atol=1e-5)
    truth = data.read_labels("valid").filter(pl.col("Filename").is_in(table["Filename"].to_list()))
    before = run.read_provenance()["valid"]["mean_pearson"]  # of the model with adapters beside its weights
    assert score(truth, table, resamples=0).mean_pearson == pytest.approx(before, abs=1e-4)


@pytest.mark.exact
def test_a_gated_system_resumes_exactly(data: DataFolder, backbone: Path, tmp_path: Path) -> None:
    changes = ["training.clip_weights=sqrt-raters", "model.fusion.gate=true"]
    changes += ["training.loss=0.3*gate+0.2*mse+0.5*pearson"]
    assert verify_resume(plan_for("winner-2026", backbone, tmp_path, *changes), data, QUIET).identical


@pytest.mark.exact
@pytest.mark.parametrize("preset", ["winner-2025", "winner-2026"])
def test_systems_with_a_text_encoder_resume_exactly(
    preset: str, data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    assert verify_resume(plan_for(preset, backbone, tmp_path), data, QUIET).identical


def test_a_run_starts_from_another_of_the_same_system(
    data: DataFolder, backbone: Path, tmp_path: Path
) -> None:
    (first,) = train(plan_for("baseline-av", backbone, tmp_path / "first"), data, QUIET)
    plan = plan_for(
        "baseline-av",
        backbone,
        tmp_path / "second",
        f'training.init_from="{first.folder}"',
        "training.learning_rate=1e-9",
    )
    (second,) = train(plan, data, QUIET)
    tables = [read_predictions(run.valid_predictions) for run in (first, second)]
    assert _largest_difference(*tables) < 1e-4
    config = json.loads((second.folder / "config.json").read_text())
    assert config["widths"] == [768, 384]


def _largest_difference(one: pl.DataFrame, other: pl.DataFrame) -> float:
    return float(np.abs(one.select(EMOTIONS).to_numpy() - other.select(EMOTIONS).to_numpy()).max())
