from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import EMOTIONS, HEADER, Shell, problems, test_ids, values, write_csv
from tests.simulated import draw_labels, predict


@pytest.fixture
def members(folder: Path) -> list[Path]:
    return [
        write_csv(folder / f"{name}.csv", values(test_ids(), seed, -0.5, 1.5))
        for seed, name in enumerate("abc")
    ]


def read(path: Path) -> dict[str, list[float]]:
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert header == HEADER.split(",")
    return {name: [float(cell) for cell in cells] for name, *cells in rows}


@pytest.mark.usefixtures("members")
def test_several_values_and_a_repeated_option_mean_the_same(shell: Shell, folder: Path) -> None:
    assert problems(shell("ensemble", "--preds", "a.csv", "b.csv", "c.csv", "--out", "one.csv"), 0) == []
    assert (
        problems(shell("ensemble", "--preds", "a.csv", "--out", "two.csv", "--preds", "b.csv", "c.csv"), 0)
        == []
    )
    assert (folder / "one.csv").read_bytes() == (folder / "two.csv").read_bytes()


def test_the_ensemble_is_the_mean_and_its_record_names_its_members(
    shell: Shell, folder: Path, members: list[Path]
) -> None:
    done = shell("ensemble", "--preds", *members, "--json")
    assert problems(done, 0) == []
    result = json.loads(done.stdout)
    assert result["path"] == "predictions/ensemble-test.csv"
    assert (result["rows"], result["problems"]) == (6, [])
    tables = [read(path) for path in members]
    for name, cells in read(folder / result["path"]).items():
        mean = [sum(table[name][k] for table in tables) / 3 for k in range(len(EMOTIONS))]
        assert cells == pytest.approx(mean, abs=1e-6)
    record = json.loads((folder / "predictions" / "ensemble-test.provenance.json").read_text())
    assert record["sha256"] == hashlib.sha256((folder / result["path"]).read_bytes()).hexdigest()
    assert record["members"] == [
        {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "provenance": None}
        for path in members
    ]
    assert (record["trained_on"], record["trained_on_complete"]) == ([], False)


def test_the_ensemble_says_what_it_replaces(shell: Shell, folder: Path, members: list[Path]) -> None:
    def replaced(*names: Path) -> str:
        said = shell("ensemble", "--preds", *names).stdout
        return said.partition("ensemble-test.csv: replaces ")[2].partition("\n")[0]

    two = [path.name for path in members[:2]]
    assert replaced(*members[:2]) == ""
    assert replaced(*members[:2]) == ""  # the same again
    assert replaced(members[2]) == f"mean of 2: {', '.join(two)}"
    (folder / "predictions" / "ensemble-test.provenance.json").unlink()
    assert replaced(members[0]) == "a file without a record"
    assert json.loads(shell("ensemble", "--preds", members[1], "--json").stdout)["replaced"] == two[0]


def test_what_the_members_were_trained_on_travels_on(shell: Shell, folder: Path, members: list[Path]) -> None:
    for path, ranges in zip(members[:2], (["00000-00004"], ["00003-00006"]), strict=True):
        record = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "command": "x",
            "version": "0",
            "split": "test",
            "trained_on": ranges,
            "trained_on_complete": True,
            "skipped": [],
            "read_from_video": {},
            "members": [],
        }
        path.with_suffix(".provenance.json").write_text(json.dumps(record))
    assert problems(shell("ensemble", "--preds", "a.csv", "b.csv", "--out", "ab.csv"), 0) == []
    record = json.loads((folder / "ab.provenance.json").read_text())
    assert (record["trained_on"], record["trained_on_complete"]) == (["00000-00006"], True)
    assert problems(shell("ensemble", "--preds", "a.csv", "c.csv", "--out", "ac.csv"), 0) == []
    record = json.loads((folder / "ac.provenance.json").read_text())
    # A member that does not tell takes nothing away from what another one tells.
    assert (record["trained_on"], record["trained_on_complete"]) == (["00000-00004"], False)


@pytest.mark.usefixtures("members")
def test_members_of_different_clips_are_refused_and_nothing_is_written(shell: Shell, folder: Path) -> None:
    write_csv(folder / "short.csv", values(test_ids()[:-1], 9))
    lines = problems(shell("ensemble", "--preds", "a.csv", "short.csv"), 1)
    assert lines == ["short.csv: 1 id missing, against a.csv: 00025"]
    assert not (folder / "predictions").exists()


@pytest.mark.usefixtures("members")
def test_a_file_that_cannot_be_written_is_named(shell: Shell, folder: Path) -> None:
    (line,) = problems(shell("ensemble", "--preds", "a.csv", "--out", "b.csv/x.csv"), 1)
    assert line.startswith("b.csv/x.csv: cannot be written")


