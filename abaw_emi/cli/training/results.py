"""What `train` prints at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from abaw_emi.cli.next_step import keep, print_next, retype
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.errors import Problem
from abaw_emi.core.progress import Reporter

if TYPE_CHECKING:
    from abaw_emi.runs.run import Run
    from abaw_emi.training.verify_resume import Verification


def print_runs(runs: list[Run], reporter: Reporter) -> None:
    """Prints the runs that were trained, and what to do with them."""
    keys = ("seed", "best_epoch", "valid", "train_plus_val", "weights_sha256")
    values, lines = [], []
    for run in runs:
        record = run.read_provenance()
        values.append({"run": str(run.folder), **{key: record.get(key) for key in keys}})
        scored = "no validation"
        if valid := record.get("valid"):
            scored = f"valid mean Pearson {valid['mean_pearson']:.4f} (selected on it)"
        lines.append(f"{run.folder}: epoch {record['best_epoch']}, {scored}")

    def show() -> None:
        print_line("\n".join(lines) or "every run is in use by another process")
        if runs:
            print_next("ensemble", "--ckpts", *(run.folder for run in runs), *keep("--data", "--features"))

    print_result({"runs": values}, show, reporter.warnings)


def print_verification(verification: Verification, reporter: Reporter) -> None:
    """Prints whether a killed and resumed run is the same; it ends the command where it is not."""
    from dataclasses import asdict

    found = f"SHA-256 {verification.resumed} after {verification.kills} kills"
    advice = "resume on the same machine, versions and device; this one does not repeat itself exactly"
    problem = Problem("--verify-resume", found, f"{verification.straight}, as uninterrupted", advice)
    same = verification.identical
    done = f"identical: killed {verification.kills} times and resumed, the weights are the same bits"

    def show() -> None:
        print_line(f"{done}\nSHA-256 {verification.straight}" if same else "not identical")
        if same:
            print_next(*retype("--verify-resume"))

    print_result({**asdict(verification), "identical": same}, show, [] if same else [problem])
    if not same:
        reporter.fail([problem])
        raise typer.Exit(1)
