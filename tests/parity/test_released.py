from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from abaw_emi.batching.examples import Example
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import RunError, WeightsError
from abaw_emi.data.folder import DataFolder
from abaw_emi.inference.members import predict_runs
from abaw_emi.inference.predict import load_run, predict
from abaw_emi.runs.run import find_run
from abaw_emi.training.import_weights import import_run
from tests.backbones import backbone_weights, small_config
from tests.command import run_command
from tests.parity.released_forward import released_forward
from tests.small_models import CPU, LONGEST, from_waveform, make_clip, make_example

CONFIG = small_config()
TOLERANCE = 1e-4

# (samples, level in dB): one frame, the last length with one, the first with two, the shortest official
# clip (0.064 s), quiet ones, and up to 12 s. More than plan_groups, so groups of mixed lengths come about.
SOUNDS = [
    (400, -10.0),
    (719, -10.0),
    (720, -10.0),
    (1_024, -10.0),
    (1_024, -40.0),
    (1_024, -60.0),
    (16_000, -10.0),
    (16_000, -40.0),
    (16_000, -60.0),
    (80_000, -60.0),
    (110_000, -20.0),
    (LONGEST - 1, -40.0),
    (LONGEST, -10.0),
]

Weights = dict[str, Tensor]


def released_weights(seed: int = 0) -> Weights:
    """A state dict under the released code's names, all random."""
    weights = {f"audio_model.{name}": value for name, value in backbone_weights(CONFIG, seed).items()}
    width = CONFIG["hidden_size"] + CONFIG["num_labels"]
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    for layer in (0, 1):
        for kind in ("ih", "hh"):
            weights[f"lstm_audio.weight_{kind}_l{layer}"] = draw(4 * width, width)
            weights[f"lstm_audio.bias_{kind}_l{layer}"] = draw(4 * width)
    weights |= {
        "fusion_model.0.weight": draw(2 * width, 2 * width) / 2,
        "fusion_model.0.bias": draw(2 * width),
    }
    weights |= {"fusion_model.2.weight": draw(6, 2 * width), "fusion_model.2.bias": draw(6)}
    return weights


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A backbone's folder; importing needs its config alone."""
    folder = tmp_path / "backbone"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def bring_in(weights: Weights, backbone: Path, name: str = "run") -> Path:
    """The run folder that a checkpoint of `weights` is imported to."""
    file = backbone.parent / f"{name}.pth"
    torch.save(weights, file)
    return import_run(file, str(backbone), "main", backbone.parent / name).folder


def predict_all(run: Path, clips: list[Example]) -> np.ndarray:
    table = predict(load_run(find_run(run), CPU.device), clips, CPU)
    assert table["Filename"].to_list() == [clip.filename for clip in clips]
    return table.select(EMOTIONS).to_numpy()


def expect_all(weights: Weights, clips: list[Example]) -> np.ndarray:
    return np.stack([released_forward(weights, CONFIG, clip.audio.waveform).numpy() for clip in clips])


def shell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def test_predictions_equal_the_released_forward_clip_by_clip(backbone: Path) -> None:
    weights = released_weights()
    clips = [
        make_example(number, samples, decibels=decibels) for number, (samples, decibels) in enumerate(SOUNDS)
    ]
    expected = expect_all(weights, clips)
    found = predict_all(bring_in(weights, backbone), clips)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    # The comparison can tell clips apart: they differ a thousand times more than the tolerance.
    distances = np.abs(expected[:, None] - expected[None]).max(2)
    assert distances[~np.eye(len(clips), dtype=bool)].min() > 1_000 * TOLERANCE


def test_a_quiet_clip_is_not_a_loud_one(backbone: Path) -> None:
    loud, quiet = make_example(0, 16_000), make_example(0, 16_000)
    quiet = from_waveform(1, quiet.audio.waveform * np.float32(10**-2.5))  # from -10 to -60 dB
    found = predict_all(bring_in(released_weights(), backbone), [loud, quiet])
    assert np.abs(found[0] - found[1]).max() > 10 * TOLERANCE


def test_old_and_new_names_of_the_weight_norm_give_the_same_run(backbone: Path) -> None:
    old = released_weights()
    new_names = {
        "weight_g": "parametrizations.weight.original0",
        "weight_v": "parametrizations.weight.original1",
    }
    new = {}
    for name, value in old.items():
        parent, _, last = name.rpartition(".")
        new[f"{parent}.{new_names[last]}" if last in new_names else name] = value
    assert len(set(new) - set(old)) == 2
    runs = [bring_in(old, backbone, "old"), bring_in(new, backbone, "new")]
    assert (runs[0] / "model.safetensors").read_bytes() == (runs[1] / "model.safetensors").read_bytes()
    clips = [make_example(0, 5_000)]
    np.testing.assert_array_equal(predict_all(runs[0], clips), predict_all(runs[1], clips))


