"""Several runs predict one split: each clip is read once, and what was predicted before is not run again.

Predictions are kept in the cache. They belong to a run's weights and config, to the very samples of the
clips, and to the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import torch

from abaw_emi.batching.examples import Example, Inputs, InputSpec, read_inputs
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import EMOTIONS, FILENAME, OnBadClip, Split
from abaw_emi.core.errors import CorpusError, Problem, RunError, collect_errors
from abaw_emi.core.hashing import hash_file, sha256
from abaw_emi.core.ids import pack_ids, unpack_ids
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.ensembling.members import Member, Members
from abaw_emi.inference.engine import ARITHMETIC
from abaw_emi.inference.frozen_encoder import encode_examples, identify_clip
from abaw_emi.inference.predict import (
    describe_run,
    load_model,
    make_table,
    predict,
    read_spec,
    verify_weights,
)
from abaw_emi.models.device import Runtime
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run


def predict_runs(
    runs: Sequence[Run], data: DataFolder, split: Split, runtime: Runtime, *, on_bad: OnBadClip = "error"
) -> Members:
    """Predicts `split` with each of the runs, one after the other; what was predicted before is read back.

    Args:
        runs: finished ones.
        data: the data folder.
        split: what to predict.
        runtime: what the models run with (`Runtime.for_prediction`).
        on_bad: "skip" leaves out clips that cannot be read, and lists them.

    Raises:
        EmiError: the data, a clip or a run is not what it should be.
    """
    weights = _hash_weights(runs)
    runtime.reporter.warn(data.check_counts(split))
    specs = {run: read_spec(run, on_bad) for run in runs}
    read = {spec: _read(data, split, spec, runtime.reporter) for spec in dict.fromkeys(specs.values())}
    inputs = {run: read[specs[run]] for run in runs}
    tables = _predict_all(inputs, weights, runtime)
    members = [
        Member(
            name=str(run.folder),
            table=tables[run],
            record=describe_run(run, runtime) | _describe_missing(inputs[run]),
            trained_on=run.trained_on or frozenset(),
            trained_on_complete=run.trained_on_complete,
        )
        for run in runs
    ]
    return Members(
        members=members,
        skipped=tuple(sorted({filename for each in read.values() for filename in each.skipped})),
        read_from_video=_join_fallbacks(read.values()),
    )


def _hash_weights(runs: Sequence[Run]) -> dict[Run, str]:
    """The hash of each run's weights; RunError names all that are not those of the run's record."""
    problems: list[Problem] = []
    weights = {}
    for run in runs:  # all of them first, not after hours of predicting; also of those in the cache
        with collect_errors(problems):
            weights[run] = verify_weights(run)
    if problems:
        raise RunError(problems)
    return weights


def _read(data: DataFolder, split: Split, spec: InputSpec, reporter: Reporter) -> Inputs:
    """What is read of the split's clips; CorpusError if none can be read."""
    read = read_inputs(data, data.ids(split), spec, reporter)
    if not read.examples:
        raise CorpusError(Problem(f"{data.root}, {split}", "no clip can be read"))
    return read


def _predict_all(
    inputs: Mapping[Run, Inputs], weights: Mapping[Run, str], runtime: Runtime
) -> dict[Run, pl.DataFrame]:
    """The predictions of each run, from the cache if they are there."""
    cache = Cache(f"predictions-{ARITHMETIC}", runtime.reporter)
    keys = {run: _make_key(run, weights[run], read, runtime) for run, read in inputs.items()}
    tables: dict[Run, pl.DataFrame] = {}
    for run, key in keys.items():
        if (kept := cache.get(key)) is not None:
            ids = sorted(example.filename for example in inputs[run].examples)
            tables[run] = make_table(ids, kept[0])
    if tables:
        found = f"{len(tables)} of {len(keys)} runs predicted these clips before: taken from the cache"
        runtime.reporter.say(found)
    missing = [run for run in keys if run not in tables]
    # The next run's weights are read while this one's predict.
    models = run_ahead(lambda run: load_model(run, runtime.device, runtime.precision), missing, 1)
    for run in missing:
        tables[run] = _predict(next(models), run, inputs[run], runtime)
        values = tables[run].sort(FILENAME).select(EMOTIONS).to_numpy()
        cache.keep(keys[run], values.astype(np.float32))
    return tables


def _make_key(run: Run, weights: str, inputs: Inputs, runtime: Runtime) -> str:
    """What a run's predictions follow from: weights, config, examples and arithmetic."""
    config = hash_file(run.folder / "config.json")
    examples = "\n".join(sorted(f"{each.filename}:{_identify(each)}" for each in inputs.examples))
    arithmetic = f"{runtime.precision}:{runtime.device.type}:torch{torch.__version__}"
    return f"{weights}:{config}:{sha256(examples.encode())}:{arithmetic}"


def _identify(example: Example) -> str:
    """What distinguishes one example's samples and features from another's."""
    audio = "" if example.audio is None else identify_clip(example.audio)
    return f"{audio}:{example.features_hash}" if example.features_hash else audio


def _describe_missing(inputs: Inputs) -> dict[str, object]:
    """What a member's record says of modalities that are missing; nothing if none is."""
    missing = {name: pack_ids(ids) for name, ids in inputs.missing.items()}
    return {"missing": missing} if missing else {}


def _predict(model: EmiModel, run: Run, inputs: Inputs, runtime: Runtime) -> pl.DataFrame:
    problems = [
        Problem(
            f"feature folder {name}",
            f"{width} wide",
            f"{model.input_widths[name]}, as {run.name} was trained",
        )
        for name, width in inputs.widths.items()
        if model.input_widths[name] != width
    ]
    if problems:
        raise CorpusError(problems)
    encoded = None
    if model.has_fixed_frames:  # other runs with this encoder share them
        encoded = encode_examples(model, inputs.examples, runtime)
    return predict(model, encoded or inputs.examples, runtime, description=run.name)


def _join_fallbacks(reads: Iterable[Inputs]) -> dict[str, list[str]]:
    """`audio.cache.pack_fallbacks` of all that was read."""
    found: dict[str, list[str]] = {}
    for read in reads:
        for cause, ranges in read.read_from_video.items():
            found[cause] = pack_ids(unpack_ids(found.get(cause, [])) | unpack_ids(ranges))
    return found
