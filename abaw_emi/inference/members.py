"""Several runs predict one split: each clip is read once, and what was predicted before is not run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl
import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Inputs, Senses, read_inputs
from abaw_emi.core.constants import OnBadClip, Precision, Split
from abaw_emi.core.errors import CorpusError, Problem, RunError, gather
from abaw_emi.core.ids import pack_ids, unpack_ids
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.ensembling.members import Member, Members
from abaw_emi.inference.frozen_encoder import encode_clips
from abaw_emi.inference.predict import describe_run, load_model, predict, verify_weights
from abaw_emi.inference.prediction_store import PredictionStore, fingerprint_clips, make_key
from abaw_emi.inference.workers import choose_processes
from abaw_emi.models.device import choose_for_prediction
from abaw_emi.models.emi import EmiModel
from abaw_emi.runs.run import Run


def predict_runs(
    runs: Sequence[Run],
    data: DataFolder,
    split: Split,
    *,
    on_bad: OnBadClip,
    device: str,
    precision: Precision,
    reporter: Reporter,
) -> Members:
    """Predicts `split` with each of the runs, one after the other; what was predicted before is read back.

    Raises:
        EmiError: the data, a clip or a run is not what it should be.
    """
    chosen, arithmetic = choose_for_prediction(device, precision)
    problems: list[Problem] = []
    weights: dict[Run, str] = {}
    for run in runs:  # all of them now, and not after hours of predicting; also of those in the store
        with gather(problems):
            weights[run] = verify_weights(run)
    if problems:
        raise RunError(problems)
    reporter.warn(data.check_counts(split))
    senses = {run: Senses.of(run.read_config()) for run in runs}
    inputs = {each: _read(data, split, each, on_bad, reporter) for each in dict.fromkeys(senses.values())}
    fingerprints = {each: fingerprint_clips(read.clips) for each, read in inputs.items()}
    keys = {
        run: make_key(run, weights[run], fingerprints[senses[run]], arithmetic, chosen) for run in weights
    }
    store = PredictionStore()
    tables: dict[Run, pl.DataFrame] = {}
    for run, key in keys.items():
        stored = store.get(key, inputs[senses[run]].clips)
        if stored is not None:
            tables[run] = stored
    if tables:
        reporter.say(f"{len(tables)} of {len(keys)} runs predicted these clips before: taken from the store")
    missing = [run for run in keys if run not in tables]
    # The next run's weights are read while this one's predict.
    models = run_ahead(lambda run: load_model(run, chosen, arithmetic), missing, 1)
    for run in missing:
        tables[run] = _predict(next(models), run, inputs[senses[run]], chosen, arithmetic, reporter)
        store.add(keys[run], tables[run])
    reporter.warn(store.warnings)
    members = [
        Member(
            name=str(run.folder),
            table=tables[run],
            record=describe_run(run, arithmetic, chosen) | _describe_missing(inputs[senses[run]]),
            trained_on=run.trained_on or frozenset(),
            trained_on_complete=run.trained_on_complete,
        )
        for run in runs
    ]
    return Members(
        members=members,
        skipped=tuple(sorted({filename for read in inputs.values() for filename in read.skipped})),
        read_from_video=_join_fallbacks(inputs.values()),
    )


def _read(data: DataFolder, split: Split, senses: Senses, on_bad: OnBadClip, reporter: Reporter) -> Inputs:
    """What is read of the split's clips; CorpusError where none can be read."""
    read = read_inputs(data, data.ids(split), senses, on_bad, reporter)
    if not read.clips:
        raise CorpusError(Problem(f"{data.root}, {split}", "no clip can be read"))
    return read


def _describe_missing(inputs: Inputs) -> dict[str, object]:
    """What a member's record says of modalities that clips lack; nothing where they have all."""
    return (
        {"missing": {name: pack_ids(ids) for name, ids in inputs.missing.items()}} if inputs.missing else {}
    )


def _predict(
    model: EmiModel,
    run: Run,
    inputs: Inputs,
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> pl.DataFrame:
    other = {name: width for name, width in inputs.widths.items() if model.widths[name] != width}
    if other:
        raise CorpusError(
            Problem(
                f"feature folder {name}", f"{width} wide", f"{model.widths[name]}, as {run.name} was trained"
            )
            for name, width in other.items()
        )
    clips, encoded = inputs.clips, None
    processes = choose_processes(model, clips, device)
    sounds = [clip for clip in clips if isinstance(clip, Clip)]
    if model.parts.freeze_encoder and sounds:  # other seeds, and other heads, have the same one
        encoded = encode_clips(
            model, sounds, device=device, precision=precision, reporter=reporter, processes=processes
        )
    return predict(
        model,
        clips if encoded is None else encoded,
        device=device,
        precision=precision,
        reporter=reporter,
        description=run.name,
        processes=processes if encoded is None else 1,
    )


def _join_fallbacks(reads: Iterable[Inputs]) -> dict[str, list[str]]:
    """`sounds.pack_fallbacks` of all that was read."""
    found: dict[str, list[str]] = {}
    for read in reads:
        for cause, ranges in read.read_from_video.items():
            found[cause] = pack_ids(unpack_ids(found.get(cause, [])) | unpack_ids(ranges))
    return found
