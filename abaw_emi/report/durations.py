"""How long clips are: as an audit measured them, or else as their files declare.

Files declare their length in their headers (`corpus.declared`); a clip whose file declares none, or cannot be
opened, is counted, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from abaw_emi.audio.formats import sniff
from abaw_emi.core.constants import Split
from abaw_emi.core.errors import ClipError
from abaw_emi.data.layout import ClipFiles
from abaw_emi.evaluation.pearson import Array

_HEADER_ONLY = {"probesize": "4096", "analyzeduration": "1"}
"""FFmpeg decodes up to 5 s of a file to learn what is in it; its length stands in the header."""

Track = Callable[[Iterable[str], str, int], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Lengths in s, by split.

    Attributes:
        seconds: (N,) of each split, sorted.
        unknown: clips whose length is not known, over all splits.
        source: where they are from, for people.
    """

    seconds: Mapping[Split, Array]
    unknown: int
    source: str


def find_durations(
    ids: Mapping[Split, Sequence[str]],
    files: Mapping[str, ClipFiles],
    audited: Mapping[str, float | None] | None,
    track: Track = lambda items, description, total: items,
) -> Durations | None:
    """The lengths of the clips; None where there is neither an audit nor a file to read.

    Args:
        ids: of the clips.
        files: of the clips, by id.
        audited: what an audit measured, by id; None without one.
        track: puts a bar over the clips.
    """
    if audited is None:
        return read_declared(ids, files, track)
    found = {clip: seconds for clip, seconds in audited.items() if seconds is not None}
    return _by_split(ids, found, "as the audit measured them")


def read_declared(
    ids: Mapping[Split, Sequence[str]],
    files: Mapping[str, ClipFiles],
    track: Track = lambda items, description, total: items,
) -> Durations | None:
    """The lengths that the clips' headers tell; None where no clip has a file, or PyAV is not installed."""
    wanted = [clip for clips in ids.values() for clip in clips]
    if find_spec("av") is None or not any(clip in files for clip in wanted):
        return None
    found: dict[str, float] = {}
    for clip in track(wanted, "reading headers", len(wanted)):
        own = files.get(clip)
        for path in (own.audio, own.video) if own else ():
            seconds = None if path is None else _read_header(path)
            if seconds is not None:
                found[clip] = seconds
                break
    source = "as the files' headers tell, or as their bit rate lets expect where they do not"
    return _by_split(ids, found, source)


def _read_header(path: Path) -> float | None:
    """Length of a file, in s, without decoding it; None where it cannot be opened, or has no sound."""
    import av
    import av.error

    from abaw_emi.audio.declared import declared_seconds
    from abaw_emi.audio.decode import DEMUXERS

    try:
        sniffed = sniff(path)
        form = DEMUXERS[sniffed.kind]
        with av.open(
            str(path.absolute()), format=form, metadata_errors="replace", container_options=_HEADER_ONLY
        ) as container:
            if not container.streams.audio:
                return None
            seconds = declared_seconds(container, sniffed)
            if seconds is None and container.duration:
                seconds = container.duration / av.time_base
    except (ClipError, av.error.FFmpegError, ValueError):  # the audit tells what is wrong with it
        return None
    return seconds or None


def _by_split(ids: Mapping[Split, Sequence[str]], found: Mapping[str, float], source: str) -> Durations:
    seconds = {
        split: np.sort(np.array([found[clip] for clip in clips if clip in found], dtype=np.float64))
        for split, clips in ids.items()
    }
    known = sum(map(len, seconds.values()))
    return Durations(seconds=seconds, unknown=sum(map(len, ids.values())) - known, source=source)
