"""What a notebook shows of a score and of a comparison."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from abaw_emi import check_submission, compare, read_labels, read_predictions, score, write_predictions
from abaw_emi.core.constants import EMOTIONS

pytest.importorskip("matplotlib").use("Agg")


@pytest.fixture
def tables() -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(0)
    truth = rng.random((60, 6))
    values = {"truth": truth, "a": truth + rng.normal(size=truth.shape), "<b>": rng.random(truth.shape)}
    names = {"Filename": [f"{number:05}" for number in range(60)]}
    return {
        name: pl.DataFrame(names | dict(zip(EMOTIONS, array.T, strict=True)))
        for name, array in values.items()
    }


def test_a_score_is_a_dict_a_frame_a_table_and_a_plot(tables: dict[str, pl.DataFrame]) -> None:
    found = score(tables["truth"], tables["a"].with_columns(Joy=pl.lit(0.5)), resamples=200)
    values = found.to_dict()
    assert values["mean_pearson"] == found.mean_pearson
    assert values["pearson"]["Joy"] is None
    assert values.keys() == {each.name for each in fields(found)} - {"problems"}
    assert found.numbers.items() < values.items()
    frame = found.to_frame()
    assert frame["Statistic"].to_list() == ["mean_pearson", *EMOTIONS]
    assert frame["r"].to_list() == [found.mean_pearson, *found.pearson.values()]
    assert frame["low"][0] == found.interval["mean_pearson"][0]
    assert frame.row(-1) == ("Joy", None, None, None)
    html = found._repr_html_()
    assert f"<td>{found.mean_pearson:.4f}</td>" in html
    assert "<td>undefined</td>" in html
    axes = found.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["mean", *EMOTIONS]
    points = axes.lines[0].get_ydata()
    assert np.isnan(points[-1])  # an undefined correlation is no point at 0
    assert np.isfinite(points[:-1]).all()
    assert found.plot(axes) is axes


def test_a_comparison_is_a_frame_a_table_whose_names_are_escaped_and_a_plot(
    tables: dict[str, pl.DataFrame],
) -> None:
    found = compare(tables["truth"], {"<b>": tables["<b>"], "a": tables["a"]}, resamples=200)
    values = found.to_dict()
    assert values.keys() == {"n", "signature", "systems", "pairs"}
    for system, score_of_it in zip(values["systems"], found.scores.values(), strict=True):
        assert score_of_it.numbers.items() < system.items()
    frame = found.to_frame()
    assert frame["System"].to_list() == ["a"] * 7 + ["<b>"] * 7
    assert frame.filter(Statistic="mean_pearson")["r"].to_list() == [
        each.mean_pearson for each in found.scores.values()
    ]
    html = found._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert [text.get_text() for text in found.plot().get_legend().get_texts()] == ["a", "<b>"]


def test_paths_are_text_or_paths_and_a_frame_is_checked_as_a_file_would_be(
    tables: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    path = write_predictions(tables["truth"], str(tmp_path / "preds.csv"))
    assert path == tmp_path / "preds.csv"
    assert read_predictions(str(path)).equals(read_predictions(path))
    assert read_labels(str(path)).equals(read_labels(path))
    ids = tables["truth"]["Filename"].to_list()
    sent = tables["truth"].with_columns(pl.col(EMOTIONS).cast(pl.Float32))
    assert check_submission(sent, ids).problems == ()
    assert check_submission(pd.DataFrame(sent.to_dict(as_series=False)), ids).problems == ()
    (problem,) = check_submission(sent.with_columns(Joy=pl.col("Joy") + 1.0), ids).problems[:1]
    assert "is outside [0, 1]" in str(problem)
    assert check_submission(str(path), ids).problems == ()
