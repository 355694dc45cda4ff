from __future__ import annotations

import hashlib
import json
import pstats
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from abaw_emi.data.provenance import Provenance, write_with_provenance
from abaw_emi.data.tables import read_predictions
from tests.cli.conftest import EMOTIONS, Shell, environment, problems, test_ids, values, write_csv

COUNTS = "warning: data, test: 6 clips; expected 4,586"
NO_RECORD = (
    "warning: predictions/ensemble-test.csv: no provenance record: whether its runs have seen test clips "
    "is not known"
)


@pytest.fixture
def preds(folder: Path) -> Path:
    """Predictions for the test clips where `ensemble` writes them; two cells of Joy lie outside [0, 1]."""
    rows = values(test_ids(), 6)
    rows["00020"][5], rows["00025"][5] = -0.5, 1.5
    return write_csv(folder / "predictions" / "ensemble-test.csv", rows)


@pytest.mark.usefixtures("preds")
def test_what_submit_writes_check_finds_fit_in_every_form(shell: Shell, folder: Path) -> None:
    done = shell("submit", "--out", "submissions/", "--name", "mine")
    assert problems(done, 0) == [COUNTS, NO_RECORD]
    assert "clipped to [0, 1]: Joy 2" in done.stdout
    assert "submissions/mine/mine.zip: 6 clips; written, read back and checked" in done.stdout
    assert "the format is assumed" in done.stdout
    for path in ("submissions/mine", "submissions/mine/mine.zip", "submissions/mine/predictions.csv"):
        checked = shell("check", path)
        assert problems(checked, 0) == [COUNTS]
        fit, assumed, *_ = checked.stdout.splitlines()
        assert fit == f"{path}: fit to be sent, 6 clips"
        assert assumed.startswith("the format is assumed (header, id form,")
    with zipfile.ZipFile(folder / "submissions" / "mine" / "mine.zip") as archive:
        assert archive.namelist() == ["predictions.csv"]


@pytest.mark.usefixtures("preds")
def test_a_column_is_rescaled_where_clipping_is_known_to_harm_and_else_it_is_said_that_it_is_not_known(
    shell: Shell, folder: Path
) -> None:
    unknown = "whether clipping lowers r is not known: no predictions of valid by what is submitted"
    assert shell("submit", "--dry-run").stdout.splitlines()[1:3] == ["clipped to [0, 1]: Joy 2", unknown]
    assert unknown not in shell("submit", "--dry-run", "--bounds", "clip").stdout
    names = [f"{i:05}" for i in range(5, 17)]
    below = {name: [*row[:5], row[5] - 0.5] for name, row in values(names, 2).items()}  # Joy is half clipped
    valid = write_csv(folder / "valid.csv", below | {names[0]: [0.5] * 6})
    done = shell("submit", "--dry-run", "--valid-preds", valid)
    problems(done, 0)
    assert "\nJoy: rescaled, " in done.stdout
    assert unknown not in done.stdout
    made = json.loads(shell("submit", "--dry-run", "--json", "--valid-preds", valid).stdout)
    assert (made["harmed"], list(made["rescaled"])) == (["Joy"], ["Joy"])


def test_predictions_of_a_part_of_valid_do_not_tell_what_clipping_harms(
    shell: Shell, folder: Path, preds: Path
) -> None:
    write_csv(folder / "runs" / "one" / "valid_predictions.csv", values([f"{i:05}" for i in range(5, 9)], 3))
    test = write_csv(folder / "test.csv", values(test_ids(), 6))
    record = Provenance(command="x", members=[{"run": "one"}])
    write_with_provenance(read_predictions(test), preds, record)
    done = shell("submit", "--dry-run", "--json")
    _, line = problems(done, 0)
    assert "8 ids missing, against data/valid_split.csv" in line
    assert json.loads(done.stdout)["harmed"] is None


def test_submit_json_is_one_object_and_the_manifest_names_the_source(
    shell: Shell, folder: Path, preds: Path
) -> None:
    done = shell("submit", "--json")
    problems(done, 0)
    result = json.loads(done.stdout)
    assert result["clipped"] == dict.fromkeys(EMOTIONS, 0) | {"Joy": 2}
    assert Path(result["archive"]) == Path("submissions/submission-1/submission-1.zip")
    manifest = json.loads((folder / result["folder"] / "manifest.json").read_text())
    assert manifest["sha256"] == result["sha256"]
    assert manifest["source"]["sha256"] == hashlib.sha256(preds.read_bytes()).hexdigest()
    (line,) = (folder / "submissions" / "ledger.jsonl").read_text().splitlines()
    assert (
        json.loads(line)["zip_sha256"]
        == hashlib.sha256((folder / result["archive"]).read_bytes()).hexdigest()
    )


def test_a_file_of_another_kind_is_told_in_few_lines_that_ask_what_it_is(shell: Shell, folder: Path) -> None:
    ids = [f"{i:05}" for i in range(5000, 9000)]
    raw = write_csv(folder / "raw.csv", values(ids, 1, 1.001, 2))
    lines = problems(shell("score", raw.name, raw.name), 1)
    assert lines[0].startswith("raw.csv, line 2, Admiration: 1.")
    assert lines[15:] == ["raw.csv: 23,985 more problems of its lines; is this a label file?"]
    lines = problems(shell("check", "raw.csv", "--kind", "predictions"), 1)
    assert lines[1] == "raw.csv, line 2, Filename: 05000 is not a test id"
    asked = "raw.csv: 3,985 more problems of its lines; is this a file of another split, or a label file?"
    assert asked in lines
    assert len(lines) < 40
    prose = folder / "prose.csv"
    prose.write_text("Filename;Joy\n" + "a,b,c\n" * 3000)
    lines = problems(shell("score", "prose.csv", "data/valid_split.csv"), 1)
    assert lines[0] == "prose.csv, line 1: column Admiration is missing"
    assert lines[-1].endswith("more problems of its lines; is this a prediction file?")
    assert len(lines) == 16


