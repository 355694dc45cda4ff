"""The length that a file declares, and whether all of it is there.

Truncation is seen by comparing what was decoded with what the file declares. No decoder reports it: FFmpeg's
libraries end a truncated WAV, MP3 or WebM without an error. Each format declares as much as it can:

* MP3: the count in a Xing, Info or VBRI header, to one MPEG frame (some encoders count the header itself).
  Without such a header nothing is declared, and a cut cannot be seen.
* FLAC: the count in the header, exactly; a streamed FLAC declares none.
* WAV, Wave64, CAF, AVI, AIFF, Windows Media: bytes, exactly. Programs that write into a pipe leave a size
  near 2 or 4 GiB, or 0, in a WAV: those declare none.
* Ogg: the size of each page; the last one is marked, but phones' recorders leave the mark out.
* MP4, AVI, AIFF, AU, TTA, RealMedia: the end of the sound track (in a fragmented MP4: of the fragments
  found); WebM, Matroska and Flash video: that of the longest track, which is all that they declare (browsers
  declare none). To `TOLERANCE_SECONDS`, and compared with the last time stamp, so that dropouts of a
  recording do not count as truncation. Programs that patch a browser's WebM write a length that is some
  seconds too long: if its blocks are whole, it is read.
* Raw AAC, AC-3, DTS, AMR and MPEG streams: nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from abaw_emi.audio.formats import HEAD_BYTES, Sniffed
from abaw_emi.data.suffixes import Kind

MPEG_FRAME = 1152
"""Samples of the longest MPEG layer III frame (ISO 11172-3, 2.4.2.1)."""

DECODER_DELAY = 529
"""Samples by which an MP3 decoder is late, beside the encoder's delay (LAME's tag specification)."""

TOLERANCE_SECONDS = 0.25
"""How much earlier than declared the last time stamp of a container may lie."""

PATCHED_SECONDS = 10.0
"""How much earlier it may lie in a WebM of whole blocks, whose length a clock measured, not a muxer."""

STREAMED_BYTES = 0x7FFF_0000
"""Sizes from here on are what a program writes that cannot know them (0x7FFFF000, 0x80000000, all ones)."""

OGG_PAGE_BYTES = 65_307
"""The longest page of an Ogg file (RFC 3533, section 6)."""

_PARENTS = {bytes.fromhex(element) for element in ("18538067", "1f43b675")}
"""Segment and Cluster, whose elements are looked at (RFC 9559, section 5.1)."""

_ELEMENTS = _PARENTS | {
    bytes.fromhex(element)
    for element in (
        *("1a45dfa3", "ec", "bf"),  # the header; Void and CRC-32, which may stand anywhere
        *("114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1941a469", "1043a770", "1254c367"),  # of a Segment
        *("e7", "5854", "a7", "ab", "a3", "a0", "af"),  # of a Cluster
    )
}

_DECLARES_TRACK = {Kind.MP4, Kind.AVI, Kind.AIFF, Kind.AU, Kind.TTA, Kind.REALMEDIA, Kind.FLAC, Kind.MP3}
_DECLARES_LONGEST = {Kind.MATROSKA, Kind.FLV}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What was read of a sound track, from its beginning to its end.

    Attributes:
        seconds: what was decoded.
        begin: the first time stamp of the track, in s, at least 0.
        end: the last time stamp, in s, of the tracks that tell the declared length.
        sample_rate: in Hz.
        has_holes: whether the time stamps of the track tell of more sound.
    """

    seconds: float
    begin: float
    end: float
    sample_rate: int
    has_holes: bool


class Ending(NamedTuple):
    """Whether a file is there to its end, and what is to be said of it all the same."""

    whole: bool
    warning: str = ""


def declared_seconds(container: InputContainer, sound: AudioStream, sniffed: Sniffed) -> float | None:
    """The length that a file promises, in s; None where it promises none.

    For MP3 and FLAC it is a count of samples; for WebM, Matroska and Flash video the last time stamp.
    """
    if sniffed.kind in _DECLARES_LONGEST:
        return container.duration / av.time_base if container.duration else None
    if sniffed.kind not in _DECLARES_TRACK or not sound.duration or not sound.time_base:
        return None
    seconds = float(sound.duration * sound.time_base)
    if sniffed.kind is not Kind.MP3:
        return seconds
    # Without a count, or where the count does not fit the file's size (two MP3s in one file), FFmpeg
    # estimates the length from the bit rate of the first frames; with one, it takes the padding off.
    counted = _count_samples(sniffed.head)
    return None if counted is None else min(seconds, counted / sound.rate)


