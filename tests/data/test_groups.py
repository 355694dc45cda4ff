from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from abaw_emi.core.errors import ScoreError, TableError
from abaw_emi.data.groups import number_groups, read_groups
from abaw_emi.evaluation.score import score
from tests.simulated import draw_labels, name, predict


def test_groups_are_read_with_ids_in_any_spelling(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("Filename,speaker\n12,anna\n00013, ben\n14.0,anna\n")
    table = read_groups(path)
    assert table.rows() == [("00012", "anna"), ("00013", "ben"), ("00014", "anna")]
    assert number_groups(table, ["00014", "00013", "00012"]).tolist() == [0, 1, 0]


def test_every_problem_of_a_group_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("Filename,speaker\n1,a\nx,a\n1,b\n2,\n3,a,b\n")
    with pytest.raises(TableError) as caught:
        read_groups(path)
    assert [line.removeprefix(str(path)) for line in str(caught.value).splitlines()] == [
        ", line 6: 3 values (decimal commas?); expected 2, as in the header",
        ", line 3, Filename: 'x' is not a clip id; expected an id of up to 5 digits, such as 00042",
        ", line 4, Filename: 00001 appears again; it is already on line 2; expected each id once",
        ", line 5, speaker: no group; expected the group of the clip",
    ]


@pytest.mark.parametrize("header", ["Filename", "speaker,Filename", "Filename,speaker,age"])
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(header + "\n")
    with pytest.raises(TableError, match="two: Filename, and one that names the group"):
        read_groups(path)


def test_clips_without_a_group_and_a_single_group_are_refused() -> None:
    table = pl.DataFrame({"Filename": ["00001", "00002"], "Group": ["a", "a"]})
    with pytest.raises(ScoreError, match="groups: 1 id without a group, against labels: 00003"):
        number_groups(table, ["00001", "00003"])
    with pytest.raises(ScoreError, match="groups: 1 group; expected at least two groups"):
        number_groups(table, ["00001", "00002"])


def test_a_score_by_groups_says_so() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    labels = draw_labels(rng, 60)
    truth, prediction = name(labels), name(predict(rng, labels, 1.0))
    groups = pl.DataFrame({"Filename": truth["Filename"], "Group": [str(i // 10) for i in range(60)]})
    found = score(truth, prediction, groups=groups)
    assert found.groups == 6
    assert "1000,groups:6,seed:1" in found.signature
    plain = score(truth, prediction)
    assert plain.groups is None
    assert "1000,clips,seed:1" in plain.signature
    assert found.interval != plain.interval
