"""Tables, archives, ledgers and records from elsewhere: each is read as it is meant, or refused by name."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from abaw_emi.core.constants import COLUMNS, EMOTIONS, FILENAME
from abaw_emi.core.errors import EmiError, SubmissionError, UsageError
from abaw_emi.data.groups import read_groups
from abaw_emi.data.provenance import read_prediction_file
from abaw_emi.data.tables import read_ids, read_labels, read_predictions
from abaw_emi.runs.run import Run
from abaw_emi.submission.check import check_path
from abaw_emi.submission.format import DEFAULT_PROFILE, SubmissionFormat, read_profile
from abaw_emi.submission.ledger import append, read_ledger
from abaw_emi.submission.write import write_submission

IDS = ["00040", "00041", "00042"]
HEADER = ",".join(COLUMNS)
ROWS = [
    "00040,0.11,0.025,0.52,0.2,0.31,0.05",
    "00041,0.12,0.125,0.5,0.21,0.3,0.15",
    "00042,0.1,0.9,0,0.7,1,0.25",
]
GOOD = "\n".join([HEADER, *ROWS, ""])

PROFILES = {
    "assumed": DEFAULT_PROFILE,
    "given": SubmissionFormat(given=frozenset({"header", "tries"}), source="rules.toml"),
}


def check(content: str | bytes, folder: Path, profile: str = "assumed", name: str = "p.csv") -> list[str]:
    """The problems of a submission."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [str(problem) for problem in check_path(path, IDS, profile=PROFILES[profile]).problems]


def table(values: np.ndarray, ids: list[str] = IDS) -> pl.DataFrame:
    return pl.DataFrame({FILENAME: ids, **dict(zip(EMOTIONS, values.T, strict=True))})


# 7: the form is checked whoever says what the format is.


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "line 1: a byte-order mark"),
        (GOOD.replace("\n", "\r"), "lines end in a carriage return alone"),
        (GOOD.replace("00041", '"""00041"""'), "line 3, Filename: '\"00041\"' is not a clip id"),
        (GOOD.replace("00041", "00041\xa0"), "line 3, Filename: '00041\\xa0' is not a clip id"),
        (GOOD.replace("00041", '"00041\n"'), "line 4, Filename: '00041\\n' is not a clip id"),
        (GOOD.replace("00041", '"\n00041"'), "line 4, Filename: '\\n00041' is not a clip id"),
        (GOOD.replace("0.125", "0.125\u2003"), "line 3, Amusement: '0.125"),
        (GOOD.replace("0.125", "\xa00.125"), "line 3, Amusement: '0.125"),
        (GOOD.replace("0.125", '"0.125\n"'), "line 4, Amusement: '0.125"),
        (GOOD.replace("0.125", "\x1c0.125"), "line 3, Amusement: '0.125"),
        (GOOD.replace("0.125", "\u0660.125"), "line 3, Amusement: "),
    ],
)
def test_with_and_without_a_profile_the_form_is_strict(
    profile: str, content: str | bytes, where: str, tmp_path: Path
) -> None:
    assert check(GOOD, tmp_path, profile) == []
    assert any(where in line for line in check(content, tmp_path, profile)), check(content, tmp_path, profile)


def test_a_space_or_a_tab_beside_a_number_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    assert check(GOOD.replace("0.125", " 0.125\t"), tmp_path) == []


# 9: the end of a file.


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n \t\r\n", "\n\n\n\n"])
def test_blank_lines_at_the_end_are_no_rows_in_any_table(end: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes((GOOD.rstrip("\n") + end).encode())
    assert read_labels(path)[FILENAME].to_list() == IDS
    assert read_predictions(path)[FILENAME].to_list() == IDS
    assert read_ids(path) == IDS
    for profile in PROFILES:
        assert check(GOOD.rstrip("\n") + end, tmp_path, profile) == []
    path.write_text("Filename,speaker\n00040,a\n00041,b" + end)
    assert len(read_groups(path)) == 2


def test_blank_lines_elsewhere_are_named(tmp_path: Path) -> None:
    (line,) = check(GOOD.replace("00041", "\n00041"), tmp_path)
    assert line.endswith("p.csv, line 3: a blank line")


def test_a_file_that_may_be_cut_inside_its_last_number_is_doubted(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(GOOD[:-2])  # 0.25 has become 0.2
    checked = check_path(path, IDS)
    assert checked.problems == ()
    cut = f"{path}: ends without a line break; see that it is whole, and its last number"
    assert str(checked.warnings[0]) == cut
    file, problems = read_prediction_file(path)
    assert problems == []
    assert [str(warning) for warning in file.warnings] == [cut]
    path.write_text(GOOD)
    assert cut not in map(str, check_path(path, IDS).warnings)


# 10: advice.


@pytest.mark.parametrize(
    ("written", "meant"),
    [("filename", FILENAME), ("empathic_pain", "Empathic Pain"), ("JOY", "Joy"), ("Amusment", "Amusement")],
)
def test_a_header_that_is_almost_right_is_to_be_renamed(written: str, meant: str, tmp_path: Path) -> None:
    lines = check(GOOD.replace(meant, written, 1), tmp_path)
    assert lines == [f"{tmp_path}/p.csv, line 1: column {written!r}; expected {meant!r}; rename it"]


def test_a_number_in_scientific_notation_is_no_file_name(tmp_path: Path) -> None:
    line, *_ = check(GOOD.replace("00041", "1.2660E+04"), tmp_path)
    assert "scientific notation" in line
    assert "extension" not in line


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(buffer)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 6)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" + bytes(100), parquet(), npy(), gzip.compress(GOOD.encode()), b"%PDF-1.7\n" + bytes(99)],
    ids=["zip or xlsx", "parquet", "npy", "gz", "pdf"],
)
def test_a_file_of_another_kind_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(EmiError, match=r"p\.csv: is .*; expected a CSV file of one row a clip$"):
        read_predictions(path)
    if not content.startswith(b"PK"):
        assert len(check(content, tmp_path)) == 1


