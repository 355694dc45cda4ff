"""What `ensemble --method` needs besides members: the labelled clips that a scheme is fitted or chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw_emi.errors import EmiError, Problem, UsageError, gather

if TYPE_CHECKING:
    import polars as pl

    from abaw_emi.challenge.combining import Recipe
    from abaw_emi.challenge.ensembling import Member
    from abaw_emi.learning.runs import Run
    from abaw_emi.progress import Reporter


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
    method: str, names: Sequence[str], files: Sequence[Path], labels: Path, groups: Path | None
) -> tuple[Recipe, pl.DataFrame]:
    """The recipe that `method` finds on the labelled clips, and their labels.

    Args:
        method: a fitted scheme, or "auto".
        names: of the members.
        files: each member's predictions of the labelled clips.
        labels: the label file.
        groups: a group file.

    Raises:
        EmiError: a file is not what it should be, or a member was trained on the labelled clips.
    """
    from abaw_emi.challenge.combining import METHODS, find_recipe
    from abaw_emi.challenge.facts import FILENAME
    from abaw_emi.challenge.grouping import read_groups
    from abaw_emi.challenge.provenance import read_provenance
    from abaw_emi.challenge.tables import read_labels, read_predictions

    problems: list[Problem] = []
    truth: list[pl.DataFrame] = []
    tables: dict[str, pl.DataFrame] = {}
    grouped: list[pl.DataFrame] = []
    with gather(problems):
        truth.append(read_labels(labels))
    for name, file in zip(names, files, strict=True):
        with gather(problems):
            tables[name] = read_predictions(file)
            record, found = read_provenance(file)
            problems += found
            seen = record.trained_on.intersection(truth[0][FILENAME]) if record and truth else ()
            if seen:
                told = f"it was trained on {len(seen):,} of the clips of {labels}"
                problems.append(Problem(str(file), told, "predictions of clips that it has not seen"))
    if groups is not None:
        with gather(problems):
            grouped.append(read_groups(groups))
    if problems:
        raise EmiError(problems)
    chosen = next(known for known in METHODS if known == method)
    recipe = find_recipe(truth[0], tables, chosen, groups=grouped[0] if grouped else None, name=str(labels))
    return recipe, truth[0]


def report_recipe(
    recipe: Recipe, gaps: Mapping[str, Sequence[str]], missing: str, reporter: Reporter
) -> None:
    """Prints how the schemes did out of fold, and warns of clips that members lack."""
    from abaw_emi.challenge.rendering import render
    from abaw_emi.cli.output import print_line

    warn_of_gaps(gaps, missing, reporter)
    if recipe.report is None:
        return
    print_line(render(recipe.report.sheet(), "table"))
    chosen = recipe.scheme == recipe.report.chosen and len(recipe.report.schemes) > 2
    print_line(f"{recipe.scheme}: {'the simplest that nothing beats' if chosen else 'as asked for'}")
    if recipe.weights is not None:
        shares = recipe.weights.mean(axis=0)
        parts = [f"{name} {share:.2f}" for name, share in zip(recipe.report.members, shares, strict=True)]
        print_line("weights: " + ", ".join(parts))
    print_line(recipe.report.signature)


def warn_of_gaps(gaps: Mapping[str, Sequence[str]], missing: str, reporter: Reporter) -> None:
    """Warns of clips that members lack, and says what became of them."""
    from abaw_emi.challenge.matching import list_ids

    done = "left out" if missing == "drop" else "combined from the members that have them"
    reporter.warn([Problem(name, list_ids(ids, f"missing; {done}")) for name, ids in gaps.items()])


def describe_recipe(recipe: Recipe, gaps: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What `ensemble --json` says of the recipe."""
    return {
        "method": recipe.scheme,
        "report": None if recipe.report is None else recipe.report.to_json(),
        "lacking": {name: list(ids) for name, ids in gaps.items()},
    }


def find_missing_names(members: Sequence[Member]) -> dict[str, list[str]]:
    """The clips that each member lacks and another one has."""
    from abaw_emi.challenge.combining import find_gaps

    return find_gaps({member.name: member.table for member in members})
