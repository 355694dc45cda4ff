"""What a file is, told by its first bytes and compared with what its name says.

Decoders guess: libsndfile reads an MP4 named `.mp3` as 768 samples of silence, without an error. So a file
whose bytes and name disagree is refused before any decoder sees it.
"""

from __future__ import annotations

import codecs
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

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