def _count_samples(head: bytes) -> int | None:
    """Samples, without delay and padding, that the first frame of an MP3 counts, if it is one that does."""
    # The tag follows 4 to 6 bytes of header and 9 to 32 of side information.
    frame = MPEG_FRAME if head[1] & 0b11000 == 0b11000 else MPEG_FRAME // 2  # MPEG 1, or 2 and 2.5
    for tag in (b"Xing", b"Info"):
        at = head.find(tag, 0, 64)
        if at < 0 or not head[at + 7] & 1:
            continue
        count = int.from_bytes(head[at + 8 : at + 12], "big") * frame
        # Its flags say which of frames, bytes, seek points and quality come before the encoder's name.
        encoder = at + 8 + sum(size for bit, size in enumerate((4, 4, 100, 4)) if head[at + 7] >> bit & 1)
        if not head.startswith((b"LAME", b"Lavf", b"Lavc"), encoder):
            return count
        delay_padding = int.from_bytes(head[encoder + 21 : encoder + 24], "big")  # 12 bits each
        return count - (delay_padding >> 12) - max(delay_padding & 0xFFF, DECODER_DELAY)
    at = head.find(b"VBRI", 0, 64)
    if at >= 0:
        return int.from_bytes(head[at + 14 : at + 18], "big") * frame
    return None


def check_end(path: Path, kind: Kind, declared: float | None, found: Extent) -> Ending:
    """Whether a file that was read to its end holds what it promises.

    Args:
        path: The file.
        kind: Its kind.
        declared: What `declared_seconds` gave.
        found: What was read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if kind is Kind.OGG:
            return _check_last_page(file, size)
        promised = _find_promised_end(file, kind)
        if promised is not None and promised > size:
            return Ending(False)
        if kind is Kind.MATROSKA:
            return _check_matroska(file, size, declared, found)
    if declared is None:
        return Ending(True)
    if kind is Kind.MP3:
        return Ending(found.seconds >= declared - MPEG_FRAME / found.sample_rate)
    if kind is Kind.FLAC:
        return Ending(found.seconds > declared - 0.5 / found.sample_rate)
    begin = 0.0 if kind in _DECLARES_LONGEST else found.begin
    return Ending(found.end - begin >= declared - TOLERANCE_SECONDS)


def is_cut_short(path: Path, kind: Kind) -> bool:
    """Whether the headers of a file promise more bytes than there are."""
    with path.open("rb") as file:
        promised = _find_last_box(file) if kind is Kind.MP4 else _find_promised_end(file, kind)
        return promised is not None and promised > os.fstat(file.fileno()).st_size


def _find_last_box(file: BinaryIO) -> int:
    """Where the last box of an MP4 ends, by its size (ISO 14496-12, section 4.2)."""
    at = 0
    while True:
        file.seek(at)
        header = file.read(16)
        size = int.from_bytes(header[:4], "big")
        size = int.from_bytes(header[8:], "big") if size == 1 else size
        if len(header) < 8 or size < 8 or at + size >= STREAMED_BYTES:
            return at  # 0: up to the end
        at += size


def _find_promised_end(file: BinaryIO, kind: Kind) -> int | None:
    """Bytes that the file has if it is whole, as far as its header says; None where it does not."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    end = None
    if kind is Kind.WAV and head[12:16] == b"ds64":  # an RF64, whose sizes of 64 bits come first
        at = head.find(b"data", 36)
        end = None if at < 0 else at + 8 + int.from_bytes(head[28:36], "little")
    elif kind is Kind.WAV:
        end = _find_chunk(file, 12, 4, "big" if head.startswith(b"RIFX") else "little")
    elif kind is Kind.CAF:
        end = _find_chunk(file, 8, 8, "big")
    elif kind is Kind.AVI:
        end = 8 + int.from_bytes(head[4:8], "little")
    elif kind is Kind.AIFF:
        end = 7 + int.from_bytes(head[4:8], "big")  # the byte that fills up an odd size may be left out
    elif kind is Kind.WAVE64:
        end = int.from_bytes(head[16:24], "little")
    elif kind is Kind.ASF:
        at = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11")  # the file's properties
        if 0 <= at < len(head) - 88 and not head[at + 88] & 1:  # not broadcast
            end = int.from_bytes(head[at + 40 : at + 48], "little")
    return None if end is None or end >= STREAMED_BYTES else end


