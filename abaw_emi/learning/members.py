"""Several runs predict one split: each clip is read once, and what was predicted before is not run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
import torch

from abaw_emi.challenge.ensembling import Member
from abaw_emi.challenge.facts import Split
from abaw_emi.challenge.ids import pack_ids, unpack_ids
from abaw_emi.config import Precision
from abaw_emi.corpus.clips import Clip, Clips, OnBadClip
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import CorpusError, Problem, RunError, gather
from abaw_emi.learning.data import pack_fallbacks, read_split_clips
from abaw_emi.learning.devices import choose_device, choose_precision, validate_prediction
from abaw_emi.learning.frame_store import encode_clips
from abaw_emi.learning.loading import run_ahead
from abaw_emi.learning.model import EmiModel
from abaw_emi.learning.prediction import describe_run, load_model, predict, verify_weights
from abaw_emi.learning.prediction_store import PredictionStore, fingerprint_clips, make_key
from abaw_emi.learning.processes import choose_processes
from abaw_emi.learning.runs import Run
from abaw_emi.progress import Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What the runs predicted.

    Attributes:
        members: each run with its predictions, in the order asked for.
        skipped: ids left out because their clips cannot be read.
        read_from_video: see `data.pack_fallbacks`.
    """

    members: list[Member]
    skipped: tuple[str, ...]
    read_from_video: dict[str, list[str]]


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
    chosen = choose_device(device)
    arithmetic = choose_precision(precision, "auto", chosen)
    validate_prediction(arithmetic, chosen)
    problems: list[Problem] = []
    weights: dict[Run, str] = {}
    for run in runs:  # all of them now, and not after hours of predicting; also of those in the store
        with gather(problems):
            weights[run] = verify_weights(run)
    if problems:
        raise RunError(problems)
    reporter.warn(data.check_counts(split))
    seconds = {run: run.read_config().data.max_seconds for run in runs}
    clips = {
        length: _read(data, split, length, on_bad, reporter) for length in dict.fromkeys(seconds.values())
    }
    fingerprints = {length: fingerprint_clips(read.clips) for length, read in clips.items()}
    keys = {
        run: make_key(run, weights[run], fingerprints[seconds[run]], arithmetic, chosen) for run in weights
    }
    store = PredictionStore()
    tables: dict[Run, pl.DataFrame] = {}
    for run, key in keys.items():
        stored = store.get(key, clips[seconds[run]].clips)
        if stored is not None:
            tables[run] = stored
    if tables:
        reporter.say(f"{len(tables)} of {len(keys)} runs predicted these clips before: taken from the store")
    missing = [run for run in keys if run not in tables]
    # The next run's weights are read while this one's predict.
    models = run_ahead(lambda run: load_model(run, chosen, arithmetic), missing, 1)
    for run in missing:
        tables[run] = _predict(next(models), run, clips[seconds[run]].clips, chosen, arithmetic, reporter)
        store.add(keys[run], tables[run])
    reporter.warn(store.warnings)
    members = [
        Member(
            name=str(run.folder),
            table=tables[run],
            record=describe_run(run, arithmetic, chosen),
            trained_on=run.trained_on or frozenset(),
            trained_on_complete=run.trained_on_complete,
        )
        for run in runs
    ]
    return Members(
        members=members,
        skipped=tuple(sorted({filename for read in clips.values() for filename in read.skipped})),
        read_from_video=_join_fallbacks(clips.values()),
    )


def _read(data: DataFolder, split: Split, seconds: float, on_bad: OnBadClip, reporter: Reporter) -> Clips:
    """The split's clips, cut to `seconds`; CorpusError where none can be read."""
    read = read_split_clips(data, data.ids(split), seconds, on_bad, reporter)
    if not read.clips:
        raise CorpusError(Problem(f"{data.root}, {split}", "no clip can be read"))
    return read


def _predict(
    model: EmiModel,
    run: Run,
    clips: Sequence[Clip],
    device: torch.device,
    precision: Precision,
    reporter: Reporter,
) -> pl.DataFrame:
    processes = choose_processes(model, clips, device)
    encoded = None
    if model.config.freeze_encoder:  # other seeds, and other heads, have the same one
        encoded = encode_clips(
            model, clips, device=device, precision=precision, reporter=reporter, processes=processes
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


def _join_fallbacks(reads: Iterable[Clips]) -> dict[str, list[str]]:
    """`data.pack_fallbacks` of all that was read."""
    found: dict[str, list[str]] = {}
    for read in reads:
        for cause, ranges in pack_fallbacks(read).items():
            found[cause] = pack_ids(unpack_ids(found.get(cause, [])) | unpack_ids(ranges))
    return found
