from __future__ import annotations

import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abaw_emi.core.errors import TableError
from abaw_emi.submission.check import check_csv, check_path, check_zip
from abaw_emi.submission.write import pack, write_submission
from tests.csv_tables import HEADER

IDS = ["00001", "00002", "00003"]
CSV = f"{HEADER}\n00001,0,0.25,1,0,0,0.5\n00002,1,0.5,0,1,0.75,0\n00003,0.5,0.5,0.125,0,1,1\n".encode()


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def lines(content: bytes) -> list[str]:
    return [str(problem) for problem in check_zip(content, "s.zip", IDS).problems]


@pytest.fixture
def folder(predictions: pl.DataFrame, test_ids: list[str], out: Path) -> Path:
    """A submission as it was written."""
    return write_submission(predictions, test_ids, out, name="mine").folder


# Zips.


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_any_origin_that_holds_just_the_csv_is_sound(compression: int) -> None:
    finding = check_zip(zipped(("anything.csv", CSV), compression=compression), "s.zip", IDS)
    assert (finding.problems, finding.rows) == ((), 3)
    assert lines(pack(CSV, "p.csv")) == []


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            [("s/p.csv", CSV)],
            ["s.zip: s/p.csv lies in a folder inside the zip; expected the CSV at the zip's root"],
        ),
        ([("s/", b""), ("s/p.csv", CSV)], ["s.zip: s/ lies in a folder", "s.zip: s/p.csv lies in a folder"]),
        ([("a.csv", CSV), ("b.csv", CSV)], ["s.zip: 2 CSV files in the zip; expected exactly one"]),
        ([("a.csv", CSV), ("a.csv", CSV)], ["s.zip: 2 CSV files in the zip; expected exactly one"]),
        ([], ["s.zip: 0 CSV files in the zip; expected exactly one"]),
        (
            [("p.txt", CSV)],
            ["s.zip: p.txt is in the zip; expected nothing but the CSV", "s.zip: 0 CSV files"],
        ),
        (
            [("p.csv", CSV), ("README.md", b"")],
            ["s.zip: README.md is in the zip; expected nothing but the CSV"],
        ),
        (
            [("p.csv", CSV), ("__MACOSX/._p.csv", b"\0")],
            ["s.zip: __MACOSX/._p.csv, which macOS adds, is in the zip; expected nothing but the CSV"],
        ),
        (
            [("p.csv", CSV.replace(b"0.75", b"1.75"))],
            ["s.zip, p.csv, line 3, Excitement: 1.75 is outside [0, 1]"],
        ),
    ],
)
def test_what_is_wrong_with_the_members_of_a_zip_is_named(
    members: list[tuple[str, bytes]], expected: list[str]
) -> None:
    found = lines(zipped(*members))
    for start in expected:
        assert any(line.startswith(start) for line in found), found
    if len(expected) == 1:
        assert len(found) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", zipped(("p.csv", CSV))[:-30]])
def test_what_is_no_zip_is_said_to_be_none(content: bytes, tmp_path: Path) -> None:
    (line,) = lines(content)
    assert line.startswith("s.zip: not a sound zip file")
    path = tmp_path / "s.zip"
    path.write_bytes(content)
    assert check_path(path, IDS).problems


def test_a_zip_is_known_by_its_bytes_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "submission.dat"
    path.write_bytes(pack(CSV, "p.csv"))
    assert check_path(path, IDS).problems == ()


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_damaged_bytes_are_never_an_exception(compression: int, data: st.DataObject) -> None:
    content = bytearray(zipped(("p.csv", CSV), compression=compression))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    finding = check_zip(bytes(content), "s.zip", IDS)
    assert all(str(problem).startswith("s.zip") for problem in finding.problems)
    # What is found sound holds the CSV that was packed.
    assert finding.problems or finding.rows == 3


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        (6, b"\1", "s.zip: not a sound zip file"),  # flags: encrypted
        (8, b"\x63", "s.zip, p.csv: neither stored nor deflated"),  # a method that nobody has
    ],
    ids=["encrypted", "unknown method"],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_cannot_be_unpacked_is_found(
    compression: int, field: int, value: bytes, found: str
) -> None:
    content = bytearray(zipped(("p.csv", CSV), compression=compression))
    for start in (content.index(b"PK\3\4"), content.index(b"PK\1\2") + 2):  # the member's two headers
        content[start + field : start + field + len(value)] = value
    (line,) = lines(bytes(content))
    assert line.startswith(found)


