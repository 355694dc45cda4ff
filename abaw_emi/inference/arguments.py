"""The arguments of `Predictor.predict`: looked at before anything is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from abaw_emi.batching.examples import InputSpec
from abaw_emi.core.cache import CachedArray
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.data.suffixes import SOUND, VIDEO
from abaw_emi.features.files import read_array
from abaw_emi.features.reader import FrameLimits

Input = str | os.PathLike[str] | Any
"""A file, or a waveform (T,): an array, a tensor or a list of floats."""


def check_arguments(
    spec: InputSpec,
    inputs: Iterable[Input | None],
    features: Mapping[str, Sequence[Any]],
    sample_rate: int | None,
) -> Sequence[Input | None]:
    """The inputs, one for each row.

    Raises:
        UsageError: arguments that do not fit each other or the system.
    """
    inputs = _list_inputs(inputs)
    problems = [
        Problem("features", f"no feature {name!r}", f"one of {', '.join(spec.names) or 'none'}")
        for name in features
        if name not in spec.names
    ]
    counts = {len(values) for values in features.values()} | ({len(inputs)} if inputs else set())
    if len(counts) > 1:
        problems.append(Problem("inputs and features", f"{sorted(counts)} of each", "one for each row"))
    if any(one is not None and not isinstance(one, (str, os.PathLike)) for one in inputs):
        problems += _check_rate(sample_rate)
    if problems:
        raise UsageError(problems)
    return inputs or [None] * max(counts, default=0)


def _list_inputs(inputs: Iterable[Input | None]) -> list[Input | None]:
    """The inputs as a list.

    Raises:
        UsageError: they are one input, or a folder of them.
    """
    if isinstance(inputs, (str, os.PathLike)):
        path = os.fspath(inputs)
        if Path(path).is_dir():
            raise UsageError(Problem("inputs", f"a folder, {path}", "a list of files", _suggest(Path(path))))
        raise UsageError(Problem("inputs", "a single path", "a list of inputs", f"[{path!r}]"))
    if not isinstance(inputs, Iterable):
        raise UsageError(Problem("inputs", f"a {type(inputs).__name__}", "a list of files or waveforms"))
    listed = list(inputs)
    if listed and (isinstance(listed[0], Real) or getattr(listed[0], "ndim", None) == 0):
        raise UsageError(Problem("inputs", "a single waveform", "a list of inputs", "give [waveform]"))
    return listed


def _suggest(folder: Path) -> str:
    """How to list the files of a folder in Python, or to predict a data folder."""
    suffixes = sorted({file.suffix for file in folder.iterdir()} & {*SOUND, *VIDEO})
    if suffixes:
        return f"sorted(Path({str(folder)!r}).glob('*{suffixes[0]}'))"
    return f"predict_split({str(folder)!r}, 'test') predicts a split of a data folder"


def _check_rate(rate: object) -> list[Problem]:
    """A problem where a sample rate is missing, or is none."""
    found = "not given" if rate is None else repr(rate)
    if isinstance(rate, Real) and float(rate) > 0 and float(rate).is_integer():
        return []
    return [Problem("sample_rate", found, "the rate of the waveforms, in Hz, such as 16000")]


def check_waveform(values: Any, where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A waveform (T,) in float32.

    Raises:
        UsageError: it is not a mono waveform of finite floats.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError(Problem(where, f"shape {array.shape}", "(T,): mono", "average the channels"))
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(Problem(where, f"{array.dtype} numbers", "floats", "int16 samples: divide by 32768"))
    if not np.isfinite(array).all():
        raise UsageError(Problem(where, "NaN or infinite samples", "finite ones"))
    return array.astype(np.float32)


def hold_features(values: Any, where: str, width: int, limits: FrameLimits) -> CachedArray:
    """Features (F, D) of a file or an array, in memory.

    Raises:
        EmiError: the file cannot be read, or the numbers are not finite or not `width` a frame.
    """
    array = read_array(Path(values)) if isinstance(values, (str, os.PathLike)) else np.asarray(values)
    if array.ndim != 2 or array.shape[1] != width or not len(array):
        raise UsageError(Problem(where, f"shape {array.shape}", f"(F, {width}), as the run was trained"))
    array = limits.apply(array.astype(np.float32))
    if not np.isfinite(array).all():
        raise UsageError(Problem(where, "NaN or infinite numbers", "finite ones"))
    return CachedArray.hold(array)