def test_what_macos_adds_is_named_and_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("p.csv", GOOD)
        archive.writestr("._p.csv", b"\x00\x05\x16\x07" + bytes(80))
    lines = [str(problem) for problem in check_path(tmp_path / "mine.zip", IDS).problems]
    assert len(lines) == 1
    assert "._p.csv, which macOS adds, is in the zip" in lines[0]
    for name in ("p.csv", "._p.csv"):
        (folder / name).write_text(GOOD)
    assert not [p for p in check_path(folder, IDS).problems if "CSV files" in str(p)]


# 10 and 18: size.


def test_a_zip_of_thousands_of_members_is_few_lines(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(3_000):
            archive.writestr(f"{number}.txt", b"")
    assert len(check_path(tmp_path / "many.zip", IDS).problems) < 20


@pytest.mark.parametrize(
    "content",
    [
        ",".join(f"c{i}" for i in range(200_000)) + "\n" + GOOD,
        HEADER + "\n" + "x\n" * 1_000_000,
        HEADER + "\n" + "7,,,,,,\n" * 1_000_000,
        HEADER + "\n" + "".join(f"{i:05},x,x,x,x,x,x\n" for i in range(30_000)),
    ],
    ids=["columns", "narrow rows", "bad rows", "bad cells"],
)
def test_what_no_table_holds_is_refused_in_bounded_memory(content: str, tmp_path: Path) -> None:
    tracemalloc.start()
    lines = check(content, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < len(lines) < 40
    assert peak < 500e6


def test_a_table_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with path.open("wb") as file:
        file.truncate(2**40)  # without any of it on the disk
    for read in (read_labels, read_predictions, read_ids, read_groups):
        with pytest.raises(EmiError, match="is too large to be read"):
            read(path)
    with pytest.raises(EmiError, match="is too large to be read"):
        check_path(path, IDS)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_small_zip_of_a_large_file_is_refused_before_it_is_unpacked(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as archive:
        archive.writestr("p.csv", bytes(50_000_000))
    tracemalloc.start()
    problems = check_path(tmp_path / "bomb.zip", IDS).problems
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problems
    assert peak < 5e6


@pytest.mark.parametrize(
    ("before", "after", "comment"), [(b"#!", b"", b""), (b"", b"x", b""), (b"", b"", b"x")]
)
def test_a_zip_with_anything_around_it_is_refused(
    before: bytes, after: bytes, comment: bytes, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("p.csv", GOOD)
        archive.comment = comment
    lines = check(before + buffer.getvalue() + after, tmp_path, name="s.zip")
    assert lines
    assert lines[0].startswith(f"{tmp_path}/s.zip: ")


# 8: the ledger, and records.


def write_ledger(out: Path, *lines: str) -> Path:
    out.mkdir(exist_ok=True)
    (out / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return out


def test_two_submissions_of_one_name_are_two_attempts(tmp_path: Path) -> None:
    first, second = ('{"name": "a", "sha256": "1"}', '{"name": "a", "sha256": "2"}')
    out = write_ledger(tmp_path / "out", first, second, first, '{"amends": "a", "test_score": 0.5}')
    ledger = read_ledger(out)
    assert ledger.used == 2
    assert [entry.test_score for entry in ledger.entries] == [None, 0.5]
    assert [str(problem).partition(", ")[2] for problem in ledger.problems] == [
        "line 2: another submission 'a'; both count",
        "line 3: submission 'a' again, word for word; counted once",
    ]


DAMAGED = [
    '{"name": "b", "sha',
    "[1]",
    '{"name": 7}',
    '{"name": "b", "val": 3}',
    '{"name": "b", "val": {"mean_pearson": "high"}}',
    '{"name": "b", "source": []}',
    '{"name": "b", "created": {}}',
    "null",
    '"name"',
    "[" * 100_000,
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_frees_no_attempt(line: str, tmp_path: Path) -> None:
    out = write_ledger(tmp_path / "out", '{"name": "a"}', line)
    ledger = read_ledger(out)
    assert ledger.used == 2
    (problem,) = ledger.problems
    assert f"{out}/ledger.jsonl, line 2: not a line of a ledger" in str(problem)
    profile = SubmissionFormat(tries=2)
    values = np.random.default_rng(0).random((3, 6))
    with pytest.raises(SubmissionError, match="2 of 2 tries"):
        write_submission(table(values), IDS, out, profile=profile)
    assert write_submission(table(values), IDS, out, profile=profile, force=True).folder.is_dir()


@pytest.mark.parametrize(
    "line", ['{"amends": "a", "test_score": "high"}', '{"amends": "a", "sent": 3}', '{"amends": []}']
)
def test_a_damaged_amendment_is_named_and_is_no_attempt(line: str, tmp_path: Path) -> None:
    ledger = read_ledger(write_ledger(tmp_path / "out", '{"name": "a"}', line))
    assert ledger.used == 1
    assert "line 2: not a line of a ledger" in str(ledger.problems[0])


VALUES = ["3", "[]", '{"sha256": 3}', '{"sha256": []}', "null", '"x"', "{", "[" * 100_000, "NaN"]


@pytest.mark.parametrize("text", VALUES)
def test_records_of_another_shape_are_named(text: str, tmp_path: Path) -> None:
    predictions = tmp_path / "p.csv"
    predictions.write_text(GOOD)
    (tmp_path / "p.provenance.json").write_text(text)
    _, doubts = read_prediction_file(predictions)
    assert "p.provenance.json: not a provenance record (" in str(doubts[0])
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.provenance_file.write_text(text.replace("sha256", "weights_sha256"))
    with pytest.raises(EmiError, match=r"provenance\.json: not a run's record \("):
        run.read_provenance()
    made = write_submission(table(np.random.default_rng(0).random((3, 6))), IDS, tmp_path / "out")
    (made.folder / "manifest.json").write_text(text)
    (problem,) = check_path(made.folder, IDS).problems
    assert "manifest.json: not a manifest (" in str(problem)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trained_on", "x"),
        ("trained_on", ["00001-x"]),
        ("members", {}),
        ("members", [1]),
        ("read_from_video", [1]),
        ("scheme", {"scheme": "weights", "out_of_fold": 3}),
        ("split", 1),
    ],
)
def test_a_value_of_another_type_in_a_record_is_named(key: str, value: object, tmp_path: Path) -> None:
    predictions = tmp_path / "p.csv"
    predictions.write_text(GOOD)
    whole = {"command": "", "split": "", "members": [], "trained_on": [], "trained_on_complete": True}
    whole |= {"skipped": [], "read_from_video": {}, "sha256": "", "version": ""}
    (tmp_path / "p.provenance.json").write_text(json.dumps({**whole, key: value}))
    _, (doubt,) = read_prediction_file(predictions)
    assert "p.provenance.json: not a provenance record (" in str(doubt)


# 9: what `submit` makes must pass its own check.


@pytest.mark.parametrize("decimals", [None, 4, 6, 12])
@pytest.mark.parametrize("bounds", [(0.1, 0.3), (0.0, 1.0), (-0.7, 0.123456789), (0.05, 0.95)])
def test_clipped_values_lie_within_any_range(
    bounds: tuple[float, float], decimals: int | None, tmp_path: Path
) -> None:
    profile = SubmissionFormat(
        range=bounds, decimals=decimals, given=frozenset({"range", "decimals"}), source="rules.toml"
    )
    values = np.random.default_rng(0).normal(0, 2, (30, 6))
    values[0], values[1] = bounds
    ids = [f"{i:05}" for i in range(30)]
    made = write_submission(table(values, ids), ids, tmp_path, profile=profile)
    low, high = bounds
    assert made.clipped == {
        e: int(((c < low) | (c > high)).sum()) for e, c in zip(EMOTIONS, values.T, strict=True)
    }
    written = pl.read_csv(made.folder / "predictions.csv").select(EMOTIONS).to_numpy()
    assert low <= written.min()
    assert written.max() <= high
    assert np.abs(written - values.clip(low, high)).max() < (1e-4 if decimals == 4 else 1e-6)


@pytest.mark.parametrize(
    "line", ['csv_name = "{name}.csv"', 'id_suffix = ","', 'id_suffix = "\\n"', 'id_suffix = "\\""']
)
def test_a_profile_that_could_not_be_kept_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(line)
    with pytest.raises(SubmissionError, match=line.partition(" ")[0]):
        read_profile(tmp_path / "rules.toml")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[31m", "a,b", "a/b", "..", "a ", "a.", "x" * 200, "a{b}", "-a"]
)
def test_a_name_that_some_reader_misreads_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a plain folder name"):
        write_submission(table(np.random.default_rng(0).random((3, 6))), IDS, tmp_path, name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["second try", "März_2", "v1.2-b"])
def test_a_plain_name_is_taken_in_any_language(name: str, tmp_path: Path) -> None:
    made = write_submission(table(np.random.default_rng(0).random((3, 6))), IDS, tmp_path, name=name)
    assert made.folder.name == name
    assert check_path(made.folder, IDS).problems == ()
    append(tmp_path, {"amends": name, "sent": False})
    assert read_ledger(tmp_path).used == 0
