"""What two configurations do not share, key by key, and the `--set` words that lead from one to the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from abaw_emi.config.run import RunConfig

_FEATURES = "model.features"


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that has another value in each.

    Attributes:
        key: as `--set` has it; `model.features` where the two read other folders, or in another order.
        found: the value of the one.
        asked: the value of the other.

    >>> print(Difference("training.epochs", 30, 3))
    training.epochs is 30, not 3
    """

    key: str
    found: Any
    asked: Any

    def __str__(self) -> str:
        values = (self.found, self.asked)
        found, asked = map(_name, values) if self.key == _FEATURES else values
        return f"{self.key} is {found!r}, not {asked!r}"

    @property
    def change(self) -> str:
        """What `--set` takes to have the value of the first in the second.

        >>> Difference("training.loss", "mse", "ccc").change
        'training.loss="mse"'
        """
        return f"{self.key}={_to_toml(self.found)}"


def compare_configs(found: RunConfig, asked: RunConfig) -> list[Difference]:
    """What two runs do not share.

    >>> from abaw_emi.config.run import TrainingConfig
    >>> [str(each) for each in compare_configs(RunConfig(), RunConfig(training=TrainingConfig(epochs=3)))]
    ['training.epochs is 30, not 3']
    """
    first, second = (_flatten(asdict(config)) for config in (found, asked))
    if _name(first[_FEATURES]) == _name(second[_FEATURES]):
        first, second = _open_features(first), _open_features(second)
    return [Difference(key, value, second[key]) for key, value in first.items() if second[key] != value]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values by their dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _open_features(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of each feature in the place of the features."""
    numbered = {str(number): feature for number, feature in enumerate(flat[_FEATURES])}
    return {key: value for key, value in flat.items() if key != _FEATURES} | _flatten(
        numbered, f"{_FEATURES}."
    )


def _name(features: Sequence[Mapping[str, Any]]) -> list[str]:
    return [feature["name"] for feature in features]


def _to_toml(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_to_toml(each)}' for name, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_to_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
