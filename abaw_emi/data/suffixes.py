"""The suffixes of sound and video files, and the kind of file that each one promises.

`audio.formats` recognises the kinds by their bytes. Whatever PyAV's FFmpeg demuxes and a recorder, a phone
or a speech corpus writes is here; formats of games and raw streams without a header are not.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The kinds of file that are read; the value is the word for messages."""

    MP3 = "MP3"
    MPEG_AUDIO = "MPEG layer I or II"
    WAV = "WAV"
    WAVE64 = "Wave64"
    FLAC = "FLAC"
    OGG = "Ogg"
    MP4 = "MP4"
    MATROSKA = "WebM or Matroska"
    AAC = "AAC"
    ASF = "Windows Media"
    AVI = "AVI"
    AIFF = "AIFF"
    CAF = "CAF"
    AU = "AU"
    AMR = "AMR"
    AC3 = "AC-3"
    DTS = "DTS"
    WAVPACK = "WavPack"
    TTA = "TTA"
    APE = "Monkey's Audio"
    TAK = "TAK"
    MUSEPACK = "Musepack"
    SPHERE = "NIST SPHERE"
    FLV = "Flash video"
    REALMEDIA = "RealMedia"
    MPEG_TS = "MPEG transport stream"
    MPEG_PS = "MPEG program stream"


SOUND: dict[str, Kind] = {
    ".mp3": Kind.MP3,
    ".wav": Kind.WAV,
    ".flac": Kind.FLAC,
    ".ogg": Kind.OGG,
    ".opus": Kind.OGG,
    ".oga": Kind.OGG,
    ".spx": Kind.OGG,
    ".m4a": Kind.MP4,
    ".m4b": Kind.MP4,
    ".m4r": Kind.MP4,
    ".aac": Kind.AAC,
    ".wma": Kind.ASF,
    ".mka": Kind.MATROSKA,
    ".weba": Kind.MATROSKA,
    ".mp2": Kind.MPEG_AUDIO,
    ".mpa": Kind.MPEG_AUDIO,
    ".aiff": Kind.AIFF,
    ".aif": Kind.AIFF,
    ".aifc": Kind.AIFF,
    ".caf": Kind.CAF,
    ".au": Kind.AU,
    ".snd": Kind.AU,
    ".w64": Kind.WAVE64,
    ".rf64": Kind.WAV,
    ".bwf": Kind.WAV,
    ".sph": Kind.SPHERE,
    ".amr": Kind.AMR,
    ".awb": Kind.AMR,
    ".ac3": Kind.AC3,
    ".eac3": Kind.AC3,
    ".dts": Kind.DTS,
    ".wv": Kind.WAVPACK,
    ".tta": Kind.TTA,
    ".ape": Kind.APE,
    ".tak": Kind.TAK,
    ".mpc": Kind.MUSEPACK,
    ".ra": Kind.REALMEDIA,
}
"""Files of sound alone, the preferred first: MP3 is what the organisers deliver."""

VIDEO: dict[str, Kind] = {
    ".mp4": Kind.MP4,
    ".webm": Kind.MATROSKA,
    ".mkv": Kind.MATROSKA,
    ".mov": Kind.MP4,
    ".m4v": Kind.MP4,
    ".qt": Kind.MP4,
    ".3gp": Kind.MP4,
    ".3g2": Kind.MP4,
    ".f4v": Kind.MP4,
    ".avi": Kind.AVI,
    ".wmv": Kind.ASF,
    ".asf": Kind.ASF,
    ".flv": Kind.FLV,
    ".ogv": Kind.OGG,
    ".ts": Kind.MPEG_TS,
    ".mts": Kind.MPEG_TS,
    ".m2ts": Kind.MPEG_TS,
    ".mpg": Kind.MPEG_PS,
    ".mpeg": Kind.MPEG_PS,
    ".vob": Kind.MPEG_PS,
    ".rm": Kind.REALMEDIA,
    ".rmvb": Kind.REALMEDIA,
}
"""Containers of video, whose sound track stands in for a missing sound file, the preferred first."""

KIND_OF_SUFFIX = SOUND | VIDEO
