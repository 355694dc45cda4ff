"""File formats, recognised by their first bytes.

Decoders guess: libsndfile reads an MP4 named `.mp3` as 768 samples of silence, without an error. So a file
whose bytes and name disagree is refused before any decoder sees it.
"""

from __future__ import annotations

import codecs
import stat
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from abaw_emi.audio.tags import find_tag_end
from abaw_emi.core.errors import ClipError, Problem
from abaw_emi.core.foreign import recognise_foreign
from abaw_emi.data.suffixes import KIND_OF_SUFFIX, Kind

HEAD_BYTES = 4096

_MOST_ZEROS = 1 << 20
"""Zero bytes that may stand before an MP3's first frame."""

COPY_AGAIN = "copy or download it again"

_SIGNATURES: tuple[tuple[int, tuple[bytes, ...], Kind], ...] = (
    (0, (b"fLaC",), Kind.FLAC),
    (0, (b"OggS",), Kind.OGG),
    (0, (b"\x1a\x45\xdf\xa3",), Kind.MATROSKA),  # EBML, RFC 8794
    (4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"), Kind.MP4),
    (0, (b"riff\x2e\x91\xcf\x11",), Kind.WAVE64),
    (0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",), Kind.ASF),
    (8, (b"AIFF", b"AIFC"), Kind.AIFF),
    (0, (b"caff",), Kind.CAF),
    (0, (b".snd",), Kind.AU),
    (0, (b"#!AMR",), Kind.AMR),
    (0, (b"\x0b\x77",), Kind.AC3),
    (0, (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8"), Kind.DTS),
    (0, (b"wvpk",), Kind.WAVPACK),
    (0, (b"TTA1",), Kind.TTA),
    (0, (b"MAC ",), Kind.APE),
    (0, (b"tBaK",), Kind.TAK),
    (0, (b"MP+", b"MPCK"), Kind.MUSEPACK),
    (0, (b"NIST_1A",), Kind.SPHERE),
    (0, (b"FLV\x01",), Kind.FLV),
    (0, (b".RMF", b".ra\xfd"), Kind.REALMEDIA),
    (0, (b"\x00\x00\x01\xba",), Kind.MPEG_PS),
)
"""Where a kind's bytes stand, and which they are."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a file is, and its first bytes after any tags (at most `HEAD_BYTES`)."""

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
        found = f"the suffix {path.suffix!r} is not read"
        some = "sound or video, such as .mp3, .wav, .flac, .m4a, .mp4, .mkv or .webm"
        close = get_close_matches(path.suffix.lower(), KIND_OF_SUFFIX, n=1, cutoff=0.85)
        raise ClipError(Problem(str(path), found, some, f"did you mean {close[0]}?" if close else ""))
    try:
        # Opening a named pipe would wait for ever, so look before opening.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ClipError(Problem(str(path), "is not a file", f"a file of {expected} data"))
        with path.open("rb") as file:
            tagged, head = _head(file)
            file.seek(0)
            start = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        found = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise ClipError(Problem(str(path), found, f"a file of {expected} data")) from error
    except OSError as error:
        raise ClipError(
            Problem(str(path), f"cannot be read ({error.strerror})", f"a readable file of {expected} data")
        ) from error
    if not start:
        raise ClipError(Problem(str(path), "is empty (0 bytes)", f"a file of {expected} data", COPY_AGAIN))
    kind = recognise(head) or (Kind.MP3 if tagged else None)
    if kind is not expected:
        found, next_step = (
            (f"holds {kind} data", "rename it, or convert it") if kind else _describe_foreign(start)
        )
        raise ClipError(Problem(str(path), found, f"{expected} data, as its name says", next_step))
    return Sniffed(kind, head)


def _head(file: BinaryIO) -> tuple[bool, bytes]:
    """Whether an ID3v2 tag comes first, and the first bytes after all tags (a picture can be megabytes)."""
    offset = zeros = 0
    tagged = False
    while True:
        file.seek(offset)
        head = file.read(HEAD_BYTES)
        if recognise(head):
            return tagged, head
        size = find_tag_end(head)
        if not size and zeros < _MOST_ZEROS:
            size = len(head) - len(head.lstrip(b"\0"))
            zeros += size
        if not size:
            return tagged, head
        tagged |= head.startswith(b"ID3")
        offset += size


def recognise(head: bytes) -> Kind | None:
    """The kind of file that begins with these bytes; None where it is none that is read."""
    if head[:4] in {b"RIFF", b"RIFX", b"RF64", b"BW64"}:
        return {b"WAVE": Kind.WAV, b"AVI ": Kind.AVI}.get(head[8:12])
    for offset, signatures, kind in _SIGNATURES:
        if head.startswith(signatures, offset):
            return kind
    # Packets of 188 bytes, each after a time stamp of 4 bytes where it comes from a camera's disc.
    if any(
        len(head) > at + 188 + extra and head[at] == head[at + 188 + extra] == 0x47
        for at, extra in ((0, 0), (4, 4))
    ):
        return Kind.MPEG_TS
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 0b1111 < 13:
        return Kind.AAC  # ADTS: a layer of 0, and one of 13 sampling rates (ISO 14496-3, 1.A.3.2)
    layer = _read_layer(head)
    if layer == 3:
        return Kind.MP3
    # UTF-16 begins like one frame of layer I, but not like two.
    return Kind.MPEG_AUDIO if layer and head[:2] in head[4:] else None


def _read_layer(head: bytes) -> int | None:
    """The layer of the MPEG audio frame whose header comes first, if one does (ISO 11172-3, 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = 4 - (head[1] >> 1 & 0b11)
    version_known = head[1] & 0b11000 != 0b01000
    bitrate_known = head[2] >> 4 != 0b1111
    rate_known = head[2] & 0b1100 != 0b1100
    return layer if layer < 4 and version_known and bitrate_known and rate_known else None


def _describe_foreign(head: bytes) -> tuple[str, str]:
    """What a file that is no sound or video file is, and what to do about it."""
    if foreign := recognise_foreign(head):
        return foreign
    if head.startswith(b"PK\x03\x04"):
        return "is a zip archive", "unpack it"
    if not any(head):
        return "begins with nothing but zero bytes", COPY_AGAIN
    if all(byte >= 0x20 or byte in b"\t\r\n" for byte in head) and _is_utf8(head):
        return f"is text, beginning {head[:20].decode(errors='replace')!r}", "download it again"
    return f"begins with the unknown bytes {head[:8].hex(' ')}", COPY_AGAIN


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", False)  # False: the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
