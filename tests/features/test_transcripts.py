"""Transcripts are words: what else is text is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from abaw_emi.core.errors import FeatureError
from abaw_emi.features.transcripts import parse_transcript

PATH = Path("text/00001.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ""),
        (b"\xef\xbb\xbf we did it \n", "we did it"),
        (b"[Music] {laughs} - -> yes", "[Music] {laughs} - -> yes"),
    ],
)
def test_words_are_read_as_they_are(content: bytes, words: str) -> None:
    assert parse_transcript(PATH, content) == words


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("we did it".encode("utf-16-le"), "holds NUL characters, as UTF-16 does; .*; save it as UTF-8"),
        (b"1\n00:00:00,000 --> 00:00:02,000\nwe did it\n", "holds the times of subtitles"),
        (b"WEBVTT\n\n00:00.000 --> 00:02.000\nwe did it\n", "holds the times of subtitles"),
        (b'{"text": "we did it", "segments": []}\n', "holds JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        (b"caf\xe9", r"is no UTF-8 text \(byte 3\)"),
    ],
)
def test_what_is_no_transcript_is_refused_by_name(content: bytes, told: str) -> None:
    with pytest.raises(FeatureError, match=rf"00001\.txt: {told}"):
        parse_transcript(PATH, content)
