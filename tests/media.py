"""Real files of a known signal, written by the encoders that users' files come from."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile

Wave = npt.NDArray[np.float32]

PITCH = 440.0
"""Hz of the loudest tone."""


def tones(seconds: float, rate: int = 16_000) -> Wave:
    """Two tones with a peak of about 0.4; the louder is `PITCH`."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * PITCH * t) + 0.1 * np.sin(2 * np.pi * 1_330 * t)).astype(np.float32)


def peak_hz(wave: Wave, rate: int = 16_000) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    return float(spectrum.argmax() * rate / wave.size)


def write_mp3(path: Path, wave: Wave, rate: int = 16_000) -> Path:
    soundfile.write(path, wave, rate, format="MP3", compression_level=0.6, bitrate_mode="CONSTANT")
    return path


def write_untold_mp3(path: Path, wave: Wave, rate: int = 16_000) -> Path:
    """A variable-rate MP3 without the Xing header that would tell its length."""
    with av.open(path, "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="mono")
        stream.codec_context.options = {"abr": "1"}
        stream.bit_rate = 64_000
        _encode(container, stream, wave, rate)
    return path


def write_container(
    path: Path,
    wave: Wave | None,
    rate: int = 48_000,
    *,
    video: str | None = "libx264",
    audio: str = "aac",
    options: dict[str, str] | None = None,
) -> Path:
    """An MP4, WebM or Matroska file; `wave` is (T,) or (T, C), or None for a silent film."""
    with av.open(path, "w", options=options or {}) as container:
        picture = sound = None
        if video:
            picture = container.add_stream(video, rate=10)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        if wave is not None:
            layout = "stereo" if wave.ndim == 2 else "mono"
            sound = container.add_stream(audio, rate=rate, layout=layout)
        seconds = 1.0 if wave is None else len(wave) / rate
        if picture is not None:
            for i in range(max(1, round(seconds * 10))):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i % 256, np.uint8), format="rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if sound is not None and wave is not None:
            _encode(container, sound, wave, rate)
    return path


def _encode(container, stream, wave: Wave, rate: int) -> None:
    channels = wave.shape[1] if wave.ndim == 2 else 1
    for start in range(0, len(wave), rate):
        piece = np.ascontiguousarray(wave[start : start + rate]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="stereo" if channels == 2 else "mono")
        frame.sample_rate = rate
        frame.pts = start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