@pytest.mark.usefixtures("preds")
def test_no_clip_refuses_and_leaves_nothing(shell: Shell, folder: Path) -> None:
    lines = problems(shell("submit", "--no-clip"), 1)
    assert lines[-1] == "predictions/ensemble-test.csv, Joy: 2 values lie outside [0, 1]"
    assert not (folder / "submissions").exists()


def test_a_missing_clip_is_refused_unless_it_is_to_be_filled(shell: Shell, folder: Path, preds: Path) -> None:
    preds.write_text(
        "".join(line for line in preds.open(encoding="utf-8") if not line.startswith("00022")),
        encoding="utf-8",
    )
    lines = problems(shell("submit"), 1)
    assert any("00022" in line for line in lines)
    assert any("--fill train-mean" in line for line in lines)
    done = shell("submit", "--fill", "train-mean")
    problems(done, 0)
    assert "filled with the train mean: 1 clips: 00022" in done.stdout
    manifest = json.loads((folder / "submissions" / "submission-1" / "manifest.json").read_text())
    assert manifest["filled"] == ["00022"]


def test_a_constant_column_is_refused_by_name(shell: Shell, folder: Path) -> None:
    write_csv(folder / "p.csv", {name: [2, *row[1:]] for name, row in values(test_ids(), 6).items()})
    lines = problems(shell("submit", "--preds", "p.csv"), 1)
    assert any(", Admiration: every clip has the same value" in line for line in lines)


def test_predictions_that_were_trained_on_test_clips_are_refused(shell: Shell, preds: Path) -> None:
    record = {
        "sha256": hashlib.sha256(preds.read_bytes()).hexdigest(),
        "command": "x",
        "version": "0",
        "split": "test",
        "trained_on": ["00000-00021"],
        "trained_on_complete": True,
        "skipped": [],
        "read_from_video": {},
        "members": [],
    }
    preds.with_suffix(".provenance.json").write_text(json.dumps(record))
    assert problems(shell("submit"), 1) == [
        COUNTS,
        "predictions/ensemble-test.csv: its runs were trained on 2 of the test clips",
    ]


def test_check_of_bad_files_exits_1_and_names_all(shell: Shell, folder: Path) -> None:
    rows = values([*test_ids()[1:], "00099"], 6)
    rows["00022"][0] = 1.5
    write_csv(folder / "bad.csv", rows)
    expected = [
        "bad.csv, line 3, Admiration: 1.5 is outside [0, 1]",
        "bad.csv, line 7, Filename: 00099 is not a test id",
        "bad.csv: 1 id missing, against the test ids: 00020",
    ]
    assert problems(shell("check", "bad.csv"), 1) == [COUNTS, *expected]
    done = shell("check", "bad.csv", "--json")
    assert problems(done, 1) == [COUNTS, *expected]
    assert json.loads(done.stdout) == {
        "ok": False,
        "rows": 6,
        "problems": expected,
        "warnings": [COUNTS.removeprefix("warning: ")],
    }


def test_check_of_a_zip_with_a_folder_inside_exits_1(shell: Shell, folder: Path, preds: Path) -> None:
    with zipfile.ZipFile(folder / "s.zip", "w") as archive:
        archive.write(preds, "s/predictions.csv")
    warning, *lines = problems(shell("check", "s.zip", "--kind", "predictions"), 1)
    assert warning == COUNTS
    assert len(lines) == 1
    assert "lies in a folder inside the zip" in lines[0]


def test_raw_predictions_pass_as_predictions_only(shell: Shell, preds: Path) -> None:
    assert problems(shell("check", preds, "--kind", "predictions"), 0) == [COUNTS]
    assert len(problems(shell("check", preds), 1)) == 3


@pytest.mark.parametrize("arguments", [["check", "x.csv"], ["submit", "--preds", "x.csv"]], ids=" ".join)
def test_a_missing_data_folder_exits_1_naming_the_option(
    shell: Shell, folder: Path, arguments: list[str]
) -> None:
    write_csv(folder / "x.csv", values(test_ids(), 6))
    for extra, name in (([], "from-environment"), (["--data", "from-option"], "from-option")):
        done = shell(*arguments, *extra, ABAW_EMI_DATA="from-environment")
        (line,) = problems(done, 1)
        assert line.startswith(f"{name}: does not exist")
        assert "--data" in line


@pytest.mark.usefixtures("preds")
def test_a_submission_parses_what_it_sends_twice_and_each_label_file_once(folder: Path) -> None:
    arguments = ["-m", "cProfile", "-o", "calls", "-m", "abaw_emi", "submit"]
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), check=True)
    calls = pstats.Stats(str(folder / "calls")).stats  # type: ignore[attr-defined]
    parses = {name: count for (_, _, name), (count, *_) in calls.items() if name == "parse_csv"}
    # The labels of train and of valid; the predictions as they are read, and as they are sent.
    assert sum(parses.values()) == 4


@pytest.mark.usefixtures("preds")
def test_nothing_is_written_into_the_data_folder(shell: Shell, folder: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (folder / "data").rglob("*"))
    problems(shell("submit"), 0)
    problems(shell("check", "submissions/submission-1"), 0)
    assert sorted((path, path.stat().st_mtime_ns) for path in (folder / "data").rglob("*")) == before
