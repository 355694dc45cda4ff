from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import EMOTIONS, Shell, problems, write_csv
from tests.simulated import draw_labels, predict

IDS = [f"{i:05}" for i in range(8072, 8272)]


def rows(values: np.ndarray) -> dict[str, list[float]]:
    return {name: row.tolist() for name, row in zip(IDS, values.astype(np.float32), strict=True)}


@pytest.fixture
def systems(folder: Path) -> Path:
    """`labels.csv`, `a.csv`, `b.csv` (as good as a), `c.csv` (bad) and `groups.csv` (20 speakers)."""
    rng = np.random.default_rng(3)
    labels = draw_labels(rng, len(IDS))
    write_csv(folder / "labels.csv", rows(labels))
    for name, error in (("a", 0.5), ("b", 0.5), ("c", 2.0)):
        write_csv(folder / f"{name}.csv", rows(predict(rng, labels, error)))
    write_csv(
        folder / "groups.csv", {name: [i // 10] for i, name in enumerate(IDS)}, header="Filename,speaker"
    )
    return folder


@pytest.mark.usefixtures("systems")
def test_score_against_rivals_tells_differences_and_what_could_be_shown(shell: Shell) -> None:
    done = shell("score", "a.csv", "labels.csv", "--against", "b.csv", "c.csv")
    problems(done, 0)
    assert "a.csv minus b.csv\n" in done.stdout
    assert "no difference is shown (p = " in done.stdout
    assert "these clips would mostly show one of 0." in done.stdout
    assert "a.csv is better than c.csv (p = 0.0002)\n" in done.stdout
    assert "200 clips, taken as independent\n" in done.stdout
    assert "|test:swap,10000,clips,seed:1,holm:2|" in done.stdout


@pytest.mark.usefixtures("systems")
def test_json_of_score_holds_every_difference(shell: Shell) -> None:
    arguments = ("score", "a.csv", "labels.csv", "--against", "c.csv", "--bootstrap", "200", "--json")
    done = shell(*arguments, "--groups", "groups.csv", "--interval", "bca", "--permutations", "99")
    problems(done, 0)
    result = json.loads(done.stdout)
    assert result["groups"] == 20
    assert "ci:bca,0.95,200,groups:20,seed:1|test:swap,99,groups:20" in result["signature"]
    (difference,) = result["against"]
    assert (difference["first"], difference["second"]) == ("a.csv", "c.csv")
    for key in ("difference", "interval", "p", "p_holm", "detectable"):
        assert list(difference[key]) == ["mean_pearson", *EMOTIONS]
    assert difference["verdict"] == "better"
    rival = json.loads(shell("score", "c.csv", "labels.csv", "--bootstrap", "0", "--json").stdout)
    gap = result["mean_pearson"] - rival["mean_pearson"]
    assert difference["difference"]["mean_pearson"] == pytest.approx(gap, abs=1e-12)


@pytest.mark.usefixtures("systems")
def test_the_same_command_prints_the_same(shell: Shell) -> None:
    arguments = ("compare", "a.csv", "b.csv", "c.csv", "labels.csv", "--bootstrap", "100")
    assert shell(*arguments).stdout == shell(*arguments).stdout
    assert shell(*arguments).stdout != shell(*arguments, "--seed", "2").stdout


@pytest.mark.usefixtures("systems")
def test_compare_in_every_form(shell: Shell) -> None:
    arguments = ("compare", "a.csv", "b.csv", "c.csv", "labels.csv", "--bootstrap", "100", "--format")
    text = {form: shell(*arguments, form) for form in ("table", "markdown", "latex", "csv", "json")}
    for done in text.values():
        assert "warning: intervals: made of 100 resamples; expected 200" in "".join(problems(done, 0))
    assert "taken as independent" in text["table"].stdout
    assert text["markdown"].stdout.startswith("Systems\n\n| System | Mean |")
    assert text["latex"].stdout.startswith("% Systems\n\\begin{tabular}{lrrrrrrrrr}")
    ranking = list(csv.DictReader(text["csv"].stdout.splitlines()))
    values = json.loads(text["json"].stdout)
    assert [row["system"] for row in ranking] == [entry["name"] for entry in values["systems"]]
    assert ranking[-1]["system"] == "c.csv"
    assert {entry["name"]: entry["beats"] for entry in values["systems"]}["a.csv"] == ["c.csv"]
    assert json.loads(shell(*arguments[:-1], "--json").stdout) == values


@pytest.mark.usefixtures("systems")
def test_problems_of_all_files_are_told_at_once(shell: Shell, systems: Path) -> None:
    (systems / "b.csv").write_text("Filename\n1\n")
    lines = problems(shell("compare", "a.csv", "b.csv", "missing.csv", "labels.csv"), 1)
    assert len(lines) == 7
    assert lines[-1] == "missing.csv: no such file"
    write_csv(systems / "groups.csv", {"8072": [1]}, header="Filename,speaker")
    lines = problems(shell("score", "a.csv", "labels.csv", "--groups", "groups.csv"), 1)
    assert lines[0].startswith("groups.csv: 199 ids without a group, against labels.csv: 08073, ")


@pytest.mark.usefixtures("systems")
def test_ids_that_do_not_match_are_told_beside_files_that_cannot_be_read(shell: Shell, systems: Path) -> None:
    header, *lines = (systems / "b.csv").read_text().splitlines()
    (systems / "b.csv").write_text("\n".join([header, *lines[1:]]) + "\n")
    write_csv(systems / "groups.csv", {"8072": [1]}, header="Filename,speaker")
    for command in (
        ("score", "a.csv", "labels.csv", "--against", "b.csv", "missing.csv", "--groups", "groups.csv"),
        ("compare", "a.csv", "b.csv", "missing.csv", "labels.csv", "--groups", "groups.csv"),
    ):
        assert [line[:40] for line in problems(shell(*command), 1)] == [
            "missing.csv: no such file",
            "b.csv: 1 id missing, against labels.csv:",
            "groups.csv: 199 ids without a group, aga",
        ]


def test_rivals_are_examined_too(shell: Shell, systems: Path) -> None:
    header, *lines = (systems / "b.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    swapped = [",".join([c[0], c[2], c[1], *c[3:6], "0.5"]) for c in cells]
    (systems / "odd.csv").write_text("\n".join([header, *swapped]) + "\n")
    done = shell("score", "a.csv", "labels.csv", "--against", "odd.csv", "--bootstrap", "0", "--json")
    lines = problems(done, 0)  # only what is scored must have all six r
    assert any(line.startswith("warning: odd.csv: columns look swapped (Amusement holds") for line in lines)
    said = "odd.csv, Joy: the predictions are constant, so Pearson's r is undefined; counted as 0"
    assert f"warning: {said}" in lines
    assert said in json.loads(done.stdout)["problems"]


def test_diagnostics_are_warnings_on_stderr_and_stand_in_json(shell: Shell, systems: Path) -> None:
    header, *lines = (systems / "a.csv").read_text().splitlines()
    ids, values = [line[:5] for line in lines], [line[5:] for line in lines]
    moved = [name + value for name, value in zip(ids, values[-3:] + values[:-3], strict=True)]
    (systems / "moved.csv").write_text("\n".join([header, *moved]) + "\n")
    done = shell("score", "moved.csv", "labels.csv", "--json", "--bootstrap", "0")
    lines = problems(done, 0)
    assert any("warning: moved.csv: rows look shifted by 3: mean r is" in line for line in lines)
    told = json.loads(done.stdout)
    (shifted,) = told["diagnostics"]
    assert (shifted["code"], shifted["severity"], shifted["where"]) == ("shifted", "warning", "moved.csv")
    assert shifted["message"] in told["problems"]
    # What scripts of before read.
    assert told["smells"] == told["diagnostics"]
    assert shifted["kind"] == "shifted"
    done = shell("compare", "a.csv", "moved.csv", "a.csv", "labels.csv")
    assert problems(done, 2) == ["predictions: given twice: a.csv; expected each once"]
    done = shell("score", "a.csv", "labels.csv", "--against", systems / "a.csv")
    assert len(problems(done, 2)) == 1  # the same file, spelled otherwise
    (systems / "copy.csv").write_bytes((systems / "a.csv").read_bytes())
    done = shell("compare", "a.csv", "copy.csv", "labels.csv", "--bootstrap", "0")
    said = "warning: a.csv: the same values as copy.csv; expected another system"
    assert said in problems(done, 0)


@pytest.mark.usefixtures("systems")
def test_it_works_without_torch(shell_without_torch: Shell) -> None:
    problems(shell_without_torch("compare", "a.csv", "b.csv", "labels.csv", "--bootstrap", "20"), 0)


@pytest.mark.parametrize("form", [["--json"], ["--format", "json"], ["--format=json"]])
def test_a_failure_is_one_json_object_too(form: list[str], shell: Shell, folder: Path) -> None:
    done = shell("compare", "no.csv", "none.csv", "data/valid_split.csv", *form)
    assert problems(done, 1) == ["no.csv: no such file", "none.csv: no such file"]
    assert json.loads(done.stdout) == {"problems": ["no.csv: no such file", "none.csv: no such file"]}
