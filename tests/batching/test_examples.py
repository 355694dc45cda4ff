"""What a system reads of each clip: sound, features, what is missing, and what becomes of bad clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from abaw_emi.batching.examples import InputSpec
from abaw_emi.batching.inputs import read_inputs
from abaw_emi.core.errors import CorpusError, EmiError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.reader import FrameLimits
from abaw_emi.training.data import read_training_data
from tests.foreign_data import write_data

SPEC = InputSpec(uses_audio=True, max_seconds=12.0, names=("vit", "gte"), limits=(FrameLimits(most=600),) * 2)
IDS = [f"{number:05}" for number in range(6)]
QUIET = Reporter(quiet=True)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """Six clips: 1 without vit, 2 without gte, 3 without sound, 4 without any of them, 5 broken."""
    folder = DataFolder(write_data(tmp_path / "data", train=6, valid=2, test=1), tmp_path / "features")
    for name, missing in (("vit", (1, 4)), ("gte", (2, 4))):
        (folder.features / name).mkdir(parents=True)
        for number in set(range(6)) - set(missing):
            array = np.full((20 + number, 3), number, np.float32)
            np.save(folder.features / name / f"{number:05}.npy", array)
    (folder.features / "vit" / "00005.npy").write_bytes(b"no array")
    for number in (3, 4):
        (folder.root / "audio" / f"{number:05}.wav").unlink()
    return folder


def test_all_that_is_bad_is_named_together(data: DataFolder) -> None:
    (data.root / "audio" / "00000.wav").write_bytes(b"no sound")
    with pytest.raises(EmiError) as caught:
        read_inputs(data, IDS, SPEC, QUIET)
    assert "00000.wav" in str(caught.value)
    assert "00005.npy" in str(caught.value)


def test_a_clip_that_has_nothing_is_named(data: DataFolder) -> None:
    (data.features / "vit" / "00005.npy").unlink()
    with pytest.raises(
        EmiError, match=r"1 of 6 clips: nothing to predict from: 00004; expected sound or vit"
    ):
        read_inputs(data, IDS, SPEC, QUIET)


def test_bad_clips_are_left_out_and_what_others_are_missing_is_listed(data: DataFolder) -> None:
    inputs = read_inputs(data, IDS, replace(SPEC, on_bad="skip"), QUIET)
    assert inputs.skipped == ("00004", "00005")
    assert [example.filename for example in inputs.examples] == IDS[:4]
    assert inputs.missing == {"sound": ["00003"], "vit": ["00001"], "gte": ["00002"]}
    assert inputs.widths == {"vit": 3, "gte": 3}
    assert [example.audio is None for example in inputs.examples] == [False, False, False, True]
    assert [list(example.features) for example in inputs.examples[:3]] == [["vit", "gte"], ["gte"], ["vit"]]
    assert inputs.examples[3].samples == 400
    assert len({example.content_hash for example in inputs.examples}) == 4


def test_without_an_encoder_no_sound_is_read_and_features_give_the_length(data: DataFolder) -> None:
    (data.root / "audio" / "00000.wav").write_bytes(b"no sound")
    spec = replace(SPEC, uses_audio=False, names=("gte",), limits=SPEC.limits[:1])
    inputs = read_inputs(data, ["00000", "00003"], spec, QUIET)
    assert [example.samples for example in inputs.examples] == [20 * 320, 23 * 320]
    assert inputs.missing == {}


def test_a_folder_that_no_clip_has_is_named(data: DataFolder) -> None:
    spec = replace(SPEC, names=("gte", "faces"), on_bad="skip")
    with pytest.raises(
        CorpusError,
        match=r"feature folder faces: no clip to train on or to validate on has any; .*abaw-emi extract",
    ):
        read_training_data(data, spec, QUIET)


def test_nothing_is_counted_where_no_clip_is_read(
    data: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of valid, where it is trained on."""
    read_inputs(data, ["00000"], SPEC, Reporter())
    assert "of 1 clips: sound 1, vit 1, gte 1" in capsys.readouterr().err
    read_inputs(data, [], SPEC, Reporter())
    assert "clips" not in capsys.readouterr().err


def test_files_that_are_not_read_are_told_where_clips_lack_features(data: DataFolder) -> None:
    (data.features / "vit" / "00000.npy").rename(data.features / "vit" / "00000.mp4.npy")
    reporter = Reporter(quiet=True)
    read_inputs(data, ["00000", "00002", "00003"], SPEC, reporter)
    assert f"{data.features / 'vit'}: holds 1 file not read, such as 00000.mp4.npy" in str(
        reporter.warnings[-1]
    )
    spec = replace(SPEC, uses_audio=False, names=("vit",), limits=SPEC.limits[:1])
    with pytest.raises(
        EmiError, match=r"nothing to predict from: 00000; expected vit of each; .*00000\.mp4\.npy"
    ):
        read_inputs(data, ["00000"], spec, QUIET)