def test_weights_saved_from_data_parallel_give_the_same_run(backbone: Path) -> None:
    plain = released_weights()
    runs = [
        bring_in(plain, backbone, "plain"),
        bring_in({f"module.{name}": value for name, value in plain.items()}, backbone, "parallel"),
    ]
    assert (runs[0] / "model.safetensors").read_bytes() == (runs[1] / "model.safetensors").read_bytes()


def test_other_weights_give_other_predictions(backbone: Path) -> None:
    clips = [make_example(0, 5_000)]
    found = [predict_all(bring_in(released_weights(seed), backbone, f"seed{seed}"), clips) for seed in (0, 1)]
    assert np.abs(found[0] - found[1]).max() > 1_000 * TOLERANCE


def test_half_precision_weights_are_read_as_they_are(backbone: Path) -> None:
    weights = {name: value.half() for name, value in released_weights().items()}
    clips = [make_example(0, 5_000)]
    found = predict_all(bring_in(weights, backbone), clips)
    np.testing.assert_allclose(found, expect_all(weights, clips), rtol=0, atol=TOLERANCE)


def test_imported_from_the_shell_audio_files_give_what_the_released_forward_gives(
    backbone: Path, tmp_path: Path
) -> None:
    weights = released_weights()
    run_here = bring_in(weights, backbone, "here")
    out = tmp_path / "from_shell"
    done = shell("import-weights", tmp_path / "here.pth", "--backbone", backbone, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "model.safetensors").read_bytes() == (run_here / "model.safetensors").read_bytes()
    assert find_run(out).read_provenance()["imported_from"]["file"] == "here.pth"

    # 16-bit files of 0.064 s, 5 s at -40 dB, 12 s, and two that are cut at 12 s.
    data = tmp_path / "data"
    (data / "audio").mkdir(parents=True)
    lengths = {0: 1_024, 1: 80_000, 2: LONGEST, 3: LONGEST + 320, 4: 15 * 16_000}
    rows = ["Filename," + ",".join(EMOTIONS)]
    for number, samples in lengths.items():
        clip = make_clip(number, samples, decibels=-40.0 if number == 1 else -20.0)
        soundfile.write(data / "audio" / f"{clip.filename}.wav", clip.waveform, 16_000, subtype="PCM_16")
        rows.append(clip.filename + ",0" * 6)
    (data / "valid_split.csv").write_text("\n".join(rows) + "\n")
    run = find_run(out)
    members = predict_runs([run], DataFolder(data), "valid", CPU)
    (member,) = members.members
    table = member.table
    assert table["Filename"].to_list() == [f"{number:05}" for number in lengths]
    read = [soundfile.read(data / "audio" / f"{number:05}.wav")[0] for number in lengths]
    expected = np.stack([released_forward(weights, CONFIG, samples).numpy() for samples in read])
    np.testing.assert_allclose(table.select(EMOTIONS).to_numpy(), expected, rtol=0, atol=TOLERANCE)


def refuse(weights: object, backbone: Path) -> str:
    """The message with which a checkpoint is refused; no run folder may be left."""
    file = backbone.parent / "released.pth"
    torch.save(weights, file)
    return refuse_file(file, backbone)


def refuse_file(file: Path, backbone: Path) -> str:
    before = sorted(backbone.parent.iterdir())
    with pytest.raises(WeightsError) as caught:
        import_run(file, str(backbone), "main", backbone.parent / "run")
    assert sorted(backbone.parent.iterdir()) == before
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_every_single_weight_is_missed_by_name(backbone: Path) -> None:
    weights = released_weights()
    newer = {
        ".weight_g": ".parametrizations.weight.original0",
        ".weight_v": ".parametrizations.weight.original1",
    }
    for gone in weights:
        message = refuse({name: value for name, value in weights.items() if name != gone}, backbone)
        name = gone
        for old, new in newer.items():
            name = name.replace(old, new)
        assert f"missing weights (1): {name}" in message


@pytest.mark.parametrize("stray", ["lstm_vision.weight_ih_l0", "fusion_model.1.weight", "model.weight"])
def test_a_weight_that_the_released_model_does_not_have_is_named(backbone: Path, stray: str) -> None:
    assert stray in refuse(released_weights() | {stray: torch.zeros(2, 2)}, backbone)


def test_a_stray_weight_under_a_known_prefix_is_named(backbone: Path) -> None:
    assert "weight_ih_l2" in refuse(
        released_weights() | {"lstm_audio.weight_ih_l2": torch.zeros(140, 35)}, backbone
    )


