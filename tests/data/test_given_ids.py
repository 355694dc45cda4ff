"""Ids that people give in Python, as numbers, text, files or frames, mean the same clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import abaw_emi
from abaw_emi.core.errors import EmiError
from tests.simulated import draw_labels, name, predict

RNG = np.random.default_rng(5)
TRUTH = draw_labels(RNG, 60)
LABELS, A, B = (name(values) for values in (TRUTH, predict(RNG, TRUTH, 3), predict(RNG, TRUTH, 4)))

SEEN: dict[str, Callable[[Path], Any]] = {
    "text": lambda _: ["08072", "08073"],
    "integers": lambda _: [8072, 8073],
    "numpy": lambda _: np.array([8072, 8073]),
    "a series": lambda _: pd.Series(["8072", "8073"]),
    "a frame": lambda _: LABELS[:2],
    "a pandas frame": lambda _: pd.DataFrame({"Filename": [8072, 8073]}),
    "a file": lambda folder: abaw_emi.write_predictions(LABELS[:2], folder / "train_split.csv"),
}


@pytest.mark.parametrize("form", SEEN)
def test_what_a_predictor_was_trained_on_is_known_in_every_form(form: str, tmp_path: Path) -> None:
    seen = SEEN[form](tmp_path)
    assert abaw_emi.score(LABELS, A, trained_on=seen, resamples=0).seen == 2
    compared = abaw_emi.compare(LABELS, {"a": A, "b": B}, trained_on={"b": seen}, resamples=0)
    assert {system: found.seen for system, found in compared.scores.items()} == {"a": 0, "b": 2}
    with pytest.raises(EmiError, match=r"^b: it was trained on 2 of the clips of labels"):
        abaw_emi.ensemble({"a": A, "b": B}, "auto", labels=LABELS, trained_on={"b": seen})


def test_a_single_id_and_names_of_no_system_are_refused() -> None:
    systems = {"a": A, "b": B}
    single: Any = "08072"
    with pytest.raises(EmiError, match=r"^trained_on: a single id, '08072'; expected a list of ids"):
        abaw_emi.score(LABELS, A, trained_on=single)
    calls: list[Callable[..., object]] = [
        lambda **given: abaw_emi.compare(LABELS, systems, **given),
        lambda **given: abaw_emi.ensemble(systems, "auto", labels=LABELS, **given),
        lambda **given: abaw_emi.ensemble(systems, **given),
        lambda **given: abaw_emi.find_recipe(LABELS, systems, **given),
    ]
    for call in calls:
        with pytest.raises(EmiError) as caught:
            call(trained_on={"a": "08072", "c": [1], "b": 7})
        assert [str(problem) for problem in caught.value.problems] == [
            "trained_on, a: a single id, '08072'; expected a list of ids",
            "trained_on: no system 'c'; expected one of a, b",
            "trained_on, b: a int; expected a list of ids, a path, or a frame of polars or pandas",
        ]


def test_a_frame_without_ids_is_refused() -> None:
    with pytest.raises(EmiError, match=r"^trained_on: column Filename is missing"):
        abaw_emi.score(LABELS, A, trained_on=pl.DataFrame({"id": [1]}))
