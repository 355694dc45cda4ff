"""What a search tries: options of a run, with the values or the range of each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw_emi.config.read import change_config, has_key, list_keys
from abaw_emi.config.run import RunConfig
from abaw_emi.core.errors import ConfigError, Problem, collect_errors
from abaw_emi.core.records import read_toml
from abaw_emi.core.suggest import suggest_name

if TYPE_CHECKING:
    import optuna

_OF_RANGE = {"low", "high", "log"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """An option that is searched over.

    Attributes:
        key: as `--set` has it.
        choices: its values; or
        low, high: the ends of its range.
        log: whether the range is even in the logarithm.
        whole: whether only whole numbers are meant.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def size(self) -> float:
        """How many values it has: infinity for a range of real numbers."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.whole else math.inf

    def pick(self) -> Any:
        """One of its values, each as likely as the others."""
        if self.choices:
            return random.choice(self.choices)
        if self.whole:
            return random.randint(int(self.low), int(self.high))
        return random.uniform(self.low, self.high)

    def suggest(self, trial: optuna.Trial) -> Any:
        """The value that a trial tries."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def format(self, value: Any) -> str:
        """A value as `--set` has it."""
        number = int(value) if self.whole else value
        return f"{self.key}={str(number).lower() if isinstance(number, bool) else number}"


def read_space(path: Path, config: RunConfig) -> tuple[Dimension, ...]:
    """The options to search over, of a TOML file with a line for each.

        training.learning_rate = {low = 1e-5, high = 1e-3, log = true}
        training.loss = ["mse", "mse+0.5*pearson"]

    Keys may stand in quotation marks, or in tables.

    Raises:
        ConfigError: the file, with all that is wrong in it.
    """
    problems: list[Problem] = []
    space: list[Dimension] = []
    for key, value in _list_leaves(read_toml(path, ConfigError, "what to search over"), config):
        where = f"{path}, {key}"
        if not has_key(config, key):
            step = suggest_name(key, list_keys(config)) or "abaw-emi options lists them"
            problems.append(Problem(where, "no option of the run", next_step=step))
        elif any(dimension.key == key for dimension in space):
            problems.append(Problem(where, "given twice", "each option once"))
        elif isinstance(value, list) and len(value) > 1 and not _find_twice(value):
            space.append(Dimension(key=key, choices=tuple(value)))
        elif isinstance(value, dict) and (found := _read_range(key, value)):
            space.append(found)
        else:
            expected = "a list of different values, or {low = A, high = B}, A < B, and log = true if wanted"
            problems.append(Problem(where, repr(value), expected))
    if not problems and not space:
        problems.append(Problem(str(path), "nothing to search over"))
    for dimension in space:
        for end in dimension.choices or (dimension.low, dimension.high):
            with collect_errors(problems):  # a value that the option cannot have
                change_config(config, [dimension.format(end)])
    if problems:
        raise ConfigError(problems)
    return tuple(space)


def _list_leaves(table: Mapping[str, Any], config: RunConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a table and of those inside it, by their dotted keys; a range is no table."""
    for name, value in table.items():
        key = f"{prefix}{name}"
        if not isinstance(value, dict) or set(value) <= _OF_RANGE or has_key(config, key):
            yield key, value
        else:
            yield from _list_leaves(value, config, f"{key}.")


def _find_twice(values: Sequence[Any]) -> bool:
    return any(value in values[:place] for place, value in enumerate(values))


def _read_range(key: str, value: Mapping[str, Any]) -> Dimension | None:
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if set(value) - _OF_RANGE or not numbers or not isinstance(log, bool):
        return None
    assert low is not None
    assert high is not None
    if not low < high or (log and low <= 0):
        return None
    whole = isinstance(low, int) and isinstance(high, int)
    return Dimension(key=key, low=low, high=high, log=log, whole=whole)