# Schemes.

VALID = [f"{i:05}" for i in range(8072, 8192)]


@pytest.fixture
def fitted(folder: Path, members: list[Path]) -> Path:
    """Labels of 120 valid clips, and what a.csv's, b.csv's and c.csv's models predict for them."""
    rng = np.random.default_rng(5)
    labels = draw_labels(rng, len(VALID))
    write_csv(folder / "valid.csv", dict(zip(VALID, labels.tolist(), strict=True)))
    for member, error in zip(members, (0.5, 0.5, 6.0), strict=True):
        values = predict(rng, labels, error).tolist()
        write_csv(folder / f"valid-{member.name}", dict(zip(VALID, values, strict=True)))
    return folder


BAD = (
    "warning: valid-c.csv: mean r is -0.0419, what chance gives (within 0.1118); "
    "perhaps rows and ids do not belong together"
)
FIT = ("--fit", "valid-a.csv", "valid-b.csv", "valid-c.csv", "--labels", "valid.csv")


@pytest.mark.usefixtures("fitted")
def test_a_fitted_scheme_reports_out_of_fold_and_what_its_weights_saw(shell: Shell, folder: Path) -> None:
    arguments = ("ensemble", "--preds", "a.csv", "b.csv", "c.csv", *FIT, "--method", "weights")
    done = shell(*arguments)
    assert problems(done, 0) == [BAD]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Out of fold")
    assert [line.split("  ")[0] for line in lines[1:4]] == ["best single", "mean", "weights"]
    assert "weights: as asked for" in lines
    assert lines.pop() == "next: abaw-emi submit --preds predictions/ensemble-test.csv"
    assert lines[-1] == "predictions/ensemble-test.csv: weights of 3, 6 clips"
    assert "|crossfit:5x5,clips" in lines[-3]
    pairs = "a.csv on valid-a.csv, b.csv on valid-b.csv, c.csv on valid-c.csv"
    assert lines[-2] == f"fitted on: {pairs}"
    shares = [float(part.split()[-1]) for part in lines[-4].removeprefix("weights: ").split(", ")]
    assert shares[2] < min(shares[:2])
    record = json.loads((folder / "predictions" / "ensemble-test.provenance.json").read_text())
    assert record["trained_on"] == ["08072-08191"]  # the weights saw their labels
    assert record["scheme"]["scheme"] == "weights"
    assert "weights" in record["scheme"]["out_of_fold"]["schemes"]
    result = json.loads(shell(*arguments, "--json").stdout)
    assert result["method"] == "weights"
    assert result["fitted_on"] == {f"{name}.csv": f"valid-{name}.csv" for name in "abc"}
    assert result["report"]["schemes"]["weights"]["against_best"]["second"] == "best single"


@pytest.mark.usefixtures("fitted")
def test_auto_chooses_and_says_so(shell: Shell) -> None:
    done = shell("ensemble", "--preds", "a.csv", "b.csv", *FIT[:3], *FIT[4:], "--method", "auto")
    problems(done, 0)
    assert "mean: the simplest scheme that is not significantly outperformed" in done.stdout
    assert "predictions/ensemble-test.csv: mean of 2, 6 clips" in done.stdout


@pytest.mark.usefixtures("fitted")
def test_on_valid_itself_the_file_holds_out_of_fold_predictions(shell: Shell, folder: Path) -> None:
    done = shell(
        "ensemble", "--preds", *FIT[1:4], *FIT[4:], "--method", "greedy", "--split", "valid", "--out", "v.csv"
    )
    problems(done, 0)
    assert "v.csv: out of fold, greedy of 3, 120 clips" in done.stdout
    record = json.loads((folder / "v.provenance.json").read_text())
    assert record["trained_on"] == []
    told = record["scheme"]["out_of_fold"]["schemes"]["greedy"]["mean_pearson"]
    score = json.loads(shell("score", "v.csv", "valid.csv", "--bootstrap", "0", "--json").stdout)
    assert score["mean_pearson"] == pytest.approx(told, abs=1e-6)


@pytest.mark.usefixtures("fitted")
def test_members_that_saw_the_labelled_clips_are_refused(shell: Shell, folder: Path) -> None:
    path = folder / "valid-b.csv"
    record = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": "x",
        "version": "0",
        "split": "valid",
        "trained_on": ["00000-08100"],
        "trained_on_complete": True,
        "skipped": [],
        "read_from_video": {},
        "members": [],
    }
    path.with_suffix(".provenance.json").write_text(json.dumps(record))
    (line,) = problems(shell("ensemble", "--preds", "a.csv", "b.csv", "c.csv", *FIT, "--method", "auto"), 1)
    assert line.startswith("valid-b.csv: it was trained on 29 of the clips of valid.csv")


