from __future__ import annotations

import pytest

from abaw_emi.core import errors
from abaw_emi.core.errors import EmiError, Problem

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EmiError)
]


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (Problem("x.csv, line 4", "1.5 is outside [0, 1]"), "x.csv, line 4: 1.5 is outside [0, 1]"),
        (Problem("x.csv", "a", "b"), "x.csv: a; expected b"),
        (Problem("x.csv", "a", next_step="c"), "x.csv: a; c"),
        (Problem("x.csv", "a", "b", "c"), "x.csv: a; expected b; c"),
    ],
)
def test_a_problem_is_one_line_of_where_what_expected_and_the_next_step(problem: Problem, line: str) -> None:
    assert str(problem) == line


def test_an_error_carries_one_problem_or_many_and_says_one_a_line() -> None:
    first, second = Problem("a", "1"), Problem("b", "2")
    assert EmiError(first).problems == (first,)
    error = EmiError(problem for problem in (first, second))
    assert error.problems == (first, second)
    assert str(error) == "a: 1\nb: 2"


def test_every_error_of_the_package_is_also_a_builtin_one() -> None:
    builtin = (ValueError, RuntimeError, ImportError)
    assert len(CLASSES) > 5
    assert [error for error in CLASSES if error is not EmiError and not issubclass(error, builtin)] == []
