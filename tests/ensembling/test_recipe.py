"""A recipe belongs to its members by their names, and to no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import abaw_emi
from abaw_emi.core.errors import UsageError
from tests.simulated import draw_labels, name, predict

RNG = np.random.default_rng(7)
TRUTH = draw_labels(RNG, 80)
LABELS, A, B = (name(values) for values in (TRUTH, predict(RNG, TRUTH, 2), predict(RNG, TRUTH, 5)))


def test_weights_follow_the_members_names_whatever_their_order() -> None:
    recipe = abaw_emi.find_recipe(LABELS, {"a": A, "b": B}, "emotion-weights")
    combined = abaw_emi.ensemble({"a": A, "b": B}, recipe=recipe)
    assert abaw_emi.ensemble({"b": B, "a": A}, recipe=recipe).equals(combined)
    assert not abaw_emi.ensemble({"a": B, "b": A}, recipe=recipe).equals(combined)


@pytest.mark.parametrize("method", ["mean", "ranks", "weights"])
def test_a_recipe_for_other_members_is_refused(method: Any) -> None:
    recipe = abaw_emi.find_recipe(LABELS, {"a": A, "b": B}, method)
    for members in ({"x": A, "y": B}, {"a": A, "b": B, "c": A}, {"a": A}):
        with pytest.raises(UsageError) as caught:
            abaw_emi.ensemble(members, recipe=recipe)
        said = f"ensemble: recipe has a, b; expected the members' names: {', '.join(members)}"
        assert str(caught.value) == said


def test_what_is_no_recipe_is_refused() -> None:
    given: Any = [0.5, 0.5]
    with pytest.raises(UsageError, match=r"^recipe: a list; expected what find_recipe returns"):
        abaw_emi.ensemble({"a": A, "b": B}, recipe=given)


def test_members_named_by_numbers_are_refused_in_words_where_fit_has_others() -> None:
    members: Any = {1: A, 2: B}
    fit: Any = {1: A, 3: B}
    with pytest.raises(UsageError, match=r"^ensemble: fit has 1, 3; expected the members' names: 1, 2"):
        abaw_emi.ensemble(members, "weights", labels=LABELS, fit=fit)