@pytest.mark.usefixtures("fitted")
def test_a_last_line_without_an_end_is_a_warning_wherever_predictions_are_read(
    shell: Shell, folder: Path
) -> None:
    for name in ("a.csv", "valid-a.csv"):
        (folder / name).write_bytes((folder / name).read_bytes().rstrip())
    cut = "warning: {}: ends without a line break; see that it is whole, and its last number"
    test, valid = cut.format("a.csv"), cut.format("valid-a.csv")
    pair = ("ensemble", "--preds", "a.csv", "b.csv")
    assert test in problems(shell(*pair), 0)
    assert {test, valid} <= set(problems(shell(*pair, *FIT[:3], *FIT[4:], "--method", "auto"), 0))
    on_valid = ("ensemble", "--preds", *FIT[1:3], *FIT[4:], "--split", "valid", "--method", "weights")
    assert problems(shell(*on_valid), 0).count(valid) == 1
    assert valid in problems(shell("score", "valid-a.csv", "valid.csv"), 0)
    assert test in problems(shell("check", "a.csv", "--kind", "predictions"), 0)
    assert test in problems(shell("submit", "--preds", "a.csv", "--bounds", "rescale"), 0)


@pytest.mark.usefixtures("fitted")
def test_a_fit_file_for_each_member(shell: Shell) -> None:
    (line,) = problems(shell("ensemble", "--preds", "a.csv", "b.csv", *FIT, "--method", "auto"), 2)
    assert line.startswith("--fit: 3 files; expected 2, one for each of --preds")


@pytest.mark.usefixtures("members")
def test_a_clip_that_one_member_lacks_is_told_with_its_id(shell: Shell, folder: Path) -> None:
    write_csv(folder / "short.csv", values(test_ids()[:-1], 9))
    arguments = ("ensemble", "--preds", "a.csv", "short.csv", "--on-missing")
    done = shell(*arguments, "others")
    said = "warning: short.csv: 1 id missing; combined from the members that have them: 00025"
    assert problems(done, 0) == [said]
    assert "6 clips" in done.stdout
    record = json.loads((folder / "predictions" / "ensemble-test.provenance.json").read_text())
    assert record["scheme"]["lacking"] == {"short.csv": ["00025"]}
    done = shell(*arguments, "drop", "--json")
    assert problems(done, 0) == ["warning: short.csv: 1 id missing; left out: 00025"]
    assert json.loads(done.stdout)["rows"] == 5


