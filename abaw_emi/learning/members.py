"""Several runs predict one split; each clip is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from abaw_emi.challenge.ensembling import Member
from abaw_emi.challenge.facts import Split
from abaw_emi.challenge.ids import pack_ids, unpack_ids
from abaw_emi.config import Precision
from abaw_emi.corpus.clips import Clip, OnBadClip
from abaw_emi.corpus.data_folder import DataFolder
from abaw_emi.errors import CorpusError, Problem
from abaw_emi.learning.data import pack_fallbacks, read_split_clips
from abaw_emi.learning.devices import choose_device, choose_precision
from abaw_emi.learning.prediction import describe_run, load_model, predict
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
    """Predicts `split` with each of the runs, one after the other.

    Raises:
        EmiError: the data, a clip or a run is not what it should be.
    """
    chosen = choose_device(device)
    ids = data.ids(split)
    reporter.warn(data.check_counts(split))
    clips: dict[float, tuple[Clip, ...]] = {}  # by the length that a run cuts its clips to
    skipped: set[str] = set()
    read_from_video: dict[str, list[str]] = {}
    members: list[Member] = []
    for run in runs:
        config = run.read_config()
        seconds = config.data.max_seconds
        if seconds not in clips:
            read = read_split_clips(data, ids, seconds, on_bad, reporter)
            clips[seconds] = read.clips
            skipped.update(read.skipped)
            for cause, ids in pack_fallbacks(read).items():
                both = unpack_ids(read_from_video.get(cause, [])) | unpack_ids(ids)
                read_from_video[cause] = pack_ids(both)
        if not clips[seconds]:
            raise CorpusError(Problem(f"{data.root}, {split}", "no clip can be read"))
        arithmetic = choose_precision(precision, "auto", chosen)
        table = predict(
            load_model(run, chosen),
            clips[seconds],
            device=chosen,
            precision=arithmetic,
            reporter=reporter,
            description=run.name,
        )
        members.append(
            Member(
                name=str(run.folder),
                table=table,
                record=describe_run(run, arithmetic, chosen),
                trained_on=run.trained_on or frozenset(),
                trained_on_complete=run.trained_on is not None,
            )
        )
    return Members(members=members, skipped=tuple(sorted(skipped)), read_from_video=read_from_video)
