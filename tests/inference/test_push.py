"""`load(run).push_to_hub(...)`: what goes to the hub, and that it comes back as the same run."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from abaw_emi.config.model import ModelConfig
from abaw_emi.config.parts import FeatureConfig
from abaw_emi.config.run import RunConfig, TrainingConfig
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import RunError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.inference.predict import describe_files
from abaw_emi.inference.predictor import Predictor, load
from abaw_emi.runs.card import write_card
from abaw_emi.runs.publish import stage_run
from abaw_emi.runs.run import Run
from abaw_emi.training.checkpoint import save_model
from abaw_emi.training.initial_weights import find_initial_weights
from abaw_emi.training.plan import Plan
from abaw_emi.training.train import train
from tests.backbones import small_config, write_backbone
from tests.small_encoders import write_text
from tests.small_models import make_clip

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = Reporter(quiet=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the hub: what is uploaded lies there; requests are in `requests.json`."""
    root = tmp_path / "hub"
    root.mkdir()

    class Api:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, **options: Any) -> None:
            if repo_id == "owner/forbidden":
                raise ConnectionError("403 Forbidden")
            (root / "requests.json").write_text(json.dumps([repo_id, self.token, options]))

        def upload_folder(self, *, repo_id: str, folder_path: str, **options: Any) -> SimpleNamespace:
            shutil.copytree(folder_path, root / repo_id)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/{options['revision']}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    return root


@pytest.fixture
def run(data_root: Path, tmp_path: Path) -> Run:
    """A run whose config and record name folders of this machine."""
    private = tmp_path / "private"
    backbone = write_backbone(private / "small", small_config(_name_or_path=str(private / "before")))
    model = ModelConfig(backbone=str(backbone))
    plan = Plan(
        config=RunConfig(model=model, training=TrainingConfig(epochs=1)),
        preset="small",
        seeds=[1],
        out=tmp_path / "runs",
    )
    (first,) = train(plan, DataFolder(data_root), QUIET)
    training = TrainingConfig(epochs=1, init_from=str(first.folder), init_branches=(str(first.folder),))
    second = Plan(
        config=RunConfig(model=model, training=training), preset="small", seeds=[1], out=private / "runs"
    )
    (run,) = train(second, DataFolder(data_root), QUIET)
    return run


def predict(predictor: Predictor) -> np.ndarray:
    table = predictor.predict([make_clip(0, 9_000).waveform], sample_rate=16_000)
    return table.select(EMOTIONS).to_numpy()


def test_what_is_pushed_is_the_run_without_paths_metrics_and_state(
    run: Run, hub: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    predictor = load(run.folder, device="cpu", quiet=True)
    url = predictor.push_to_hub("owner/name", revision="side", token="secret")
    assert url == "https://hub/owner/name/side"
    asked = json.loads((hub / "requests.json").read_text())
    assert asked == ["owner/name", "secret", {"private": True, "exist_ok": True}]
    pushed = hub / "owner" / "name"
    assert sorted(path.name for path in pushed.rglob("*")) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "provenance.json",
        "run.toml",
    ]
    for path in pushed.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    same = ("README.md", "model.safetensors", "preprocessor_config.json")
    assert all((pushed / name).read_bytes() == (run.folder / name).read_bytes() for name in same)
    record = json.loads((pushed / "provenance.json").read_text())
    assert not {"hardware", "git_commit", "started"} & set(record)
    assert record["trained_on"] == run.read_provenance()["trained_on"]
    assert record["backbone"]["name"] == "small"
    config = asdict(Run(pushed).read_config())
    assert config["training"]["init_from"] == "small-seed1"
    assert config["model"]["backbone"] == "small"
    np.testing.assert_array_equal(predict(load(pushed, device="cpu", quiet=True)), predict(predictor))
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_where_links_are_not_allowed_the_weights_are_copied(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    stage_run(run, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == run.weights_file.read_bytes()


def test_a_run_with_a_text_encoder_brings_its_tokenizer(hub: Path, tmp_path: Path) -> None:
    words = write_text(tmp_path / "private" / "words")
    feature = FeatureConfig(name="text", backbone=str(words), max_tokens=8)
    config = RunConfig(model=ModelConfig(encoder="none", vad_head=False, features=(feature,)))
    start, run = find_initial_weights(config), Run(tmp_path / "run")
    save_model(start.make_model(config, {}, QUIET), run.folder)
    start.tokenizer.save_pretrained(run.folder)
    path = run.folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name_or_path": str(words)}))
    run.write_config(config)
    record = {"version": "0", "text_encoder": {"name": str(words), "revision": "main", "commit": None}}
    run.write_provenance({**record, **describe_files(run), "finished": "now"})
    write_card(run)
    predictor = load(run.folder, device="cpu", quiet=True)
    predictor.push_to_hub("owner/name")
    pushed = hub / "owner" / "name"
    assert (pushed / "tokenizer.json").read_bytes() == run.tokenizer_file.read_bytes()
    for file in pushed.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    said = {"text": ["we did it", "ha ha"]}
    expected = predictor.predict(features=said).select(EMOTIONS).to_numpy()
    found = load(pushed, device="cpu", quiet=True).predict(features=said).select(EMOTIONS).to_numpy()
    np.testing.assert_array_equal(found, expected)
    assert abs(expected[0] - expected[1]).max() > 1e-4


def test_what_cannot_be_pushed_is_named_and_nothing_is_uploaded(run: Run, hub: Path) -> None:
    predictor = load(run.folder, device="cpu", quiet=True)
    with pytest.raises(RunError, match=r"^owner/forbidden: the run cannot be uploaded: 403 Forbidden; see "):
        predictor.push_to_hub("owner/forbidden")
    card = run.card_file.read_bytes()
    run.card_file.unlink()
    with pytest.raises(RunError, match=r"README\.md: no such file; expected the model card"):
        predictor.push_to_hub("owner/name")
    run.card_file.write_bytes(card)
    run.config_file.write_text(run.config_file.read_text() + "\n")
    with pytest.raises(RunError, match=r"run\.toml: SHA-256"):
        predictor.push_to_hub("owner/name")
    assert list(hub.iterdir()) == []
