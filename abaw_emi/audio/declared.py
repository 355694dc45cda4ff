"""What a file promises to hold, and whether it kept the promise: how truncation is seen.

No decoder reports it: FFmpeg's libraries end a truncated WAV, MP3 or WebM without an error. Each format
tells as much as it can:

* MP3: the count in a Xing, Info or VBRI header, to one MPEG frame (some encoders count the header itself).
  Without such a header nothing is promised, and a cut cannot be seen.
* FLAC: the count in the header, exactly; a streamed FLAC promises none.
* WAV: the bytes of the data chunk, exactly; a streamed WAV (all ones) promises none.
* Ogg: the flag that marks the last page.
* MP4: the end of the sound track (in a fragmented file: of the fragments found); WebM and Matroska: that of
  the longest track, which is all that they declare (browsers declare none). To `TOLERANCE_SECONDS`, and held
  against the last time stamp, so that dropouts of a recording do not count as truncation.
"""

from __future__ import annotations

from pathlib import Path

import av
from av.container import InputContainer

from abaw_emi.audio.formats import Kind, Sniffed

MPEG_FRAME = 1152
"""Samples of the longest MPEG layer III frame (ISO 11172-3, 2.4.2.1)."""

TOLERANCE_SECONDS = 0.25
"""How much earlier than declared the last time stamp of a container may lie."""

OGG_PAGE_BYTES = 65_307
"""The longest page of an Ogg file (RFC 3533, section 6)."""


def declared_seconds(container: InputContainer, sniffed: Sniffed) -> float | None:
    """The length that a file promises, in s; None where it promises none.

    For MP3 and FLAC it is a count of samples; for MP4, WebM and Matroska a time stamp.
    """
    sound = container.streams.audio[0]
    if sniffed.kind is Kind.MATROSKA:
        return container.duration / av.time_base if container.duration else None
    if sniffed.kind in {Kind.WAV, Kind.OGG} or not sound.duration or sound.time_base is None:
        return None
    if sniffed.kind is Kind.MP4:
        return float(((sound.start_time or 0) + sound.duration) * sound.time_base)
    seconds = float(sound.duration * sound.time_base)
    if sniffed.kind is Kind.FLAC:
        return seconds
    # Without a count, or where the count does not fit the file's size (two MP3s in one file), FFmpeg
    # estimates the length from the bit rate of the first frames; with one, it takes the padding off.
    counted = _counted_samples(sniffed.head)
    return None if counted is None else min(seconds, counted / sound.rate)


def _counted_samples(head: bytes) -> int | None:
    """Samples, padding included, that the first frame of an MP3 counts, if it is a header that does."""
    # The tag follows 4 to 6 bytes of header and 9 to 32 of side information.
    for tag in (b"Xing", b"Info"):
        at = head.find(tag, 0, 64)
        if at >= 0 and head[at + 7] & 1:
            return int.from_bytes(head[at + 8 : at + 12], "big") * _samples_per_frame(head)
    at = head.find(b"VBRI", 0, 64)
    if at >= 0:
        return int.from_bytes(head[at + 14 : at + 18], "big") * _samples_per_frame(head)
    return None


def _samples_per_frame(head: bytes) -> int:
    return MPEG_FRAME if head[1] & 0b11000 == 0b11000 else MPEG_FRAME // 2  # MPEG 1, or 2 and 2.5


def is_complete(
    path: Path, kind: Kind, declared: float | None, seconds: float, end: float, sample_rate: int
) -> bool:
    """Whether a file that was read to its end holds what it promises.

    Args:
        path: The file.
        kind: Its kind.
        declared: What `declared_seconds` gave.
        seconds: What was decoded, in s.
        end: The last time stamp found, in s.
        sample_rate: In Hz.
    """
    if kind is Kind.WAV:
        return _holds_data_chunk(path)
    if kind is Kind.OGG:
        return _ends_with_last_page(path)
    if declared is None:
        return True
    if kind is Kind.MP3:
        return seconds >= declared - MPEG_FRAME / sample_rate
    if kind is Kind.FLAC:
        return seconds > declared - 0.5 / sample_rate
    return end >= declared - TOLERANCE_SECONDS


def _holds_data_chunk(path: Path) -> bool:
    """Whether a RIFF file is as long as its data chunk says."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return True  # RF64 keeps its sizes elsewhere, and 4 GiB of sound is no clip
        file.seek(12)
        while len(header := file.read(8)) == 8:
            size = int.from_bytes(header[4:], "little")
            if header[:4] == b"data":
                return size == 0xFFFF_FFFF or file.tell() + size <= file_size
            file.seek(size + size % 2, 1)  # chunks are padded to even sizes
    return False


def _ends_with_last_page(path: Path) -> bool:
    """Whether the last page of an Ogg file carries the end-of-stream flag (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - OGG_PAGE_BYTES))
        tail = file.read()
    last = tail.rfind(b"OggS")
    return last >= 0 and len(tail) > last + 5 and bool(tail[last + 5] & 0x04)
