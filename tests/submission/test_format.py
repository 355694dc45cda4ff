from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw_emi.core.constants import COLUMNS
from abaw_emi.core.errors import SubmissionError
from abaw_emi.data.csv import parse_csv
from abaw_emi.data.tables import format_predictions, inspect_text
from abaw_emi.submission.check import check_csv
from abaw_emi.submission.format import DEFAULT_PROFILE, KEYS, SubmissionFormat, read_profile
from tests.csv_tables import EMOTIONS


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text)
    return path


def test_the_default_is_assumed_in_every_part_and_says_so(predictions: pl.DataFrame) -> None:
    assert DEFAULT_PROFILE.assumed == KEYS
    assert DEFAULT_PROFILE.describe.startswith("the format is assumed (header, id form, id suffix, decimals,")
    assert DEFAULT_PROFILE.mark("tries") == " (assumed)"
    assert DEFAULT_PROFILE.header == COLUMNS
    assert DEFAULT_PROFILE.format(predictions) == format_predictions(predictions)


def test_what_a_file_gives_is_no_longer_assumed(tmp_path: Path) -> None:
    profile = read_profile(write(tmp_path, "tries = 7\ndecimals = 3\n"))
    assert (profile.tries, profile.decimals) == (7, 3)
    assert not {"tries", "decimals"} & set(profile.assumed)
    assert profile.describe.startswith("the format is assumed (header, id form, id suffix, range, csv name,")
    assert profile.describe.endswith(f"; the rest is that of {tmp_path / 'rules.toml'}")
    assert profile.mark("tries") == ""
    assert read_profile(write(tmp_path, "")).assumed == KEYS


def test_every_problem_of_a_profile_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'header = ["a", "b"]\nid_form = "hex"\ndecimals = 0\ntries = 0\nextension = ".csv"\n'
        "range = [0, 1, 2]\n",
    )
    with pytest.raises(SubmissionError) as caught:
        read_profile(path)
    said = str(caught.value)
    for key in ("extension: no such key", "header:", "id_form: 'hex'", "decimals", "tries: 0", "range"):
        assert f"{path}, {key}" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'header = ["a", "b", "c", "d", "e", "f", "a"]',
            "header: a, b, c, d, e, f, a; expected seven different",
        ),
        ("range = [1.0, 0.0]", "range: [1.0, 0.0]; expected the lower value first"),
        ('csv_name = "../x.csv"', "csv_name: '../x.csv'; expected a plain file name that ends in .csv"),
        ('zip_name = "x.tar"', "zip_name: 'x.tar'; expected a plain file name that ends in .zip"),
        ('zip_name = "{team}.zip"', "zip_name: '{team}.zip'; expected no braces but {name}"),
        ("decimals = true", "decimals: True: "),
        ("tries = true", "tries: True: "),
        ("range = [0, inf]", "range.1: inf: "),
        ("tries = ", "not readable as TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        read_profile(write(tmp_path, text))
    assert said in str(caught.value)
    with pytest.raises(SubmissionError, match="no such file"):
        read_profile(tmp_path / "none.toml")


@given(
    st.builds(
        SubmissionFormat,
        header=st.permutations(["id", "a", "b b", "c,c", "d", "e", "f"]).map(tuple),
        id_form=st.sampled_from(["padded", "plain"]),
        id_suffix=st.sampled_from(["", ".mp4"]),
        decimals=st.none() | st.integers(4, 12),
        given=st.just(frozenset(KEYS)),
        source=st.just("rules.toml"),
    )
)
def test_what_a_profile_writes_it_reads_back_and_finds_sound(profile: SubmissionFormat) -> None:
    rows = {f"{i:05}": [(i * k % 11) / 10 + 0.01 for k in range(1, 7)] for i in (7, 12, 12_660, 345)}
    table = pl.DataFrame(
        [[name, *values] for name, values in rows.items()], schema=["Filename", *EMOTIONS], orient="row"
    ).with_columns(pl.col(EMOTIONS).clip(0, 1))
    content = profile.format(table)
    assert check_csv(content, "x", sorted(rows), profile=profile).problems == ()
    text, form = parse_csv(content, "x", strict=True)
    official, problems = profile.to_official(text)
    read, found = inspect_text(official, form, "submission")
    assert (problems, found) == ([], [])
    assert read is not None
    assert read["Filename"].to_list() == sorted(rows)
    gap = (read.select(EMOTIONS).to_numpy() - table.sort("Filename").select(EMOTIONS).to_numpy()).max()
    assert abs(gap) < 1e-4


def test_ids_and_decimals_other_than_given_are_named_by_line() -> None:
    profile = SubmissionFormat(
        id_form="plain", decimals=2, given=frozenset({"id_form", "decimals"}), source="r.toml"
    )
    content = (
        ",".join(COLUMNS) + "\n7,0.10,0.20,0.30,0.40,0.50,0.60\n00012,0.10,0.2,0.30,0.40,0.50,0.61\n"
    ).encode()
    finding = check_csv(content, "x.csv", ["00007", "00012"], profile=profile)
    assert [str(problem) for problem in finding.problems[:2]] == [
        "x.csv, line 3, Filename: 00012; expected 12",
        "x.csv, line 3, Amusement: 0.2; expected 2 decimals",
    ]


def test_official_names_in_another_order_are_refused_because_they_would_name_columns_wrongly(
    tmp_path: Path,
) -> None:
    path = tmp_path / "profile.toml"
    names = ["Filename", "Joy", "Amusement", "Determination", "Empathic Pain", "Excitement", "Admiration"]
    path.write_text(f"header = {names!r}\n")
    with pytest.raises(SubmissionError, match="Joy, Admiration in another's place"):
        read_profile(path)


@pytest.mark.parametrize("text", ["", 'id_suffix = ".mp4"\ndecimals = 3\nrange = [0.25, 0.5]\n'])
def test_what_show_format_prints_is_the_profile_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    before = read_profile(path)
    (tmp_path / "again.toml").write_text(before.to_toml())
    after = read_profile(tmp_path / "again.toml")
    assert replace(after, given=before.given, source=before.source) == before
    assert before.to_toml().count("# assumed") == len(before.assumed) - (before.decimals is None)
