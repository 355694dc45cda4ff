"""What is said in clips: `text/NNNNN.txt`, as `abaw-emi transcribe` or anybody else wrote it.

The organisers deliver none. An empty file is a clip in which nothing is said.
"""

from __future__ import annotations

from pathlib import Path

from abaw_emi.core.errors import FeatureError, Problem
from abaw_emi.core.foreign import recognise_foreign
from abaw_emi.features.files import find_in_folders, find_unread

TEXT_FOLDER = "text"
TEXT_SUFFIX = ".txt"


def find_transcripts(data: Path, features: Path) -> dict[str, Path]:
    """The transcript of each clip that has one, by id, in the order of the ids.

    Folders and errors are those of `files.find_in_folders`: a clip with two transcripts that differ is one.
    """
    return find_in_folders(data, features, TEXT_FOLDER, (TEXT_SUFFIX,))


def find_unread_transcripts(data: Path, features: Path) -> list[Problem]:
    """What to say of each folder of transcripts that holds files which are not read (`files.find_unread`)."""
    return find_unread(data, features, TEXT_FOLDER, (TEXT_SUFFIX,))


def parse_transcript(path: Path, content: bytes) -> str:
    """The words in the bytes of the file `path`, without the white space around them.

    Raises:
        FeatureError: it is no UTF-8 text, or holds more than words: subtitles, JSON, a Git LFS pointer.
    """
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        found = f"is no UTF-8 text (byte {error.start})"
        raise FeatureError(Problem(str(path), found, "a transcript", "save it as UTF-8")) from error
    if foreign := recognise_foreign(content) or _recognise_markup(text):
        raise FeatureError(Problem(str(path), foreign[0], "a transcript", foreign[1]))
    return text


def _recognise_markup(text: str) -> tuple[str, str] | None:
    """What a text is that is not words alone, and what to do about it; None for words."""
    if "\0" in text:
        return "holds NUL characters, as UTF-16 does", "save it as UTF-8"
    if "-->" in text:
        return "holds the times of subtitles (-->)", "keep the words alone"
    if text.startswith("{") and text.endswith("}"):
        return "holds JSON", "keep the words alone"
    return None
