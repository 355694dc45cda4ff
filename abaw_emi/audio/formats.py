"""File formats: recognised by their first bytes, and the length that a file declares.

Decoders guess: libsndfile reads an MP4 named `.mp3` as 768 samples of silence, without an error. So a file
whose bytes and name disagree is refused before any decoder sees it.

Truncation is seen by comparing what was decoded with what the file declares. No decoder reports it: FFmpeg's
libraries end a truncated WAV, MP3 or WebM without an error. Each format declares as much as it can:

* MP3: the count in a Xing, Info or VBRI header, to one MPEG frame (some encoders count the header itself).
  Without such a header nothing is declared, and a cut cannot be seen.
* FLAC: the count in the header, exactly; a streamed FLAC declares none.
* WAV: the bytes of the data chunk, exactly; a streamed WAV (all ones) declares none.
* Ogg: the flag that marks the last page.
* MP4: the end of the sound track (in a fragmented file: of the fragments found); WebM and Matroska: that of
  the longest track, which is all that they declare (browsers declare none). To `TOLERANCE_SECONDS`, and
  compared with the last time stamp, so that dropouts of a recording do not count as truncation.
"""

from __future__ import annotations

import codecs
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from abaw_emi.core.errors import ClipError, Problem

HEAD_BYTES = 4096


class Kind(StrEnum):
    """The kinds of file that are read; the value is the word for messages."""

    MP3 = "MP3"
    WAV = "WAV"
    FLAC = "FLAC"
    OGG = "Ogg"
    MP4 = "MP4"
    MATROSKA = "WebM or Matroska"


KIND_OF_SUFFIX = {
    ".mp3": Kind.MP3,
    ".wav": Kind.WAV,
    ".flac": Kind.FLAC,
    ".ogg": Kind.OGG,
    ".mp4": Kind.MP4,
    ".m4a": Kind.MP4,
    ".mov": Kind.MP4,
    ".webm": Kind.MATROSKA,
    ".mkv": Kind.MATROSKA,
}


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file is, and its first bytes after any ID3 tags (at most `HEAD_BYTES`)."""

    kind: Kind
    head: bytes


def sniff(path: Path) -> Sniffed:
    """The kind of the file at `path`, which is the kind that its name says.

    Raises:
        ClipError: the file is missing, unreadable, empty, not a regular file, of an unknown suffix, or
            of another kind than its name says (a saved web page and a Git LFS pointer are named as such).
    """
    expected = KIND_OF_SUFFIX.get(path.suffix.lower())
    if expected is None:
        raise ClipError(
            Problem(str(path), f"the suffix {path.suffix!r}", f"one of {', '.join(KIND_OF_SUFFIX)}")
        )
    try:
        # Opening a named pipe would wait for ever, so look before opening.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ClipError(Problem(str(path), "is not a file", f"a {expected} file"))
        with path.open("rb") as file:
            tagged, head = _head(file)
    except FileNotFoundError as error:
        found = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise ClipError(Problem(str(path), found, f"a {expected} file")) from error
    except OSError as error:
        raise ClipError(
            Problem(str(path), f"cannot be read ({error.strerror})", f"a readable {expected} file")
        ) from error
    if not head and not tagged:
        raise ClipError(
            Problem(str(path), "is empty (0 bytes)", f"a {expected} file", "copy or download it again")
        )
    kind = _kind(head) or (Kind.MP3 if tagged else None)
    if kind is not expected:
        found, next_step = (
            (f"holds {kind} data", "rename it, or convert it") if kind else _describe_foreign(head)
        )
        raise ClipError(Problem(str(path), found, f"{expected} data, as its name says", next_step))
    return Sniffed(kind, head)


def _head(file: BinaryIO) -> tuple[bool, bytes]:
    """Whether ID3v2 tags come first, and the first bytes after them (a cover picture can be megabytes)."""
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(HEAD_BYTES)
        if not head.startswith(b"ID3") or len(head) < 10:
            return offset > 0, head
        # ID3v2.4, section 3.1: four bytes of 7 bits each, without the 10 bytes of the header itself.
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        offset += 10 + size


def _kind(head: bytes) -> Kind | None:
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        return Kind.WAV
    if head.startswith(b"fLaC"):
        return Kind.FLAC
    if head.startswith(b"OggS"):
        return Kind.OGG
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"}:
        return Kind.MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):  # EBML, RFC 8794
        return Kind.MATROSKA
    if _is_mpeg_frame(head):
        return Kind.MP3
    return None


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether the bytes begin with the header of an MPEG layer III frame (ISO 11172-3, 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    layer_three = head[1] & 0b110 == 0b010
    version_known = head[1] & 0b11000 != 0b01000
    bitrate_known = head[2] >> 4 != 0b1111
    rate_known = head[2] & 0b1100 != 0b1100
    return layer_three and version_known and bitrate_known and rate_known


def _describe_foreign(head: bytes) -> tuple[str, str]:
    """What a file that is no sound or video file is, and what to do about it."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself", "run `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a saved web page", "download it again, signed in"
    if start.startswith(b"pk\x03\x04"):
        return "is a zip archive", "unpack it"
    if not any(head):
        return "begins with nothing but zero bytes", "copy or download it again"
    if all(byte >= 0x20 or byte in b"\t\r\n" for byte in head) and _is_utf8(head):
        return f"is text, beginning {head[:20].decode(errors='replace')!r}", "download it again"
    return f"begins with the unknown bytes {head[:8].hex(' ')}", "copy or download it again"


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", False)  # False: the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


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