@pytest.mark.parametrize(
    "name",
    [
        "fusion_model.2.weight",
        "lstm_audio.bias_hh_l1",
        "audio_model.classifier.out_proj.bias",
        "audio_model.wav2vec2.encoder.layers.1.attention.q_proj.weight",
    ],
)
def test_a_weight_of_another_shape_is_named_with_both_shapes(backbone: Path, name: str) -> None:
    weights = released_weights()
    expected = tuple(weights[name].shape)
    weights[name] = torch.cat([weights[name], weights[name]])
    message = refuse(weights, backbone)
    assert name in message
    assert str(tuple(weights[name].shape)) in message
    assert str(expected) in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(backbone: Path, value: float) -> None:
    weights = released_weights()
    weights["lstm_audio.weight_hh_l0"][3, 4] = value
    assert "lstm_audio.weight_hh_l0: a value that is not finite" in refuse(weights, backbone)


def test_all_that_is_wrong_is_told_at_once(backbone: Path) -> None:
    weights = released_weights()
    del weights["fusion_model.0.bias"]
    weights["fusion_model.2.bias"] = torch.zeros(7)
    weights["lstm_audio.bias_ih_l0"][0] = float("nan")
    message = refuse(weights, backbone)
    assert all(
        name in message for name in ("fusion_model.0.bias", "fusion_model.2.bias", "lstm_audio.bias_ih_l0")
    )


class Bomb:
    """Makes a folder when it is unpickled by a reader that runs code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(backbone: Path, tmp_path: Path, as_zip: bool) -> None:
    target = tmp_path / "executed"
    file = tmp_path / "evil.pth"
    if as_zip:
        torch.save(released_weights() | {"lstm_audio.extra": Bomb(target)}, file)
    else:
        file.write_bytes(pickle.dumps(Bomb(target)))
    assert "names posix.mkdir, which is neither imported nor called" in refuse_file(file, backbone)
    assert not target.exists()
    # The bomb is a real one.
    if as_zip:
        torch.load(file, weights_only=False)
    else:
        pickle.loads(file.read_bytes())
    assert target.is_dir()


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(backbone: Path, tmp_path: Path, as_zip: bool, kept: float) -> None:
    file = tmp_path / "cut.pth"
    torch.save(released_weights(), file, _use_new_zipfile_serialization=as_zip)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    refuse_file(file, backbone)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_bytes_of_any_kind_are_refused(backbone: Path, tmp_path: Path) -> None:
    file = tmp_path / "noise.pth"
    rng = np.random.default_rng(0)
    for _ in range(200):
        file.write_bytes(rng.bytes(int(rng.integers(0, 60))))
        refuse_file(file, backbone)


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], {"state_dict": {"a": torch.zeros(2)}}, {0: torch.zeros(2)}, torch.zeros(3), {}],
)
def test_a_file_that_holds_no_released_state_dict_is_refused(backbone: Path, content: object) -> None:
    refuse(content, backbone)


def test_a_missing_checkpoint_is_told(backbone: Path, tmp_path: Path) -> None:
    assert "No such file" in refuse_file(tmp_path / "nowhere.pth", backbone)


def test_a_checkpoint_of_another_backbone_is_refused(backbone: Path) -> None:
    (backbone / "config.json").write_text(json.dumps(small_config(num_hidden_layers=3)))
    assert "layers.2." in refuse(released_weights(), backbone)


def test_a_run_that_is_there_is_left_alone(backbone: Path) -> None:
    run = bring_in(released_weights(), backbone)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(RunError, match="already there"):
        bring_in(released_weights(1), backbone)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_an_imported_run_records_the_file_and_no_training_ids(backbone: Path) -> None:
    run = find_run(bring_in(released_weights(), backbone))
    assert run.trained_on is None
    assert run.read_config().model.backbone == str(backbone)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "provenance.json",
        "run.toml",
    ]


def test_an_imported_run_whose_weights_were_changed_is_refused(backbone: Path) -> None:
    run = find_run(bring_in(released_weights(), backbone))
    content = bytearray(run.weights_file.read_bytes())
    content[-1] ^= 1
    run.weights_file.write_bytes(bytes(content))
    with pytest.raises(RunError, match="SHA-256"):
        load_run(run, CPU.device)


def test_an_import_that_breaks_off_leaves_nothing_behind(
    backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr("abaw_emi.training.import_weights.hash_file", fail)
    with pytest.raises(OSError, match="no space left"):
        bring_in(released_weights(), backbone)
    assert sorted(path.name for path in backbone.parent.iterdir()) == ["backbone", "run.pth"]


def test_what_a_killed_import_left_does_not_get_into_the_next_run(backbone: Path) -> None:
    left = backbone.parent / ".run.partial"
    left.mkdir()
    (left / "metrics.jsonl").write_text("{}\n")
    run = bring_in(released_weights(), backbone)
    assert not (run / "metrics.jsonl").exists()
    assert not left.exists()
