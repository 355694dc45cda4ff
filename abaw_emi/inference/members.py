"""Several runs predict one split: each clip is read once, and what was predicted before is not run again.

Predictions are kept in the cache (`groups`). They belong to a run's weights and config, to the very samples
of the clips, and to the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from abaw_emi.batching.examples import InputSpec
from abaw_emi.batching.inputs import Inputs, check_modalities, read_inputs
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import OnBadClip, Split
from abaw_emi.core.errors import CorpusError, Problem, RunError, collect_errors
from abaw_emi.core.hashing import hash_file
from abaw_emi.core.ids import pack_ids, unpack_ids
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.shard import Shard
from abaw_emi.ensembling.members import Member, Members
from abaw_emi.inference.engine import ARITHMETIC
from abaw_emi.inference.frozen_encoder import SharedParts
from abaw_emi.inference.groups import GroupedPredictions
from abaw_emi.inference.predict import describe_run, load_run, read_spec, verify_weights
from abaw_emi.models.device import Runtime
from abaw_emi.models.distributed import World
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run

Read = tuple[dict[Run, Inputs], dict[Run, str]]
"""What runs read, and the hashes of their weights."""


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
    inputs, weights = _read_all(runs, data, split, runtime.reporter, on_bad)
    made = _predict_all(inputs, weights, runtime, Shard())
    members = [
        Member(
            name=str(run.folder),
            table=made[run].table(),
            record=describe_run(run, runtime) | _describe_missing(inputs[run]),
            trained_on=run.trained_on or frozenset(),
            trained_on_complete=run.trained_on_complete,
            skipped=frozenset(inputs[run].skipped),
        )
        for run in runs
    ]
    return Members(
        members=members,
        read_from_video=_join_fallbacks(inputs.values()),
    )


@dataclass(frozen=True, slots=True)
class Share:
    """What is predicted of a split's clips, and kept.

    Attributes:
        clips: of this share.
        done: of all shares, as far as they were there when this one began.
        total: of the split.
    """

    clips: int
    done: int
    total: int


def predict_share(
    run: Run,
    data: DataFolder,
    split: Split,
    runtime: Runtime,
    shard: Shard,
    *,
    on_bad: OnBadClip = "error",
    world: World | None = None,
) -> Share:
    """Predicts one share of the clips of `split` into the cache, where `predict_runs` finds it.

    Args:
        run: a finished one.
        data: the data folder.
        split: what to predict.
        runtime: what the model runs with (`Runtime.for_prediction`).
        shard: which share: of groups of clips of similar length, as `predict_runs` makes them.
        on_bad: "skip" leaves out clips that cannot be read; the same for all shares.
        world: the processes that make all shares together; the first one reads the clips before the others.

    Raises:
        EmiError: the data, a clip or the run is not what it should be, or the cache cannot be written.
    """
    world = world or World()

    def read() -> Read:
        return _read_all([run], data, split, runtime.reporter, on_bad)

    found: list[Read] = []
    world.run_first(lambda: found.append(read()))
    inputs, weights = found[0] if found else read()
    made = _predict_all(inputs, weights, runtime, shard)[run]
    return Share(made.count(shard.take(range(made.groups))), made.done, made.total)


def _read_all(
    runs: Sequence[Run], data: DataFolder, split: Split, reporter: Reporter, on_bad: OnBadClip
) -> Read:
    """What each run reads, and the hash of its weights."""
    weights = _hash_weights(runs)
    reporter.warn(data.check_counts(split))
    specs = {run: read_spec(run, on_bad) for run in runs}
    read = {spec: _read(data, split, spec, reporter) for spec in dict.fromkeys(specs.values())}
    return {run: read[specs[run]] for run in runs}, weights


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
    """What is read of the split's clips; CorpusError if none can be read, or none has a modality."""
    ids = data.ids(split)
    read = read_inputs(data, ids, spec, reporter)
    if not read.examples:
        raise CorpusError(Problem(f"{data.root}, {split}", "no clip can be read"))
    check_modalities(data, read, {f"of {split}": ids}, spec)
    return read


def _predict_all(
    inputs: Mapping[Run, Inputs], weights: Mapping[Run, str], runtime: Runtime, shard: Shard
) -> dict[Run, GroupedPredictions]:
    """The predictions of each run, all of this share at least; from the cache if they are there.

    Raises:
        RunError: there are other shares, and this one cannot be kept for them.
    """
    cache = Cache(f"predictions-{ARITHMETIC}-groups", runtime.reporter)
    made = {
        run: GroupedPredictions(cache, _describe_origin(run, weights[run], runtime), read.examples, runtime)
        for run, read in inputs.items()
    }
    missing = {run: predictions.find_missing(shard) for run, predictions in made.items()}
    to_do = [run for run, numbers in missing.items() if numbers]
    if len(to_do) < len(made):
        found = f"{len(made) - len(to_do)} of {len(made)} runs predicted these clips before"
        runtime.reporter.say(f"{found}: taken from the cache")
    shared = SharedParts(len(to_do), runtime)
    # The next run's weights are read while this one's predict.
    models = run_ahead(lambda run: load_run(run, runtime.device, runtime.precision), to_do, 1)
    for run in to_do:
        if done := made[run].done:
            runtime.reporter.say(f"{run.folder}: {done:,} of {made[run].total:,} clips were predicted before")
        model = next(models)
        _check_widths(model, run, inputs[run])
        kept = made[run].make(missing[run], model, run.name, shared)
        if not kept and not shard.is_whole:
            step = "set $ABAW_EMI_CACHE to a folder that all processes write and read"
            raise RunError(Problem(str(run.folder), f"share {shard} cannot be kept", next_step=step))
    return made


def _describe_origin(run: Run, weights: str, runtime: Runtime) -> str:
    """What a run's predictions follow from, beside the clips: weights, config and arithmetic."""
    config = hash_file(run.folder / "config.json")
    return f"{weights}:{config}:{runtime.precision}:{runtime.device.type}:torch{torch.__version__}"


def _describe_missing(inputs: Inputs) -> dict[str, object]:
    """What a member's record says of modalities that are missing; nothing if none is."""
    missing = {name: pack_ids(ids) for name, ids in inputs.missing.items()}
    return {"missing": missing} if missing else {}


def _check_widths(model: EmiModel, run: Run, inputs: Inputs) -> None:
    """Raises a CorpusError of each feature folder that is not as wide as the run's was."""
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


def _join_fallbacks(reads: Iterable[Inputs]) -> dict[str, list[str]]:
    """`audio.cache.pack_fallbacks` of all that was read."""
    found: dict[str, list[str]] = {}
    for read in reads:
        for cause, ranges in read.read_from_video.items():
            found[cause] = pack_ids(unpack_ids(found.get(cause, [])) | unpack_ids(ranges))
    return found
