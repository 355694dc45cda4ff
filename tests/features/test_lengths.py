"""Training and audit judge by one rule whether features fit their clips' lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abaw_emi.audit.features import check_features
from abaw_emi.audit.files import Splits
from abaw_emi.core.progress import track_nothing
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_features
from abaw_emi.features.lengths import find_unusual_lengths
from abaw_emi.features.reader import FeatureCache

SECONDS = {f"{number:05}": 2.0 + number for number in range(9)}
RATE = 6


def frames_with(**changes: int) -> dict[str, int]:
    return {name: round(RATE * length) for name, length in SECONDS.items()} | {
        f"{int(name[1:]):05}": count for name, count in changes.items()
    }


@pytest.mark.parametrize(
    ("clip", "count", "unusual"),
    [
        # 36 frames are expected of clip 4: up to twice as many and 10 more, or half as many and 10 fewer.
        (4, 82, False),
        (4, 83, True),
        (4, 8, False),
        (4, 7, True),
        (0, 1, False),  # 12 are expected: too short a clip for there to be too few
        (0, 34, False),
        (0, 35, True),
    ],
)
def test_twice_or_half_the_frames_and_ten_to_spare(clip: int, count: int, unusual: bool) -> None:
    found = find_unusual_lengths(frames_with(**{f"n{clip}": count}), SECONDS)
    assert list(found.expected) == ([f"{clip:05}"] if unusual else [])
    assert found.rate == pytest.approx(RATE, abs=0.2)


def test_one_vector_a_clip_is_no_matter_of_time() -> None:
    assert not find_unusual_lengths(dict.fromkeys(SECONDS, 1), SECONDS).expected


def test_clips_of_unknown_length_are_not_judged() -> None:
    frames = frames_with(n4=500)
    assert not find_unusual_lengths(frames, {**SECONDS, "00004": None}).expected
    others = {name: length for name, length in SECONDS.items() if name != "00004"}
    assert not find_unusual_lengths(frames, others).expected


@pytest.mark.parametrize("count", [7, 8, 82, 83])
def test_training_warns_of_what_the_audit_finds(count: int, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data", tmp_path / "features")
    (data.root / "vit").mkdir(parents=True)
    for name, frames in frames_with(n4=count).items():
        np.save(data.root / "vit" / f"{name}.npy", np.ones((frames, 384), np.float32))
    files = {"vit": find_features(data.root, data.features, "vit")}
    read = FeatureCache(folder=tmp_path / "cache").read(list(SECONDS), files, seconds=SECONDS)
    warned = [str(warning) for warning in read.warnings if "another clip" in str(warning)]
    splits = Splits({"train": list(SECONDS)}, {})
    findings = check_features(data, splits, SECONDS, track_nothing)
    found = [finding for finding in findings if "feature lengths" in repr(finding)]
    assert bool(warned) == bool(found) == (count in (7, 83))
