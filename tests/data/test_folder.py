from __future__ import annotations

from pathlib import Path

import pytest

from abaw_emi.core.constants import Split
from abaw_emi.core.errors import CorpusError, TableError
from abaw_emi.data.folder import DataFolder

HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"


def write_split(data: Path, split: str, *ids: str, cells: str = "0,0,0,0,0,1") -> None:
    (data / f"{split}_split.csv").write_text("\n".join([HEADER, *(f"{name},{cells}" for name in ids)]) + "\n")


@pytest.fixture
def official(data: Path) -> Path:
    """Two clips of train, one of valid, and two more: one in the test package, one among the others."""
    write_split(data, "train", "1", "00000.0")
    write_split(data, "valid", "00002")
    for name in (
        "audio/00000.mp3",
        "audio/00001.mp3",
        "audio/00002.mp3",
        "raw/00004.mp4",
        "test_data/raw/00003.mp4",
    ):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return data


def test_ids_of_labelled_splits_come_from_their_files_in_the_files_order(official: Path) -> None:
    folder = DataFolder(official)
    assert folder.ids("train") == ["00001", "00000"]
    assert folder.ids("valid") == ["00002"]


def test_without_a_test_file_every_clip_that_is_not_labelled_is_of_test(official: Path) -> None:
    assert DataFolder(official).ids("test") == ["00003", "00004"]


def test_a_test_file_decides_what_is_of_test_also_without_labels(official: Path) -> None:
    (official / "test_split.csv").write_text("Filename\n17\n3\n")
    assert DataFolder(official).ids("test") == ["00017", "00003"]


def test_a_test_file_alone_is_enough_for_the_test_ids(data: Path) -> None:
    (data / "test_split.csv").write_text("Filename\n00017\n")
    assert DataFolder(data).ids("test") == ["00017"]


def test_a_test_file_may_carry_label_columns_of_any_content(official: Path) -> None:
    write_split(official, "test", "00009", cells=",,,,,")
    assert DataFolder(official).ids("test") == ["00009"]


def test_labels_of_several_splits_stand_one_after_the_other(official: Path) -> None:
    folder = DataFolder(official)
    assert folder.read_labels("train", "valid")["Filename"].to_list() == ["00001", "00000", "00002"]
    assert folder.read_labels("valid", "train")["Filename"].to_list() == ["00002", "00001", "00000"]


def test_problems_of_all_label_files_are_named_at_once(official: Path) -> None:
    write_split(official, "train", "00000", cells="0,0,0,0,0,2")
    write_split(official, "valid", "00002", cells="0,0,0,0,x,0")
    with pytest.raises(TableError) as caught:
        DataFolder(official).read_labels("train", "valid")
    assert [problem.where for problem in caught.value.problems] == [
        f"{official / 'train_split.csv'}, line 2, Joy",
        f"{official / 'valid_split.csv'}, line 2, Excitement",
    ]


def test_an_id_in_two_splits_is_refused_by_name(official: Path) -> None:
    write_split(official, "valid", "00002", "1")
    with pytest.raises(CorpusError, match=r"train_split\.csv and valid_split\.csv: 00001"):
        DataFolder(official).read_labels("train", "valid")
    write_split(official, "valid", "00002")
    (official / "test_split.csv").write_text("Filename\n00003\n2\n")
    with pytest.raises(
        CorpusError, match=r"test_split\.csv: 1 test ids are labelled in train or valid: 00002"
    ):
        DataFolder(official).ids("test")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_missing_data_folder_says_how_to_name_one(tmp_path: Path, split: Split) -> None:
    with pytest.raises(CorpusError, match=r"nowhere: does not exist.*--data.*ABAW_EMI_DATA"):
        DataFolder(tmp_path / "nowhere").ids(split)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_missing_label_file_is_named(official: Path, split: Split) -> None:
    (official / "valid_split.csv").unlink()
    with pytest.raises(TableError, match=r"valid_split\.csv: no such file"):
        DataFolder(official).ids(split)


def test_no_test_clip_says_what_would_make_some(official: Path) -> None:
    (official / "raw" / "00004.mp4").unlink()
    (official / "test_data" / "raw" / "00003.mp4").unlink()
    with pytest.raises(CorpusError, match=r"no test_split\.csv, and every clip stands in train or valid"):
        DataFolder(official).ids("test")


def test_a_test_file_without_rows_is_said_to_have_none(official: Path) -> None:
    (official / "test_split.csv").write_text("Filename\n")
    with pytest.raises(TableError, match=r"test_split\.csv: no rows"):
        DataFolder(official).ids("test")


def test_counts_that_are_not_the_official_ones_are_warned_of(official: Path) -> None:
    warnings = [str(warning) for warning in DataFolder(official).check_counts("train", "valid", "test")]
    assert warnings == [
        f"{official}, train: 2 clips; expected 8,072",
        f"{official}, valid: 1 clips; expected 4,588",
        f"{official}, test: 2 clips; expected 4,586",
    ]


def test_the_official_counts_give_no_warning(data: Path) -> None:
    write_split(data, "train", *map(str, range(8072)))
    write_split(data, "valid", *map(str, range(8072, 12660)))
    (data / "test_split.csv").write_text("Filename\n" + "\n".join(map(str, range(12660, 17246))) + "\n")
    assert DataFolder(data).check_counts("train", "valid", "test") == []