@pytest.mark.usefixtures("fitted")
def test_folds_are_drawn_over_groups_where_they_are_known(shell: Shell, folder: Path) -> None:
    groups = {name: [i // 8] for i, name in enumerate(VALID)}
    write_csv(folder / "groups.csv", groups, header="Filename,speaker")
    arguments = ("ensemble", "--preds", "a.csv", "b.csv", "c.csv", *FIT, "--method", "greedy")
    done = shell(*arguments, "--groups", "groups.csv")
    few = "warning: groups: 15 alone make intervals too narrow and p too small; expected 20 or more"
    assert problems(done, 0) == [BAD, few]
    assert "groups:15,seed:1" in done.stdout
    assert "|crossfit:5x5,groups\n" in done.stdout


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("method", ["mean", "zscores", "ranks"])
def test_what_a_method_does_not_look_at_is_refused(shell: Shell, method: str) -> None:
    arguments = ("ensemble", "--preds", "a.csv", "b.csv", "--method", method)
    assert problems(shell(*arguments, "--fit", "valid-a.csv", "valid-b.csv", "--groups", "g.csv"), 2) == [
        f"ensemble: --fit, --groups beside method {method}, which fits nothing; "
        "expected method auto, greedy, weights, emotion-weights, or none of them"
    ]
    assert len(problems(shell(*arguments, "--labels", "valid.csv"), 2)) == 1


def test_a_file_given_twice_is_refused_however_it_is_spelled(shell: Shell, fitted: Path) -> None:
    (line,) = problems(shell("ensemble", "--preds", "a.csv", fitted / "a.csv"), 2)
    assert line == f"ensemble: given twice: {fitted / 'a.csv'}; expected each once"
    repeated = ("--fit", "valid-a.csv", "valid-a.csv", "--labels", "valid.csv", "--method", "weights")
    (line,) = problems(shell("ensemble", "--preds", "a.csv", "b.csv", *repeated), 2)
    assert line == "--fit: given twice: valid-a.csv; expected each once"


def write_record(path: Path, split: str, run: str) -> None:
    record = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": "x",
        "version": "0",
        "split": split,
        "trained_on": [],
        "trained_on_complete": True,
        "skipped": [],
        "read_from_video": {},
        "members": [{"run": run}],
    }
    path.with_suffix(".provenance.json").write_text(json.dumps(record))


def test_fit_files_in_another_order_than_their_members_are_warned_of(shell: Shell, fitted: Path) -> None:
    for name in "ab":
        write_record(fitted / f"{name}.csv", "test", f"run-{name}")
        write_record(fitted / f"valid-{name}.csv", "valid", f"run-{name}")
    arguments = ("ensemble", "--preds", "a.csv", "b.csv", "--labels", "valid.csv", "--method", "weights")
    assert problems(shell(*arguments, "--fit", "valid-a.csv", "valid-b.csv"), 0) == []
    done = shell(*arguments, "--fit", "valid-b.csv", "valid-a.csv")
    assert problems(done, 0) == [
        "warning: a.csv: it comes from run-a, but is fitted on valid-b.csv, which comes from run-b; "
        "expected one run for both: fit (--fit) in the order of the members (--preds)",
        "warning: b.csv: it comes from run-b, but is fitted on valid-a.csv, which comes from run-a; "
        "expected one run for both: fit (--fit) in the order of the members (--preds)",
    ]
    assert "fitted on: a.csv on valid-b.csv, b.csv on valid-a.csv\n" in done.stdout


def test_members_are_examined(shell: Shell, fitted: Path) -> None:
    header, *lines = (fitted / "valid-b.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    swapped = [",".join([c[0], *c[2:], c[1]]) for c in cells]
    (fitted / "valid-b.csv").write_text("\n".join([header, *swapped]) + "\n")
    (fitted / "b.csv").write_bytes((fitted / "a.csv").read_bytes())
    arguments = ("ensemble", "--preds", "a.csv", "b.csv", "--labels", "valid.csv", "--method", "auto")
    done = shell(*arguments, "--fit", "valid-a.csv", "valid-b.csv", "--json")
    first, second = problems(done, 0)
    assert first.startswith("warning: valid-b.csv: columns look swapped (")
    assert second == "warning: a.csv: the same values as b.csv; expected another system"
    told = json.loads(done.stdout)["problems"]
    assert told == [line.removeprefix("warning: ") for line in (first, second)]
    (line,) = problems(shell(*arguments, "--fit", "valid-a.csv", "valid.csv"), 1)
    assert line == "valid.csv: these are the labels (mean r 1.0000); expected predictions"


def test_clips_of_another_split_are_refused(shell: Shell, folder: Path) -> None:
    write_csv(folder / "v.csv", values([f"{i:05}" for i in range(5, 17)], 8))
    assert problems(shell("ensemble", "--preds", "v.csv"), 1) == [
        "v.csv: 12 of its 12 clips stand in data/valid_split.csv; expected clips of test; "
        "--split valid, if that is meant"
    ]
    assert not (folder / "predictions").exists()
    assert problems(shell("ensemble", "--preds", "v.csv", "--split", "valid"), 0) == []
    assert problems(shell("ensemble", "--preds", "v.csv", "--data", "elsewhere"), 0) == [
        "warning: elsewhere: whether its clips are of test is not known: no train_split.csv, no "
        "valid_split.csv; name the data folder with --data"
    ]


def test_a_labelled_clip_that_one_member_lacks_is_filled_left_out_or_refused_as_is_said(
    shell: Shell, fitted: Path
) -> None:
    rows = (fitted / "valid-b.csv").read_text().splitlines()
    (fitted / "valid-b.csv").write_text("\n".join([*rows[:7], *rows[8:]]) + "\n")
    lacking = VALID[6]
    arguments = ("ensemble", "--preds", *FIT[1:3], *FIT[4:], "--method", "weights", "--split", "valid")
    done = shell(*arguments, "--on-missing", "others", "--out", "v.csv")
    used = "warning: valid.csv: 119 of 120 clips are used, which all members have"
    said = f"warning: valid-b.csv: 1 id missing; combined from the members that have them: {lacking}"
    assert problems(done, 0) == [used, said]
    assert "v.csv: out of fold, weights of 2, 120 clips" in done.stdout
    assert list(read(fitted / "v.csv")) == VALID
    done = shell(*arguments, "--on-missing", "drop", "--out", "v.csv")
    assert problems(done, 0) == [used, f"warning: valid-b.csv: 1 id missing; left out: {lacking}"]
    assert list(read(fitted / "v.csv")) == [name for name in VALID if name != lacking]
    assert problems(shell(*arguments, "--out", "w.csv"), 1) == [
        used,
        f"valid-b.csv: 1 id missing, against valid-a.csv: {lacking}",
    ]
    assert not (fitted / "w.csv").exists()