def _find_chunk(file: BinaryIO, start: int, width: int, order: Literal["little", "big"]) -> int | None:
    """Where the chunk "data" ends, by its size; None where there is none, or a size is not known."""
    file.seek(start)
    while len(header := file.read(4 + width)) == 4 + width:
        size = int.from_bytes(header[4:], order)
        if size >= STREAMED_BYTES:
            return None
        if header[:4] == b"data":
            return file.tell() + size
        file.seek(size + (size % 2 if width == 4 else 0), os.SEEK_CUR)  # those of a WAV have even sizes
    return None


def _check_last_page(file: BinaryIO, size: int) -> Ending:
    """Whether an Ogg file ends with a whole page (RFC 3533, section 6)."""
    page = _read_last_page(file, size)
    if len(page) < 27 or len(page) < 27 + page[26]:
        return Ending(False)
    end = 27 + page[26] + sum(page[27 : 27 + page[26]])
    rest = page[end:]
    if end > len(page) or (rest and b"OggS".startswith(rest)):
        return Ending(False)
    if page[5] & 0x04:
        return Ending(True)
    return Ending(True, "its last page is not marked as the last: whether more followed cannot be seen")


def _read_last_page(file: BinaryIO, size: int) -> bytes:
    """An Ogg file from its last page on; nothing where there is none."""
    file.seek(max(0, size - OGG_PAGE_BYTES))
    tail = file.read()
    return tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""


def ends_with_empty_packet(path: Path) -> bool:
    """Whether the last page of an Ogg file is there, and holds nothing."""
    with path.open("rb") as file:
        page = _read_last_page(file, os.fstat(file.fileno()).st_size)
    return len(page) >= 27 and not any(page[27 : 27 + page[26]])


def find_first_sound_page(file: BinaryIO) -> int | None:
    """Where the first page of an Ogg file lies that is no header; None where there is damage before it."""
    at = 0
    while True:
        file.seek(at)
        page = file.read(27)
        if len(page) < 27 or not page.startswith(b"OggS"):
            return None
        if any(page[6:14]):  # the position in the sound, 0 in headers
            return at
        at += 27 + page[26] + sum(file.read(page[26]))


def _check_matroska(file: BinaryIO, size: int, declared: float | None, found: Extent) -> Ending:
    if declared is not None and found.end >= declared - TOLERANCE_SECONDS:
        return Ending(True)
    whole = _has_whole_elements(file, size)
    if declared is None:
        return Ending(True, "" if whole else "it ends within a block: some of its sound may be missing")
    if not whole or found.has_holes or found.end < declared - PATCHED_SECONDS:
        return Ending(False)
    return Ending(True, f"it declares {declared:.2f} s, but ends, undamaged, at {found.end:.2f} s")


def _has_whole_elements(file: BinaryIO, size: int) -> bool:
    """Whether a WebM or Matroska file holds known elements only, the last of which ends where it does."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(12)
        length = 9 - header[0].bit_length()  # RFC 8794, section 4: as many zero bits as bytes follow
        element, rest = header[:length], header[length:]
        if element not in _ELEMENTS or not rest or not rest[0]:
            return False
        width = 9 - rest[0].bit_length()
        value = int.from_bytes(rest[:width], "big") ^ 1 << 7 * width
        known = value != (1 << 7 * width) - 1  # all ones: a recorder that could not go back
        at += length + width
        if known and at + value > size:
            return False
        if element not in _PARENTS:
            if not known:
                return False
            at += value
    return at == size
