"""What is said in clips: `text/NNNNN.txt`, as `abaw-emi transcribe` or anybody else wrote it.

The organisers deliver none. An empty file is a clip in which nothing is said.
"""

from __future__ import annotations

from pathlib import Path

from abaw_emi.core.errors import FeatureError, Problem
from abaw_emi.features.files import find_in_folders

TEXT_FOLDER = "text"
TEXT_SUFFIX = ".txt"


def find_transcripts(data: Path, features: Path) -> dict[str, Path]:
    """The transcript of each clip that has one, by id, in the order of the ids.

    Folders and errors are those of `files.find_in_folders`: a clip with two transcripts that differ is one.
    """
    return find_in_folders(data, features, TEXT_FOLDER, (TEXT_SUFFIX,))


def parse_transcript(path: Path, content: bytes) -> str:
    """The words in the bytes of the file `path`, without the white space around them.

    Raises:
        FeatureError: it is no UTF-8 text.
    """
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        found = f"is no UTF-8 text (byte {error.start})"
        raise FeatureError(Problem(str(path), found, "a transcript", "save it as UTF-8")) from error
