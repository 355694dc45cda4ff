"""What a killed `--overwrite` leaves is no run, and is named."""

from __future__ import annotations

from pathlib import Path

from abaw_emi.config.run import RunConfig
from abaw_emi.runs.kfold import find_fold_runs
from abaw_emi.runs.run import Run, find_runs
from abaw_emi.runs.summary import find_leftovers, summarise_runs


def test_a_run_that_was_being_removed_is_listed_nowhere_and_named(tmp_path: Path) -> None:
    for name in ("paper-fold1of2-seed1", ".paper-fold2of2-seed1.removed"):
        run = Run(tmp_path / name)
        run.folder.mkdir()
        run.write_config(RunConfig())
        run.write_provenance({"preset": "paper", "seed": 1, "fold": "1/2", "train_plus_val": False})
    assert [run.name for run in find_runs(tmp_path)] == ["paper-fold1of2-seed1"]
    assert [summary.run.name for summary in summarise_runs(tmp_path)[0]] == ["paper-fold1of2-seed1"]
    assert all("removed" not in str(problem) for problem in find_fold_runs(tmp_path, "paper")[1])
    (warning,) = find_leftovers(tmp_path)
    assert str(warning) == (
        f"{tmp_path}/.paper-fold2of2-seed1.removed: a run that --overwrite was removing when it was killed; "
        "delete it, or rename it to paper-fold2of2-seed1 to keep it"
    )
    assert find_leftovers(tmp_path / "paper-fold1of2-seed1") == []
