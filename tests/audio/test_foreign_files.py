"""Whole files of all sorts are read, as FFmpeg reads them, and what is odd about them is said."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from abaw_emi.audio.decode import decode
from abaw_emi.core.errors import ClipError
from abaw_emi.data.suffixes import KIND_OF_SUFFIX
from tests.audio import foreign
from tests.audio.foreign import ape_tag, id3v2_tag, write_sound
from tests.media import tones, write_container, write_mp3, write_untold_mp3

NOISE = np.random.default_rng(5).bytes(3_000)


def put(folder: Path, suffix: str, content: bytes) -> Path:
    path = folder / f"00001{suffix}"
    path.write_bytes(content)
    return path


def read_as_before(path: Path) -> npt.NDArray[np.float32]:
    """All frames as PyAV gives them, side by side, and their mean."""
    with av.open(path) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    if not frames[0].format.is_planar:
        samples = samples.reshape(-1, frames[0].layout.nb_channels).T
    if samples.dtype.kind == "i":
        scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
        return (samples.mean(axis=0, dtype=np.float64) / scale).astype(np.float32)
    return np.asarray(samples.mean(axis=0), np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".flac", ".ogg", ".mp4", ".m4a", ".webm"])
def test_samples_are_the_mean_of_what_ffmpeg_decodes_bit_by_bit(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    noise = 0.1 * np.random.default_rng(channels).standard_normal((70_000, channels)).astype(np.float32)
    wave = noise[:, 0] if channels == 1 else noise
    path = tmp_path / f"00001{suffix}"
    if suffix in {".mp4", ".m4a"}:
        write_container(path, wave, video="libx264" if suffix == ".mp4" else None)
    elif suffix == ".webm":
        write_container(path, wave, video="libvpx", audio="libopus")
    else:
        soundfile.write(path, wave, 48_000)
    found = decode(path, 60)
    expected = read_as_before(path)
    assert found.channels == channels
    assert found.waveform.tobytes() == expected.tobytes()
    assert decode(path, 0.5).waveform.tobytes() == expected[:24_000].tobytes()


def test_a_long_file_of_many_channels_is_mixed_in_pieces_to_the_same_bits(tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal((300_000, 12)).astype(np.float32)
    path = tmp_path / "00001.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    assert decode(path, 60).waveform.tobytes() == read_as_before(path).tobytes()


def add_video(container: av.container.OutputContainer) -> None:
    video = container.add_stream("mpeg4", rate=10)
    video.width = video.height = 32
    video.pix_fmt = "yuv420p"


BESIDE_SOUND = {
    "chapters": (".m4b", "mp4", foreign.add_chapters),
    "an attachment": (".mka", "matroska", foreign.add_attachment),
    "a video": (".mkv", "matroska", add_video),
}


@pytest.mark.parametrize("beside", BESIDE_SOUND)
def test_sound_that_is_the_first_stream_of_several_is_read(tmp_path: Path, beside: str) -> None:
    suffix, form, prepare = BESIDE_SOUND[beside]
    path = tmp_path / f"00001{suffix}"
    write_sound(path, tones(2, 48_000), 48_000, "aac", form=form, prepare=prepare)
    with av.open(path) as container:
        first, _ = container.streams
        assert first.type == "audio"
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(96_000, abs=2_048)
    assert found.warnings == ()


def test_a_video_in_an_unknown_format_beside_good_sound_is_no_damage(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "00001.mkv", tones(2), 16_000, "aac", prepare=add_video)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_NOBODYS/KIND0"))
    with av.open(path) as container:
        assert container.streams.video[0].codec_context is None
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(32_000, abs=2_048)
    assert found.warnings == ()


def test_sound_in_an_unknown_format_is_named(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "00001.mka", tones(1), 16_000, "aac")
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    with pytest.raises(ClipError, match=r"00001\.mka: its sound is in a format that FFmpeg does not know"):
        decode(path, 60)


def test_sound_behind_a_video_keeps_its_tail(tmp_path: Path) -> None:
    wave = tones(2, 44_100)
    alone = write_sound(tmp_path / "00001.wma", wave, 44_100, "wmav2", form="asf")
    behind = write_sound(tmp_path / "00002.wmv", wave, 44_100, "wmav2", form="asf", before="mpeg4")
    assert decode(behind, 60).waveform.tobytes() == decode(alone, 60).waveform.tobytes()
    assert decode(alone, 60).waveform.size >= wave.size - 2_048


@pytest.mark.parametrize(
    "error", [AttributeError("no codec"), MemoryError(), RuntimeError("?"), OSError(5, "I/O")]
)
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = write_mp3(tmp_path / "00001.mp3", tones(1))

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(ClipError, match=rf"00001\.mp3: cannot be decoded \({type(error).__name__}"):
        decode(path, 60)


MANY_CHANNELS = {
    "7.1 AAC": (".m4a", "aac", "7.1", {}),
    "7.1 Opus": (".opus", "libopus", "7.1", {}),
    "Opus of 16 channels": (".opus", "libopus", "16 channels", {"mapping_family": "255"}),
    "WavPack of 10 channels": (".wv", "wavpack", "5.1.4", {}),
    "7.1 TTA": (".tta", "tta", "7.1", {}),
    "7.1 PCM of 64 bits": (".mka", "pcm_s64le", "7.1", {}),
}


DECODE = """
import sys
from pathlib import Path
from abaw_emi.audio.decode import decode

