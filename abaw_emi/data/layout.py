"""Where the clips of a data folder lie.

Sound lies in `audio/`, video in `raw/`; the test package brings the same two folders under `test_data/`
(some teams renamed it `test/`). A clip's id is its file's stem: five digits. Listing reads one directory
per folder and looks into no file, so that 17,000 clips are listed in well under a second.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from abaw_emi.core.constants import SPLITS
from abaw_emi.core.errors import CorpusError, Problem
from abaw_emi.core.ids import parse_id
from abaw_emi.data.suffixes import SOUND, VIDEO

AUDIO_FOLDER = "audio"
AUDIO_SUFFIXES = tuple(SOUND)
"""Sound files, the preferred first: MP3 is what the organisers deliver."""

VIDEO_FOLDER = "raw"
VIDEO_SUFFIXES = tuple(VIDEO)
"""Containers whose sound track stands in for a missing sound file, the preferred first."""

FOLDERS = {
    AUDIO_FOLDER: (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES),
    VIDEO_FOLDER: (*VIDEO_SUFFIXES, *AUDIO_SUFFIXES),
}
"""The suffixes that are read in each folder, the preferred first."""

PACKAGES = (".", "test_data", "test")
"""Folders, from the data folder, that hold `audio/` and `raw/`, the preferred first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFiles:
    """The files of one clip; at least one of the two is there when `find_clips` made it."""

    filename: str
    """Id as the label files hold it: "00042"."""
    audio: Path | None = None
    video: Path | None = None


def find_clips(data: Path) -> dict[str, ClipFiles]:
    """Every clip of a data folder, by id, in the order of the ids.

    Where a clip has several sound files (or several videos), the first package of `PACKAGES` wins, and
    within one folder the first suffix of `AUDIO_SUFFIXES` (`VIDEO_SUFFIXES`). Suffixes are read without
    regard to case. Hidden files, folders, `Thumbs.db` and every stem that is no id are no clips. A
    dangling link is a candidate: reading it says so, leaving it out here would hide it.

    Raises:
        CorpusError: `data`, or a folder of clips in it, is not a folder that can be listed.
    """
    if not data.is_dir():
        raise CorpusError(
            Problem(
                str(data),
                "is not a folder" if data.exists() else "does not exist",
                f"the data folder, with {AUDIO_FOLDER}/ or {VIDEO_FOLDER}/ in it",
                "name it with --data, or in the environment variable ABAW_EMI_DATA",
            )
        )
    found: dict[str, dict[str, Path]] = {AUDIO_FOLDER: {}, VIDEO_FOLDER: {}}
    problems: list[Problem] = []
    for package, (name, suffixes) in product(PACKAGES, FOLDERS.items()):
        folder = data / package / name
        clips = find_files(folder, suffixes)
        for filename, paths in clips.items():
            found[name].setdefault(filename, paths[0])
        if not clips and (nested := _find_nested(folder, suffixes)):
            holding = ", ".join(f"{inner.name}/ in it holds {len(own):,}" for inner, own in nested.items())
            expected = f"the clips in {name}/ itself"
            problems.append(Problem(str(folder), f"holds no clip, but {holding}", expected, "move them up"))
    if problems:
        raise CorpusError(problems)
    audio, video = found.values()
    return {
        filename: ClipFiles(filename=filename, audio=audio.get(filename), video=video.get(filename))
        for filename in sorted(audio.keys() | video.keys())
    }


def check_root(data: Path) -> None:
    """Passes unless `data` has no split file, while the folder `data/` in it, or one above it, has.

    Raises:
        CorpusError: it is so; the folder that has them is named.
    """
    if not data.is_dir() or _has_splits(data):
        return
    above = data.parents if data.name not in ("", "..") else data.resolve().parents
    for other in (data / "data", *above[:2]):
        if _has_splits(other):
            step = f"did you mean --data {other}?"
            raise CorpusError(Problem(str(data), "no split file, such as train_split.csv", next_step=step))


def _has_splits(folder: Path) -> bool:
    return any((folder / f"{split}_split.csv").is_file() for split in SPLITS)


def find_nested(data: Path, files: Collection[str]) -> dict[Path, list[str]]:
    """Folders inside the folders of clips, each with its clips that are not among `files`, if it has any.

    They are not read: unpacking an archive makes such folders.
    """
    found = {}
    for package, (name, suffixes) in product(PACKAGES, FOLDERS.items()):
        for inner, clips in _find_nested(data / package / name, suffixes).items():
            if lost := sorted(clips.keys() - set(files)):
                found[inner] = lost
    return found


def _find_nested(folder: Path, suffixes: tuple[str, ...]) -> dict[Path, dict[str, list[Path]]]:
    """The folders in a folder of clips that hold clips themselves, and these."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        inner = sorted(folder / entry.name for entry in entries if entry.is_dir())
    return {path: clips for path in inner if (clips := find_files(path, suffixes))}


def find_unread(data: Path, wanted: Collection[str]) -> dict[str, ClipFiles]:
    """Those of the clips `wanted` that have a file in `audio/` or `raw/`, but of a suffix that is not read.

    They stand for their clips, so that reading them says so.

    Raises:
        CorpusError: a folder cannot be listed.
    """
    found: dict[str, ClipFiles] = {}
    for package, name in product(PACKAGES, FOLDERS):
        for filename, paths in find_files(data / package / name).items():
            if filename in wanted:
                found.setdefault(filename, ClipFiles(filename=filename, audio=paths[0]))
    return found


def find_files(folder: Path, suffixes: tuple[str, ...] | None = None) -> dict[str, list[Path]]:
    """The files of each id in one folder, the preferred suffix first; none where the folder does not exist.

    Ids are read in any form: `12.mp3` is a file of "00012", and comes after `00012.mp3`. Hidden files,
    folders, `Thumbs.db` and every stem that is no id are left out.

    Args:
        folder: where they lie.
        suffixes: that are looked for, in lower case, the preferred first; any if not given.

    Raises:
        CorpusError: the folder cannot be listed.
    """
    found: dict[str, list[tuple[int, bool, str]]] = {}  # the smallest is preferred; names differ, so no ties
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path per entry is slow
                if suffixes is not None and suffix.lower() not in suffixes:
                    continue
                filename = parse_stem(stem)
                if filename is None or entry.is_dir():
                    continue
                rank = suffixes.index(suffix.lower()) if suffixes else 0
                found.setdefault(filename, []).append((rank, stem != filename, entry.name))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CorpusError(
            Problem(str(folder), f"cannot be listed ({error.strerror})", "a readable folder of clips")
        ) from error
    return {filename: [folder / name for *_, name in sorted(ranked)] for filename, ranked in found.items()}


def parse_stem(stem: str) -> str | None:
    """The id that a file's or a folder's name spells, its suffix left out; None where it spells none.

    >>> parse_stem("00042"), parse_stem("42"), parse_stem("42a"), parse_stem("420042")
    ('00042', '00042', None, None)
    """
    return parse_id(stem) if stem.isascii() and stem.isdigit() else None
