"""Tags and padding before, between and after the frames of a file that is nothing but frames (MP3, raw AAC).

FFmpeg's demuxers know some of them and hand the others to the decoder, which calls them damage.
"""

from __future__ import annotations

from abaw_emi.data.suffixes import Kind

FRAME_MASKS = {
    Kind.MP3: b"\xff\xfe\x0c",  # sync word, version, layer; sampling rate (ISO 11172-3, 2.4.1.3)
    Kind.MPEG_AUDIO: b"\xff\xfe\x0c",
    Kind.AAC: b"\xff\xfe\xfc",  # sync word, version, layer; profile and sampling rate (ISO 14496-3, 1.A.3.2)
}
"""Bits of a frame's header that are the same in all frames of a file, for the kinds that are frames only."""


def find_tag_end(content: bytes) -> int:
    """How many bytes a tag takes with which `content` begins (ID3v1, ID3v2 or APEv2); 0 where none does."""
    if content.startswith(b"TAG"):
        return 128
    if content.startswith(b"3DI"):
        return 10  # the footer of an ID3v2 tag
    if content.startswith(b"ID3") and len(content) >= 10:
        # ID3v2.4, section 3.1: four bytes of 7 bits each, without the 10 bytes of the header, or the footer.
        size = 0
        for byte in content[6:10]:
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if content[5] & 0x10 else 0)
    if content.startswith(b"APETAGEX") and len(content) >= 24:
        # The size covers the items and the footer; bit 29 of the flags marks the header that comes before.
        return 32 + (int.from_bytes(content[12:16], "little") if content[23] & 0x20 else 0)
    return 0


def skip_tags(content: bytes) -> bytes:
    """What follows the tags and zero bytes with which `content` begins.

    >>> skip_tags(bytes(100) + b"TAG" + b"x" * 125 + b"rest")
    b'rest'
    """
    while content:
        rest = content.lstrip(b"\0")
        if rest.startswith(b"LYRICSBEGIN"):
            ends = [at + 9 for mark in (b"LYRICS200", b"LYRICSEND") if (at := rest.find(mark)) >= 0]
            rest = rest[min(ends, default=0) :]
        elif size := find_tag_end(rest):
            rest = rest[size:]
        elif (at := rest.find(b"APETAGEX")) > 0:
            # Items without a header before them: the footer tells how many bytes they are.
            size = int.from_bytes(rest[at + 12 : at + 16], "little")
            rest = rest[at + 32 :] if size == at + 32 else rest
        if rest == content:
            break
        content = rest
    return content


def find_frame(kind: Kind, first: bytes, content: bytes) -> int:
    """Where `content` holds a header like that of the frame `first`; -1 where it holds none."""
    mask = FRAME_MASKS[kind]
    wanted = bytes(map(int.__and__, first, mask))
    at = content.find(b"\xff")
    while at >= 0 and bytes(map(int.__and__, content[at : at + 3], mask)) != wanted:
        at = content.find(b"\xff", at + 1)
    return at
