"""The audit of a data folder: is it whole, and is it sound? Nothing is written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import polars as pl
import soxr

from abaw_emi.audit.duplicates import check_duplicates, find_pairs
from abaw_emi.audit.features import check_features
from abaw_emi.audit.files import Splits, assign_splits, check_files
from abaw_emi.audit.fingerprint import FEWEST_ROWS
from abaw_emi.audit.labels import audit_labels, check_ids, read_tables
from abaw_emi.audit.probe import ProbeResult
from abaw_emi.audit.probe_cache import ProbeCache
from abaw_emi.audit.record import Audit, Histogram, count_durations, describe_durations, fingerprint_listing
from abaw_emi.audit.sound import check_sounds, check_usable, choose_sources
from abaw_emi.config.parts import SOUND
from abaw_emi.core.constants import EMOTIONS, FILENAME, SPLITS, VERSION, Split
from abaw_emi.core.errors import SEVERITIES
from abaw_emi.core.hashing import sha256
from abaw_emi.core.progress import Track, track_nothing
from abaw_emi.core.records import timestamp
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles


def audit_folder(
    data: DataFolder,
    *,
    store: ProbeCache | None = None,
    jobs: int | None = None,
    track: Track = track_nothing,
) -> Audit:
    """Everything that can be said of a data folder without a model.

    A clip's video is decoded only where its sound file is missing, or of no use.

    Args:
        data: the folder.
        store: keeps the results.
        jobs: processes that decode; by default one for each core where there is enough to do.
        track: puts a bar over what takes long.

    Raises:
        CorpusError: there is no data folder, or processes cannot be started.
    """
    store = store or ProbeCache()
    files = data.files
    listing = fingerprint_listing(data)
    tables = read_tables({split: data.label_file(split) for split in SPLITS})
    splits = assign_splits(tables.ids, files)
    labels = audit_labels(tables.labels)
    probed = _probe(files, store, jobs, track)
    clips = choose_sources(files, probed)
    fingerprints = {
        clip.filename: probed[clip.source].rows
        for clip in clips.values()
        if clip.source is not None and len(probed[clip.source].rows) >= FEWEST_ROWS
    }
    pairs = find_pairs(clips.values(), fingerprints)
    seconds = {
        clip.filename: None if clip.sound is None else round(clip.sound.seconds, 4) for clip in clips.values()
    }
    sound = [*check_usable(files, probed, clips, splits), *check_sounds(list(clips.values()), splits)]
    findings = [
        *tables.findings,
        *check_ids(splits.ids),
        *check_files(data.root, files, splits, tables.ids),
        *(replace(finding, modality=SOUND) for finding in sound),
        *check_duplicates(pairs, splits, _find_labels(tables.labels)),
        *check_features(data, splits, seconds, track),
        *labels.findings,
    ]
    lengths = _find_lengths(splits, seconds)
    sources = (
        f"{clip.filename}:{store.hashes.get(clip.source, '')}" for clip in clips.values() if clip.source
    )
    return Audit(
        root=str(data.root.absolute()),
        listing=listing,
        content=sha256("\n".join(sources).encode()),
        made=timestamp(),
        versions={
            "abaw_emi": VERSION,
            "av": av.__version__,
            "ffmpeg": av.ffmpeg_version_info,
            "soxr": soxr.__version__,
            "numpy": np.__version__,
        },
        clips={split: len(ids) for split, ids in splits.ids.items()},
        seconds=seconds,
        durations={split: describe_durations(known) for split, known in lengths.items()},
        histogram=Histogram(counts={split: count_durations(known) for split, known in lengths.items()}),
        labels=labels.statistics,
        shift=labels.shift,
        compared=len(fingerprints),
        findings=sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
    )


def _probe(
    files: Mapping[str, ClipFiles], store: ProbeCache, jobs: int | None, track: Track
) -> dict[Path, ProbeResult]:
    """What the clips' sound files sound like, and their videos where those are of no use."""
    first = [path for own in files.values() if (path := own.audio or own.video) is not None]
    probed = store.probe(first, jobs=jobs, track=track)
    instead = [
        own.video
        for own in files.values()
        if own.audio is not None and own.video is not None and probed[own.audio].sound is None
    ]
    return probed | store.probe(instead, jobs=jobs, track=track) if instead else probed


def _find_lengths(splits: Splits, seconds: Mapping[str, float | None]) -> dict[Split, list[float]]:
    """The lengths of each split's clips, of those that are known; splits without one are left out."""
    lengths = {
        split: [length for clip in ids if (length := seconds.get(clip)) is not None]
        for split, ids in splits.ids.items()
    }
    return {split: known for split, known in lengths.items() if known}


def _find_labels(labels: Mapping[Split, pl.DataFrame]) -> dict[str, npt.NDArray[np.float64]]:
    return {
        clip: row
        for table in labels.values()
        for clip, row in zip(table[FILENAME], table.select(EMOTIONS).to_numpy(), strict=True)
    }
