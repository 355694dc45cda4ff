from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.data.provenance import (
    Provenance,
    provenance_path,
    read_provenance,
    write_with_provenance,
)
from tests.csv_tables import to_table

RECORD = Provenance(
    command="abaw-emi ensemble",
    split="test",
    members=[{"run": "runs/paper-seed1", "weights_sha256": "ab"}],
    trained_on=frozenset({"00000", "00001", "00002", "00009"}),
    skipped=["12661"],
    read_from_video={"missing": ["12662-12664"]},
)


@pytest.fixture
def path(tmp_path: Path, predictions: pl.DataFrame) -> Path:
    """A prediction file with its record."""
    path = tmp_path / "predictions" / "x.test.csv"
    write_with_provenance(predictions, path, RECORD)
    return path


def test_the_record_lies_beside_and_names_the_hash_and_packed_ids(path: Path) -> None:
    beside = path.parent / "x.test.provenance.json"
    values = json.loads(beside.read_text())
    assert values["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert values["trained_on"] == ["00000-00002", "00009"]
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, beside.name]


def test_a_record_reads_back_as_written(path: Path) -> None:
    record, problems = read_provenance(path)
    assert problems == []
    assert record == replace(RECORD, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@given(names=st.frozensets(st.integers(0, 99_999).map(lambda number: f"{number:05}")), complete=st.booleans())
@settings(max_examples=40, deadline=None)
def test_ids_trained_on_survive_the_way_through_the_file(
    tmp_path_factory: pytest.TempPathFactory, names: frozenset[str], complete: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.csv"
    table = to_table({"00001": [0.5] * 6})
    written = Provenance(command="test", trained_on=names, trained_on_complete=complete)
    write_with_provenance(table, path, written)
    record, problems = read_provenance(path)
    assert problems == []
    assert record is not None
    assert (record.trained_on, record.trained_on_complete) == (names, complete)


def test_no_record_is_no_problem(path: Path) -> None:
    provenance_path(path).unlink()
    assert read_provenance(path) == (None, [])


@pytest.mark.parametrize("where", [0, -1])
def test_a_record_is_not_believed_once_the_file_has_changed(path: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    record, (problem,) = read_provenance(path)
    assert record is None
    assert "other bytes than x.test.csv holds now" in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "{}",
        '{"sha256": "x"}',
        "\udcff",
    ],
)
def test_what_is_no_record_is_a_problem(path: Path, text: str) -> None:
    provenance_path(path).write_text(text, encoding="utf-8", errors="surrogateescape")
    record, (problem,) = read_provenance(path)
    assert record is None
    assert str(problem).startswith(f"{provenance_path(path)}: not a provenance record")


@pytest.mark.parametrize(
    "ranges", ["00001", [1], ["1"], ["00002-"], ["00000-99999999999999"], {"a": 1}, True]
)
def test_a_record_with_impossible_ids_is_a_problem(path: Path, ranges: object) -> None:
    values = json.loads(provenance_path(path).read_text())
    provenance_path(path).write_text(json.dumps(values | {"trained_on": ranges}))
    record, problems = read_provenance(path)
    assert record is None
    assert len(problems) == 1


@pytest.mark.parametrize("missing", [{"vit": ["x"]}, {"vit": 1}, {"vit": [1]}, 7, "vit"])
def test_a_record_of_impossible_missing_clips_is_a_problem(path: Path, missing: object) -> None:
    values = json.loads(provenance_path(path).read_text())
    values["members"][0]["missing"] = missing
    provenance_path(path).write_text(json.dumps(values))
    record, (problem,) = read_provenance(path)
    assert record is None
    assert "not a provenance record" in str(problem)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_record_is_a_problem_or_read_but_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes(b"content")
    sound = json.dumps(replace(RECORD, sha256=hashlib.sha256(b"content").hexdigest()).to_json()).encode()
    start = data.draw(st.integers(0, len(sound)))
    stop = data.draw(st.integers(start, min(len(sound), start + 20)))
    provenance_path(path).write_bytes(sound[:start] + data.draw(st.binary(max_size=5)) + sound[stop:])
    record, problems = read_provenance(path)
    assert (record is None) == bool(problems)