@given(place=st.integers(0, len(CSV) - 1), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_any_flipped_bit_of_the_packed_csv_is_found(place: int, bit: int) -> None:
    content = bytearray(pack(CSV, "p.csv"))
    content[content.index(CSV) + place] ^= 1 << bit
    assert lines(bytes(content)) == ["s.zip, p.csv: damaged inside the zip"]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_an_exception(content: bytes) -> None:
    assert check_zip(content, "s.zip", IDS).problems
    assert check_zip(b"PK\x03\x04" + content, "s.zip", IDS).problems


# CSVs.


def test_a_csv_of_the_test_clips_is_sound() -> None:
    finding = check_csv(CSV, "p.csv", IDS)
    assert (finding.problems, finding.warnings, finding.rows) == ((), (), 3)
    assert check_csv(CSV, "p.csv", IDS[::-1]).problems == ()


def test_ids_are_compared_with_those_of_the_test_clips() -> None:
    problems = check_csv(CSV, "p.csv", ["00002", "00003", "00004", "00005"]).problems
    assert [str(problem) for problem in problems] == [
        "p.csv, line 2, Filename: 00001 is not a test id",
        "p.csv: 2 ids missing, against the test ids: 00004, 00005",
    ]


@pytest.mark.parametrize(
    ("spelling", "found"),
    [
        (["1", "2", "3"], []),
        (["00001", "2", "00003"], ["p.csv: ids such as 00001 and such as 2; expected ids of one form"]),
        (["00001", "00002", "3.0"], ["p.csv: ids such as '3.0'; expected digits alone, of one form"]),
        (["000001", "00002", "00003"], ["p.csv: ids such as '000001'; expected digits alone, of one form"]),
        ([" 00001", "00002", "00003"], ["p.csv: ids such as ' 00001'; expected digits alone, of one form"]),
    ],
)
def test_ids_of_no_one_form_are_a_warning(spelling: list[str], found: list[str]) -> None:
    content = CSV.decode()
    for filename, other in zip(IDS, spelling, strict=True):
        content = content.replace(filename, other)
    check = check_csv(content.encode(), "p.csv", IDS)
    assert (check.problems, [str(each) for each in check.warnings]) == ((), found)


def test_a_constant_column_rejects_a_submission_and_is_a_warning_for_predictions() -> None:
    content = CSV.replace(b"0.25,1,0,0,0.5", b"0.5,1,0,0,0.5")  # Amusement
    submission, predictions = (
        check_csv(content, "p.csv", IDS, kind) for kind in ("submission", "predictions")
    )
    assert [problem.where for problem in submission.problems] == ["p.csv, Amusement"]
    assert predictions.problems == ()
    assert [warning.where for warning in predictions.warnings] == ["p.csv, Amusement"]


def test_one_test_clip_has_no_constant_column() -> None:
    assert check_csv(CSV[: CSV.index(b"00002")], "p.csv", ["00001"]).problems == ()


def test_raw_predictions_may_lie_outside_0_to_1_in_a_zip_too() -> None:
    content = pack(CSV.replace(b"0.75", b"1.75"), "p.csv")
    assert check_zip(content, "s.zip", IDS, "predictions").problems == ()
    assert check_zip(content, "s.zip", IDS, "submission").problems != ()


# Folders.


def said(folder: Path, test_ids: list[str]) -> str:
    return "\n".join(str(problem) for problem in check_path(folder, test_ids).problems)


def test_a_csv_that_was_changed_after_it_was_written_is_found(folder: Path, test_ids: list[str]) -> None:
    path = folder / "predictions.csv"
    content = path.read_bytes()
    changed = content.replace(b"\n12660,0.", b"\n12660,0.1", 1)
    assert changed != content
    path.write_bytes(changed)
    found = said(folder, test_ids)
    assert "mine.zip: its CSV is not predictions.csv; expected the same bytes" in found
    assert "manifest.json: the CSV was changed after it was written" in found
    # Packed anew, only the manifest can tell.
    (folder / "mine.zip").write_bytes(pack(changed, "predictions.csv"))
    assert said(folder, test_ids).startswith(f"{folder / 'manifest.json'}: the CSV was changed")


def test_a_zip_that_was_changed_is_found(folder: Path, test_ids: list[str]) -> None:
    content = (folder / "predictions.csv").read_bytes().replace(b"\n12660,0.", b"\n12660,0.1", 1)
    (folder / "mine.zip").write_bytes(pack(content, "predictions.csv"))
    assert (
        said(folder, test_ids)
        == f"{folder / 'mine.zip'}: its CSV is not predictions.csv; expected the same bytes"
    )


@pytest.mark.parametrize("name", ["mine.zip", "predictions.csv", "manifest.json"])
def test_a_file_that_is_gone_is_named(folder: Path, test_ids: list[str], name: str) -> None:
    (folder / name).unlink()
    expected = {"mine.zip": "0 zip files", "predictions.csv": "0 CSV files", "manifest.json": "no manifest"}
    assert expected[name] in said(folder, test_ids)


def test_a_second_csv_is_named(folder: Path, test_ids: list[str]) -> None:
    shutil.copy(folder / "predictions.csv", folder / "copy.csv")
    assert f"{folder}: 2 CSV files; expected exactly one" in said(folder, test_ids)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 7}', "\udcff"])
def test_a_damaged_manifest_is_named(folder: Path, test_ids: list[str], text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert str(folder / "manifest.json") in said(folder, test_ids)


def test_an_empty_folder_lacks_everything(tmp_path: Path) -> None:
    assert said(tmp_path, IDS).splitlines() == [
        f"{tmp_path}: 0 CSV files; expected exactly one",
        f"{tmp_path}: 0 zip files; expected exactly one",
    ]


def test_a_manifest_of_other_predictions_does_not_vouch(folder: Path, test_ids: list[str]) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    assert "the CSV was changed after it was written; expected SHA-256 0000" in said(folder, test_ids)


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        check_path(tmp_path / "nowhere.zip", IDS)
