"""The notebook in `examples/` runs as it stands, here on a folder like the demo's, in this process."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from abaw_emi.config.run import DataConfig, RunConfig
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.data.tables import read_labels, write_predictions
from abaw_emi.submission.write import write_submission
from tests.foreign_data import write_data
from tests.inference.test_predictor import write_run
from tests.small_models import small_model

NOTEBOOK = json.loads((Path(__file__).parents[1] / "examples" / "demo.ipynb").read_text(encoding="utf-8"))


def make_demo(folder: Path) -> None:
    data, rng = write_data(folder / "data"), np.random.default_rng(1)
    truth = read_labels(data / "valid_split.csv")
    for seed, error in ((1, 0.1), (2, 0.3)):
        config = RunConfig(data=DataConfig(max_seconds=1))
        run = write_run(folder / "runs" / f"tiny-seed{seed}", small_model("layer"), config)
        values = truth.select(EMOTIONS).to_numpy() + error * rng.standard_normal((len(truth), 6))
        columns = dict(zip(EMOTIONS, values.T, strict=True))
        write_predictions(truth.select(FILENAME).with_columns(**columns), run.valid_predictions)
    ids = [f"{number:05}" for number in range(20, 26)]
    values = rng.normal(0.3, 0.3, (6, len(ids)))
    test = pl.DataFrame({FILENAME: ids, **dict(zip(EMOTIONS, values, strict=True))})
    (folder / "predictions").mkdir()
    write_predictions(test, folder / "predictions" / "ensemble-test.csv")
    write_submission(test, ids, folder / "submissions", name="demo")


def test_the_notebook_runs_from_the_first_cell_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_demo(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABAW_EMI_CACHE", str(tmp_path / "cache"))
    names: dict[str, object] = {}
    shown = []
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            *body, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(body, []), "demo.ipynb", "exec"), names)
            assert isinstance(last, ast.Expr)
            shown.append(eval(compile(ast.Expression(last.value), "demo.ipynb", "eval"), names))
    _, predicted, scored, compared, combined, problems, clipped, checked = shown
    assert len(predicted) == 3
    assert scored.mean_pearson > compared.scores["tiny-seed2"].mean_pearson
    assert combined[2] in ("better", "worse", "not shown")
    assert all("is outside [0, 1]" in problem for problem in problems)
    assert sum(clipped.values()) >= len(problems) > 0
    assert not checked


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