found = decode(Path(sys.argv[1]), 60)
print(found.channels, found.waveform.size, found.waveform[4_800:43_200].std())
"""


def decode_elsewhere(path: Path) -> list[str]:
    """Channels, samples and level of what another process reads: a fault of memory would end this one."""
    command = [sys.executable, "-c", DECODE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("name", MANY_CHANNELS)
def test_sound_of_many_channels_is_their_mean(tmp_path: Path, name: str) -> None:
    suffix, codec, layout, options = MANY_CHANNELS[name]
    path = write_sound(tmp_path / f"00001{suffix}", tones(1, 48_000), 48_000, codec, layout, options=options)
    script = (
        "import sys; from pathlib import Path; from abaw_emi.audio.decode import decode\n"
        "found = decode(Path(sys.argv[1]), 60); print(found.channels, found.waveform.size)\n"
        "print(found.waveform[4_800:43_200].std())"
    )
    # In another process: what is wrong here ends it.
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    channels, samples, level = done.stdout.split()
    assert int(channels) == av.AudioLayout(layout).nb_channels
    assert int(samples) == pytest.approx(48_000, abs=1_024)
    kept = 7 / 8 if codec in {"aac"} else 1  # the channel of low tones holds none of these
    assert float(level) == pytest.approx(kept * tones(1, 48_000).std(), rel=0.03)


def test_vorbis_of_8_channels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "00001.ogg"
    soundfile.write(path, np.repeat(tones(1)[:, None], 8, 1), 16_000)
    script = "import sys; from pathlib import Path; from abaw_emi.audio.decode import decode\n"
    script += "print(decode(Path(sys.argv[1]), 60).waveform.size)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "16000\n"), done.stderr


def test_more_sound_than_can_be_held_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abaw_emi.audio.track.MOST_SAMPLES", 100_000)
    path = tmp_path / "00001.flac"
    soundfile.write(path, np.zeros((200_000, 8)), 655_350)
    assert decode(path, 0.1).waveform.size == 65_535
    with pytest.raises(ClipError, match=r"00001\.flac: holds more than 100,000 samples, at 655,350 Hz"):
        decode(path, 60)


AROUND_MP3: dict[str, Callable[[bytes], bytes]] = {
    "zeros after it": lambda mp3: mp3 + bytes(len(mp3) // 20),
    "a few zeros after it": lambda mp3: mp3 + bytes(100),
    "an APEv2 tag after it": lambda mp3: mp3 + ape_tag(9_000),
    "an APEv2 tag without a header after it": lambda mp3: mp3 + ape_tag(5_000, header=False),
    "lyrics and an ID3v1 tag after it": lambda mp3: mp3 + foreign.LYRICS + foreign.ID3V1_TAG,
    "an ID3v2.4 tag after it": lambda mp3: mp3 + id3v2_tag(4_000, footer=True),
    "zeros and tags after it": lambda mp3: mp3 + bytes(500) + ape_tag(900) + foreign.ID3V1_TAG,
    "zeros before it": lambda mp3: bytes(5_000) + mp3,
    "an ID3v1 tag before it": lambda mp3: foreign.ID3V1_TAG + mp3,
    "an APEv2 tag before it": lambda mp3: ape_tag(3_000) + mp3,
    "an ID3v2.4 tag with a footer before it": lambda mp3: id3v2_tag(4_000, footer=True) + mp3,
    "an ID3v2 tag and zeros before it": lambda mp3: id3v2_tag(4_000) + bytes(3_000) + mp3,
}


@pytest.mark.parametrize("writer", [write_mp3, write_untold_mp3])
@pytest.mark.parametrize("around", AROUND_MP3)
def test_what_stands_around_an_mp3_is_neither_damage_nor_sound(
    tmp_path: Path, around: str, writer: Callable[..., Path]
) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    plain = decode(path, 60).waveform
    path.write_bytes(AROUND_MP3[around](path.read_bytes()))
    found = decode(path, 60)
    assert found.warnings == ()
    # Without its count at the place FFmpeg looks at, delay and padding stay: up to four frames.
    extra = found.waveform.size - plain.size
    assert 0 <= extra <= 4 * 576
    best = max(range(extra + 1), key=lambda lag: float(found.waveform[lag : lag + plain.size] @ plain))
    assert found.waveform[best : best + plain.size] == pytest.approx(plain, abs=1e-3)


def test_delay_and_padding_are_no_missing_sound_where_the_size_does_not_fit(tmp_path: Path) -> None:
    path = write_mp3(tmp_path / "00001.mp3", tones(3))
    content = path.read_bytes()
    at = content.index(b"Info")
    encoder = content.index(b"LAME", at)
    delays = (2_500 << 12 | 1_000).to_bytes(3, "big")
    path.write_bytes(content[: encoder + 21] + delays + content[encoder + 24 :] + bytes(len(content) // 4))
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(48_000, abs=3_000)
    assert found.warnings == ()


@pytest.mark.parametrize(("writer", "warned"), [(write_mp3, False), (write_untold_mp3, True)])
def test_many_zeros_after_an_mp3_are_a_warning_only_if_nothing_counts_its_sound(
    tmp_path: Path, writer: Callable[..., Path], warned: bool
) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    plain = decode(path, 60).waveform
    path.write_bytes(path.read_bytes() + bytes(9_000))
    found = decode(path, 60)
    assert plain.size <= found.waveform.size <= plain.size + 576
    assert ["9,000 bytes at its end are not sound" in warning.found for warning in found.warnings] == (
        [True] if warned else []
    )


@pytest.mark.parametrize("writer", [write_mp3, write_untold_mp3])
def test_a_part_taken_out_of_an_mp3_is_damage(tmp_path: Path, writer: Callable[..., Path]) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    content = path.read_bytes()
    path.write_bytes(content[:4_000] + content[7_777:])
    with pytest.raises(ClipError, match=r"00001\.mp3: is (damaged after|truncated or damaged)"):
        decode(path, 60)


@pytest.mark.parametrize("writer", [write_mp3, write_untold_mp3])
@pytest.mark.parametrize("between", [b"", foreign.ID3V1_TAG + id3v2_tag(2_000), bytes(700)])
def test_two_mp3s_in_one_file_are_both_read(
    tmp_path: Path, between: bytes, writer: Callable[..., Path]
) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    content = path.read_bytes()
    path.write_bytes(content + between + content)
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(96_000, abs=6 * 576)
    assert found.waveform[-16_000:-2_000].std() == pytest.approx(tones(1).std(), rel=0.1)


def test_bytes_of_no_kind_after_an_mp3_that_counts_nothing_are_a_warning(tmp_path: Path) -> None:
    path = write_untold_mp3(tmp_path / "00001.mp3", tones(3))
    path.write_bytes(path.read_bytes() + NOISE)
    (warning,) = decode(path, 60).warnings
    assert warning.where == str(path)
    assert "3,000 bytes at its end are not sound" in warning.found


@pytest.mark.parametrize("writer", [write_mp3, write_untold_mp3])
@pytest.mark.parametrize("where", [0.3, 0.6, 0.8])
def test_noise_within_an_mp3_is_still_damage(
    tmp_path: Path, where: float, writer: Callable[..., Path]
) -> None:
    path = writer(tmp_path / "00001.mp3", tones(3))
    content = path.read_bytes()
    at = int(where * len(content))
    path.write_bytes(content[:at] + NOISE[:2_000] + content[at + 2_000 :])
    with pytest.raises(ClipError, match=r"00001\.mp3: is (damaged after|truncated or damaged)"):
        decode(path, 60)


@pytest.mark.parametrize(("layer", "start"), [("I", b"\xff\xff\x94\x04"), ("II", b"\xff\xfd\x84\x04")])
def test_another_layer_named_mp3_is_named(tmp_path: Path, layer: str, start: bytes) -> None:
    path = put(tmp_path, ".mp3", (start + bytes(413)) * 4)
    with pytest.raises(ClipError, match=r"holds MPEG layer I or II data; expected MP3 data"):
        decode(path, 60)


WAV_SIZES = [0, 0x7FFF_F000, 0x7FFF_FFDB, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFDB, 0xFFFF_FFFF]


@pytest.mark.parametrize("size", WAV_SIZES)
def test_a_wav_from_a_pipe_is_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "00001.wav"
    soundfile.write(path, tones(1), 16_000)
    plain = decode(path, 60).waveform
    content = path.read_bytes()
    assert content[36:40] == b"data"
    riff = min(size + 36, 0xFFFF_FFFF)
    path.write_bytes(
        content[:4] + riff.to_bytes(4, "little") + content[8:40] + size.to_bytes(4, "little") + content[44:]
    )
    found = decode(path, 60)
    assert found.waveform.tobytes() == plain.tobytes()
    assert found.warnings == ()


@pytest.mark.parametrize("suffix", [".w64", ".rf64", ".aiff", ".caf", ".au", ".wav"])
def test_a_cut_file_of_uncompressed_sound_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"00001{suffix}"
    soundfile.write(path, tones(2), 16_000, format={".rf64": "RF64"}.get(suffix, suffix[1:].upper()))
    assert decode(path, 60).waveform == pytest.approx(tones(2), abs=1e-4)
    path.write_bytes(path.read_bytes()[:-20_000])
    assert decode(path, 1).waveform.size == 16_000
    with pytest.raises(ClipError, match="is truncated"):
        decode(path, 60)


def ogg(folder: Path, page_seconds: int = 1) -> tuple[Path, list[bytearray]]:
    muxer = {"page_duration": str(page_seconds * 1_000_000)}
    path = write_sound(folder / "00001.opus", tones(3, 48_000), 48_000, "libopus", muxer=muxer)
    return path, list(foreign.split_pages(path.read_bytes()))


def test_an_ogg_without_the_mark_of_its_last_page_is_read_with_a_warning(tmp_path: Path) -> None:
    path, pages = ogg(tmp_path)
    plain = decode(path, 60).waveform
    pages[-1][5] &= ~0x04
    path.write_bytes(foreign.join_pages(pages))
    found = decode(path, 60)
    assert found.waveform[: plain.size] == pytest.approx(plain)
    assert found.waveform.size - plain.size <= 960  # the padding of the last packet
    (warning,) = found.warnings
    assert "not marked as the last" in warning.found
    assert decode(path, 1).warnings == ()


def test_an_ogg_that_ends_with_an_empty_packet_is_read(tmp_path: Path) -> None:
    path, pages = ogg(tmp_path)
    plain = decode(path, 60).waveform
    last = bytearray(pages[-1][:27])
    last[18:22] = (int.from_bytes(last[18:22], "little") + 1).to_bytes(4, "little")
    last[5], last[26] = 0x04, 1
    pages[-1][5] &= ~0x04
    path.write_bytes(foreign.join_pages([*pages, last + b"\0"]))
    found = decode(path, 60)
    assert found.waveform[: plain.size] == pytest.approx(plain)
    assert found.warnings == ()


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("missing", [1, 100, 2_000])
def test_an_ogg_that_is_cut_within_a_page_is_truncated(tmp_path: Path, missing: int, marked: bool) -> None:
    path, pages = ogg(tmp_path, 2)
    if not marked:
        pages[-1][5] &= ~0x04
    assert len(pages[-1]) > 2_100
    path.write_bytes(foreign.join_pages(pages)[:-missing])
    with pytest.raises(ClipError, match="is truncated"):
        decode(path, 60)


@pytest.mark.parametrize("hours", [0.5, 32.6])
def test_an_ogg_whose_clock_starts_anywhere_has_no_hole(tmp_path: Path, hours: float) -> None:
    path, pages = ogg(tmp_path)
    plain = decode(path, 60).waveform
    for page in pages[2:]:
        position = int.from_bytes(page[6:14], "little") + int(hours * 3_600 * 48_000)
        page[6:14] = position.to_bytes(8, "little")
    path.write_bytes(foreign.join_pages(pages))
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(plain.size, abs=960)
    assert (found.warnings, found.holes) == ((), "")


def test_the_lost_beginning_of_an_ogg_is_a_hole(tmp_path: Path) -> None:
    path, pages = ogg(tmp_path)
    content = bytearray(path.read_bytes())
    start = len(pages[0]) + len(pages[1])
    content[start + 500 : start + 600] = NOISE[:100]
    path.write_bytes(content)
    found = decode(path, 60)
    assert "s of its sound are missing" in found.holes
    assert [warning.found for warning in found.warnings] == [found.holes]


def test_a_clock_that_jumps_in_the_middle_is_not_missing_sound(tmp_path: Path) -> None:
    path, pages = ogg(tmp_path)
    for page in pages[3:]:
        position = int.from_bytes(page[6:14], "little") + 117_457 * 48_000
        page[6:14] = position.to_bytes(8, "little")
    path.write_bytes(foreign.join_pages(pages))
    found = decode(path, 60)
    assert "117,457 s are missing" not in found.holes
    assert "whether sound is missing cannot be seen" in found.holes


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 3, 7])
def test_a_webm_that_declares_some_seconds_more_is_read_with_a_warning(
    tmp_path: Path, seconds: float, recorded: bool
) -> None:
    path = write_container(tmp_path / "00001.webm", tones(3, 48_000), video="libvpx", audio="libopus")
    plain = decode(path, 60).waveform
    content = foreign.lengthen_webm(path.read_bytes(), seconds)
    path.write_bytes(foreign.forget_size(content) if recorded else content)
    found = decode(path, 60)
    assert found.waveform.tobytes() == plain.tobytes()
    (warning,) = found.warnings
    assert f"declares {3 + seconds:.1f}" in warning.found


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.85])
def test_a_cut_webm_is_truncated(tmp_path: Path, share: float, recorded: bool) -> None:
    path = write_sound(tmp_path / "00001.webm", tones(3, 48_000), 48_000, "libopus")
    content = path.read_bytes()
    content = foreign.forget_size(content) if recorded else content
    path.write_bytes(content[: int(share * content.rindex(b"\x1c\x53\xbb\x6b"))])  # before the index
    with pytest.raises(ClipError, match="is truncated"):
        decode(path, 60)


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "libopus"), (".avi", "libmp3lame"), (".flv", "aac")])
def test_a_file_of_which_the_last_part_is_wiped_is_truncated(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_sound(tmp_path / f"00001{suffix}", tones(3, 48_000), 48_000, codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(ClipError, match=r"is (truncated or )?damaged"):
        decode(path, 60)


def test_an_m4a_that_tells_its_priming_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "00001.m4a"
    write_sound(path, tones(2, 8_000), 8_000, "aac", form="ipod", muxer={"use_editlist": "0"})
    path.write_bytes(foreign.add_gapless_tag(path.read_bytes(), 2_112))
    with av.open(path) as container:
        assert container.streams.audio[0].start_time == 2_112
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(16_000, abs=2_112)
    assert found.warnings == ()


def test_of_several_sound_tracks_the_default_one_is_read_and_it_is_said(tmp_path: Path) -> None:
    for default in (0, 1):

        def mark(container: av.container.OutputContainer, default: int = default) -> None:
            container.streams[default].disposition = av.stream.Disposition.default
            container.streams[1 - default].disposition = av.stream.Disposition.hearing_impaired

        path = tmp_path / f"0000{default}.mka"
        write_sound(path, tones(1, 48_000), 48_000, "flac", tracks=2, prepare=mark)
        found = decode(path, 60)
        assert found.waveform == pytest.approx(tones(1, 48_000) / (1 + default), abs=1e-3)
        (warning,) = found.warnings
        assert warning.where == str(path)
        assert warning.found == f"has 2 sound tracks, of which number {default + 1} is read"


def test_without_a_default_track_the_one_is_read_that_ffmpeg_calls_the_best(tmp_path: Path) -> None:
    def mark(container: av.container.OutputContainer) -> None:
        container.streams[0].disposition = av.stream.Disposition.visual_impaired
        container.streams[1].disposition = av.stream.Disposition.dub

    path = write_sound(tmp_path / "00001.mka", tones(1, 48_000), 48_000, "flac", tracks=2, prepare=mark)
    with av.open(path) as container:
        best = container.streams.best("audio")
        assert best is not None
        assert best.index == 1
    assert decode(path, 60).waveform == pytest.approx(tones(1, 48_000) / 2, abs=1e-3)


def test_a_video_without_sound_is_not_to_be_downloaded_again(tmp_path: Path) -> None:
    path = write_container(tmp_path / "00001.mp4", None)
    with pytest.raises(ClipError, match=r"has no sound track; expected MP4 data with sound$"):
        decode(path, 60)


@pytest.mark.parametrize("value", [3e38, -1e13])
def test_samples_beyond_any_scale_are_named_without_a_warning_of_numpy(
    tmp_path: Path, value: float, recwarn: pytest.WarningsRecorder
) -> None:
    wave = np.stack([tones(1), tones(1)], 1)
    wave[100] = value
    path = tmp_path / "00001.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    with pytest.raises(ClipError, match=r"00001\.wav: 1 samples are not numbers.*sample 100"):
        decode(path, 60)
    assert not recwarn.list


WRITTEN = {
    ".opus": "libopus",
    ".oga": "flac",
    ".m4a": "aac",
    ".m4b": "aac",
    ".aac": "aac",
    ".wma": "wmav2",
    ".mka": "aac",
    ".weba": "libopus",
    ".mp2": "mp2",
    ".aif": "pcm_s16be",
    ".caf": "pcm_s16be",
    ".au": "pcm_s16be",
    ".w64": "pcm_s16le",
    ".ac3": "ac3",
    ".eac3": "eac3",
    ".wv": "wavpack",
    ".tta": "tta",
    ".ra": "ac3",
    ".mov": "aac",
    ".m4v": "aac",
    ".3gp": "aac",
    ".avi": "libmp3lame",
    ".wmv": "wmav2",
    ".flv": "aac",
    ".ts": "mp2",
    ".m2ts": "mp2",
    ".mpg": "mp2",
    ".vob": "mp2",
}
MUXERS = {".oga": "oga", ".m4b": "ipod", ".weba": "webm", ".m4v": "mp4", ".ra": "rm"}


@pytest.mark.parametrize("suffix", WRITTEN)
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"00001{suffix}"
    write_sound(path, tones(2, 48_000), 48_000, WRITTEN[suffix], form=MUXERS.get(suffix))
    found = decode(path, 60)
    assert found.waveform.size == pytest.approx(96_000, abs=6_000)
    assert found.waveform[9_600:86_400].std() == pytest.approx(tones(2, 48_000).std(), rel=0.05)


def test_a_recording_of_a_speech_corpus_is_read(tmp_path: Path) -> None:
    samples = (tones(1) * 32_767).astype("<i2")
    fields = "sample_rate -i 16000\nchannel_count -i 1\nsample_count -i 16000\nsample_n_bytes -i 2\n"
    fields += "sample_byte_format -s2 01\nsample_coding -s3 pcm\nend_head\n"
    path = put(tmp_path, ".sph", f"NIST_1A\n   1024\n{fields}".ljust(1_024).encode() + samples.tobytes())
    assert decode(path, 60).waveform == pytest.approx(tones(1), abs=1e-4)


def test_ffmpeg_has_a_demuxer_for_every_suffix() -> None:
    from abaw_emi.audio.decode import DEMUXERS

    assert set(KIND_OF_SUFFIX.values()) == set(DEMUXERS)
    for demuxer in DEMUXERS.values():
        assert av.ContainerFormat(demuxer, "r").is_input
