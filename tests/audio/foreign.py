"""Files as phones, recorders, messengers and taggers write them, made of whole ones."""

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media import Wave


def write_sound(
    path: Path,
    wave: Wave,
    rate: int,
    codec: str,
    layout: str = "mono",
    *,
    form: str | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    before: str | None = None,
    prepare: Callable[[av.container.OutputContainer], object] = lambda container: None,
    tracks: int = 1,
) -> Path:
    """The wave (T,) in each channel of sound tracks, scaled by 1, 1/2, ...; `before` is a video codec."""
    with av.open(path, "w", format=form, options=muxer or {}) as container:
        video = container.add_stream(before, rate=10) if before else None
        sounds = [
            container.add_stream(codec, rate=rate, layout=layout, options=options or {})
            for _ in range(tracks)
        ]
        for sound in sounds:
            sound.bit_rate = 64_000 * sound.layout.nb_channels
        prepare(container)
        if video is not None:
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
            for _ in range(max(1, len(wave) * 10 // rate)):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        for start in range(0, len(wave), rate):
            for number, sound in enumerate(sounds, 1):
                container.mux(sound.encode(_frame(wave[start : start + rate] / number, layout, rate, start)))
        for sound in sounds:
            container.mux(sound.encode(None))
    return path


def _frame(wave: Wave, layout: str, rate: int, start: int) -> av.AudioFrame:
    channels = av.AudioLayout(layout).nb_channels
    values = np.repeat(wave.astype(np.float32), channels).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(values, format="flt", layout=layout)
    frame.sample_rate, frame.pts = rate, start
    return frame


def add_chapters(container: av.container.OutputContainer) -> None:
    """Two chapters, which an MP4 keeps in a data track."""
    container.set_chapters(
        [
            {"id": i, "start": i, "end": i + 1, "time_base": Fraction(1), "metadata": {"title": f"part {i}"}}
            for i in range(2)
        ]
    )


def add_attachment(container: av.container.OutputContainer) -> None:
    container.add_attachment("note.txt", "text/plain", b"hello")


def ape_tag(size: int, *, header: bool = True) -> bytes:
    """An APEv2 tag of some `size` bytes, its footer and, if asked for, its header included."""
    value = b"x" * (size - 64 - 14)
    items = struct.pack("<II", len(value), 0) + b"Title\0" + value
    fields = b"APETAGEX" + struct.pack("<III", 2000, len(items) + 32, 1)
    footer = fields + struct.pack("<I", 0x8000_0000) + bytes(8)
    return (fields + struct.pack("<I", 0xA000_0000) + bytes(8) if header else b"") + items + footer


def id3v2_tag(size: int, *, footer: bool = False) -> bytes:
    """An ID3v2.4 tag with `size` bytes of content, under 16,384, among them such as begin a frame."""
    fields = bytes([4, 0, 0x10 if footer else 0, 0, 0, size >> 7, size & 0x7F])
    return b"ID3" + fields + (b"\xff\xe0" * size)[:size] + (b"3DI" + fields if footer else b"")


ID3V1_TAG = b"TAG" + b"a title".ljust(125, b"\0")
LYRICS = b"LYRICSBEGININD0000200" + b"la " * 600 + b"001818LYRICS200"


def split_pages(content: bytes) -> Iterator[bytearray]:
    """The pages of an Ogg file."""
    at = 0
    while at < len(content):
        table = 27 + content[at + 26]
        end = at + table + sum(content[at + 27 : at + table])
        yield bytearray(content[at:end])
        at = end


def join_pages(pages: list[bytearray]) -> bytes:
    """The Ogg file of these pages, with the checksums that they need (RFC 3533, section 6)."""
    for page in pages:
        page[22:26] = bytes(4)
        remainder = 0
        for byte in page:
            remainder ^= byte << 24
            for _ in range(8):
                remainder = (remainder << 1 ^ 0x04C11DB7 if remainder & 0x8000_0000 else remainder << 1) & (
                    0xFFFF_FFFF
                )
        page[22:26] = remainder.to_bytes(4, "little")
    return b"".join(pages)


def add_gapless_tag(content: bytes, priming: int) -> bytes:
    """An M4A, whose moov box comes last, with iTunes' note on how many samples come before the sound."""
    text = f" 00000000 {priming:08X} 00000000 {16_000:016X}".encode()
    tag = _box(
        b"----",
        _box(b"mean", bytes(4) + b"com.apple.iTunes")
        + _box(b"name", bytes(4) + b"iTunSMPB")
        + _box(b"data", struct.pack(">II", 1, 0) + text),
    )
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    user = _box(b"udta", _box(b"meta", bytes(4) + handler + _box(b"ilst", tag)))
    at = content.rindex(b"moov") - 4
    (size,) = struct.unpack(">I", content[at : at + 4])
    assert at + size == len(content)
    moov = content[at + 8 :].replace(b"udta", b"free")  # the muxer's own
    return content[:at] + _box(b"moov", moov + user)


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def lengthen_webm(content: bytes, seconds: float) -> bytes:
    """A WebM whose header declares a length that is longer by `seconds`."""
    at = content.index(b"\x44\x89\x88") + 3
    (milliseconds,) = struct.unpack(">d", content[at : at + 8])
    return content[:at] + struct.pack(">d", milliseconds + 1_000 * seconds) + content[at + 8 :]


def forget_size(content: bytes) -> bytes:
    """A WebM of unknown size, as recorders write it that cannot go back."""
    at = content.index(b"\x18\x53\x80\x67") + 4
    assert content[at] == 1
    return content[: at + 1] + b"\xff" * 7 + content[at + 8 :]
