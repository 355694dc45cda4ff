"""The sound of a split's clips, from the cache, with every problem told."""

from __future__ import annotations

from collections.abc import Sequence

from abaw_emi.audio.cache import ClipCache
from abaw_emi.audio.clips import Clips, Fallback
from abaw_emi.core.constants import SAMPLE_RATE, OnBadClip
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder

_SHOWN_WARNINGS = 20
"""Warnings about readable clips that are printed; a third of the test clips may have no sound file."""


def pack_fallbacks(clips: Clips) -> dict[str, list[str]]:
    """Ranges of the ids that were read from video, by what was wrong: sound file "missing" or "broken"."""
    causes: tuple[Fallback, ...] = ("missing", "broken")
    return {cause: pack_ids(clips.fallbacks(cause)) for cause in causes if clips.fallbacks(cause)}


def read_split_clips(
    data: DataFolder, ids: Sequence[str], max_seconds: float, on_bad: OnBadClip, reporter: Reporter
) -> Clips:
    """The clips of `ids`, from the cache, with bars; says which were skipped, read from video, or silent."""
    cache = ClipCache(say=reporter.say)
    try:
        clips = cache.read_clips(
            ids, data.find_files(ids), max_seconds=max_seconds, on_bad=on_bad, track=reporter.track
        )
    finally:
        reporter.warn(cache.warnings)
    reporter.warn(clips.warnings, shown=_SHOWN_WARNINGS)
    reporter.warn(clips.problems)
    seconds = sum(clip.samples for clip in clips.clips) / SAMPLE_RATE
    text = f"{len(clips.clips):,} clips, {seconds / 3600:.2f} h"
    if cache.decoded:
        text += f" ({cache.decoded:,} decoded, {len(clips.clips) - cache.decoded:,} from the cache)"
    counted = {
        "skipped": len(clips.skipped),
        "read from video, no sound file": len(clips.fallbacks("missing")),
        "read from video, sound file broken": len(clips.fallbacks("broken")),
        "silent": clips.silent,
    }
    reporter.say(text + "".join(f"; {count:,} {what}" for what, count in counted.items() if count))
    return clips
