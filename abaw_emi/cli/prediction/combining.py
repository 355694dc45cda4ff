"""What `ensemble --method` needs besides members: the labelled clips that a scheme is fitted or chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw_emi.core.errors import EmiError, Problem, UsageError, gather

if TYPE_CHECKING:
    import polars as pl

    from abaw_emi.core.progress import Reporter
    from abaw_emi.data.provenance import Provenance
    from abaw_emi.ensembling.combine import Recipe
    from abaw_emi.ensembling.members import Member
    from abaw_emi.runs.run import Run


def find_fit_files(runs: Sequence[Run], preds: Sequence[Path], fit: Sequence[Path], split: str) -> list[Path]:
    """Each member's predictions of the labelled clips: a run's own, and for a file its place in `--fit`.

    Raises:
        EmiError: a run has none, since it was trained on them; all such runs are named.
        UsageError: not one file of `--fit` for each of `--preds`.
    """
    if split == "valid" and not fit:
        fit = preds
    if len(fit) != len(preds):
        expected = f"{len(preds)}, one for each of --preds, in the same order: its predictions of valid"
        raise UsageError(Problem("--fit", f"{len(fit)} files", expected))
    problems = [
        Problem(
            str(run.valid_predictions),
            "no such file: a run on train+val has no predictions of valid to fit weights on",
            next_step="use --method mean, zscores or ranks",
        )
        for run in runs
        if not run.valid_predictions.is_file()
    ]
    if problems:
        raise EmiError(problems)
    return [*(run.valid_predictions for run in runs), *fit]


def fit_recipe(
    method: str, files: Mapping[str, Path], labels: Path, groups: Path | None
) -> tuple[Recipe, pl.DataFrame, list[Problem]]:
    """The recipe that `method` finds on the labelled clips, their labels, and warnings.

    Args:
        method: a fitted scheme, or "auto".
        files: each member's predictions of the labelled clips, by its name.
        labels: the label file.
        groups: a group file.

    Raises:
        EmiError: a file is not what it should be, or a member was trained on the labelled clips.
    """
    from abaw_emi.core.constants import FILENAME
    from abaw_emi.data.groups import number_groups, read_groups
    from abaw_emi.data.provenance import read_provenance
    from abaw_emi.data.tables import read_labels, read_predictions
    from abaw_emi.ensembling.combine import METHODS, find_recipe
    from abaw_emi.evaluation.diagnostics import diagnose_systems

    problems: list[Problem] = []
    warnings: list[Problem] = []
    truth: list[pl.DataFrame] = []
    tables: dict[str, pl.DataFrame] = {}
    grouped: list[pl.DataFrame] = []
    with gather(problems):
        truth.append(read_labels(labels))
    for name, file in files.items():
        with gather(problems):
            tables[name] = read_predictions(file)
            record, found = read_provenance(file)
            problems += found
            seen = record.trained_on.intersection(truth[0][FILENAME]) if record and truth else ()
            if seen:
                told = f"it was trained on {len(seen):,} of the clips of {labels}"
                problems.append(Problem(str(file), told, "predictions of clips that it has not seen"))
            warnings += _doubt_pair(name, file, record)
    if groups is not None:
        with gather(problems):
            grouped.append(read_groups(groups))
            if truth:
                clips = set(truth[0][FILENAME]).intersection(*(t[FILENAME] for t in tables.values()))
                number_groups(grouped[0], sorted(clips or truth[0][FILENAME]), (str(labels), str(groups)))
    if truth:
        diagnostics = diagnose_systems({str(files[name]): table for name, table in tables.items()}, truth[0])
        problems += [found for found in diagnostics if found.code == "labels"]
        warnings += diagnostics
    if problems:
        raise EmiError(problems)
    chosen = next(known for known in METHODS if known == method)
    recipe = find_recipe(truth[0], tables, chosen, groups=grouped[0] if grouped else None, name=str(labels))
    if recipe.report is not None:
        warnings += recipe.report.problems
    return recipe, truth[0], warnings


def tell_splits(members: Sequence[Member], data: Path, split: str) -> list[Problem]:
    """A warning where it is not known of which split the members' clips are.

    Args:
        members: those that are files: runs predict what they are asked for.
        data: the data folder, whose label files tell the clips of train and valid.
        split: what the members are said to predict.

    Raises:
        EmiError: clips of a member stand in another split's label file; all such members.
    """
    from abaw_emi.core.constants import FILENAME
    from abaw_emi.data.tables import read_ids

    problems: list[Problem] = []
    known = [data / f"{other}_split.csv" for other in ("train", "valid")]
    for file in known:
        if file.name == f"{split}_split.csv" or not file.is_file():
            continue
        ids = set(read_ids(file))
        for member in members:
            if others := ids.intersection(member.table[FILENAME]):
                found = f"{len(others):,} of its {len(member.table):,} clips stand in {file}"
                step = f"--split {file.stem.partition('_')[0]}, if that is meant"
                problems.append(Problem(member.name, found, f"clips of {split}", step))
    if problems:
        raise EmiError(problems)
    if members and not any(file.is_file() for file in known):
        found = f"whether its clips are of {split} is not known: no train_split.csv, no valid_split.csv"
        return [Problem(str(data), found, next_step="name the data folder with --data")]
    return []


def print_recipe(recipe: Recipe, files: Mapping[str, Path]) -> None:
    """Prints how the schemes did out of fold, what was chosen, and what each member was judged on."""
    from abaw_emi.cli.output import print_line
    from abaw_emi.evaluation.text_tables import render

    if recipe.report is None:
        return
    print_line(render(recipe.report.sheet(), "table"))
    chosen = recipe.scheme == recipe.report.chosen and len(recipe.report.schemes) > 2
    print_line(f"{recipe.scheme}: {'the simplest that nothing beats' if chosen else 'as asked for'}")
    if recipe.weights is not None:
        shares = recipe.weights.mean(axis=0)
        parts = [f"{name} {share:.2f}" for name, share in zip(recipe.report.members, shares, strict=True)]
        print_line("weights: " + ", ".join(parts))
    if any(name != str(file) for name, file in files.items()):
        print_line("fitted on: " + ", ".join(f"{name} on {file}" for name, file in files.items()))
    print_line(recipe.report.signature)


def warn_of_gaps(gaps: Mapping[str, Sequence[str]], missing: str, reporter: Reporter) -> None:
    """Warns of clips that members lack, and says what became of them."""
    from abaw_emi.data.align import list_ids

    done = "left out" if missing == "drop" else "combined from the members that have them"
    reporter.warn([Problem(name, list_ids(ids, f"missing; {done}")) for name, ids in gaps.items()])


def describe_recipe(
    recipe: Recipe, gaps: Mapping[str, Sequence[str]], files: Mapping[str, Path]
) -> dict[str, Any]:
    """What `ensemble --json` says of the recipe."""
    return {
        "method": recipe.scheme,
        "report": None if recipe.report is None else recipe.report.to_json(),
        "fitted_on": {name: str(file) for name, file in files.items()},
        "lacking": {name: list(ids) for name, ids in gaps.items()},
    }


def _doubt_pair(name: str, file: Path, fitted: Provenance | None) -> list[Problem]:
    """A warning where the records of a member and of what it is fitted on name other runs."""
    from abaw_emi.data.provenance import read_provenance

    member = Path(name)
    if fitted is None or not member.is_file():
        return []
    record, _ = read_provenance(member)
    runs = [sorted({str(run["run"]) for run in of.runs()}) for of in (record, fitted) if of]
    if len(runs) < 2 or not all(runs) or runs[0] == runs[1]:
        return []
    found = (
        f"it comes from {', '.join(runs[0])}, but is fitted on {file}, which comes from {', '.join(runs[1])}"
    )
    return [Problem(name, found, "--fit in the order of --preds")]
