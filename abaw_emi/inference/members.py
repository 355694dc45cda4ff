"""Several runs predict one split: each clip is read once, and what was predicted before is not run again.

Predictions are kept in the cache. They belong to a run's weights and config, to the very samples of the
clips, and to the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import torch

from abaw_emi.audio.clips import Clip
from abaw_emi.batching.examples import Inputs, Senses, read_inputs
from abaw_emi.batching.frames import EncodedClip
from abaw_emi.core.cache import Cache
from abaw_emi.core.constants import EMOTIONS, FILENAME, OnBadClip, Precision, Split
from abaw_emi.core.errors import CorpusError, Problem, RunError, gather
from abaw_emi.core.hashing import hash_file, sha256
from abaw_emi.core.ids import pack_ids, unpack_ids
from abaw_emi.core.prefetch import run_ahead
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.ensembling.members import Member, Members
from abaw_emi.inference.engine import ARITHMETIC
from abaw_emi.inference.frozen_encoder import encode_clips, identify_clip
from abaw_emi.inference.predict import describe_run, load_model, make_table, predict, verify_weights
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
    for run in runs:  # all of them now, and not after hours of predicting; also of those in the cache
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
    cache = Cache(f"predictions-{ARITHMETIC}", reporter)
    tables: dict[Run, pl.DataFrame] = {}
    for run, key in keys.items():
        if (kept := cache.get(key)) is not None:
            ids = sorted(clip.filename for clip in inputs[senses[run]].clips)
            tables[run] = make_table(ids, kept[0])
    if tables:
        reporter.say(f"{len(tables)} of {len(keys)} runs predicted these clips before: taken from the cache")
    missing = [run for run in keys if run not in tables]
    # The next run's weights are read while this one's predict.
    models = run_ahead(lambda run: load_model(run, chosen, arithmetic), missing, 1)
    for run in missing:
        tables[run] = _predict(next(models), run, inputs[senses[run]], chosen, arithmetic, reporter)
        values = tables[run].sort(FILENAME).select(EMOTIONS).to_numpy()
        cache.keep(keys[run], values.astype(np.float32))
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


def fingerprint_clips(clips: Sequence[Clip | EncodedClip]) -> str:
    """A hash of the clips' ids, samples and features, whatever their order."""
    return sha256("\n".join(sorted(f"{clip.filename}:{_identify(clip)}" for clip in clips)).encode())


def _identify(clip: Clip | EncodedClip) -> str:
    sound = identify_clip(clip) if isinstance(clip, Clip) and clip.has_sound else ""
    return sound if clip.features is None else f"{sound}:{clip.features.source_hash}"


def make_key(run: Run, weights: str, clips: str, precision: Precision, device: torch.device) -> str:
    """What a run's predictions follow from.

    Args:
        run: whose `config.json` says what the weights mean.
        weights: SHA-256 of its weights.
        clips: as `fingerprint_clips` returns.
        precision: of the arithmetic.
        device: where it is done.
    """
    config = hash_file(run.folder / "config.json")
    return f"{weights}:{config}:{clips}:{precision}:{device.type}:torch{torch.__version__}"


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
    sounds = [clip for clip in clips if isinstance(clip, Clip)]
    if model.parts.freeze_encoder and sounds:  # other seeds, and other heads, have the same one
        encoded = encode_clips(model, sounds, device=device, precision=precision, reporter=reporter)
    return predict(
        model,
        clips if encoded is None else encoded,
        device=device,
        precision=precision,
        reporter=reporter,
        description=run.name,
    )


def _join_fallbacks(reads: Iterable[Inputs]) -> dict[str, list[str]]:
    """`audio.cache.pack_fallbacks` of all that was read."""
    found: dict[str, list[str]] = {}
    for read in reads:
        for cause, ranges in read.read_from_video.items():
            found[cause] = pack_ids(unpack_ids(found.get(cause, [])) | unpack_ids(ranges))
    return found
