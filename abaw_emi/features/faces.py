"""The faces that were found in clips: `face_images/NNNNN/0.jpg`, `1.jpg` and on, about 6 a second.

The number in a name is a face's place in time: 10 comes after 9. A folder belongs to the clip of its name.
Those of clips that have none in the data folder may lie in `features/face_images/` (`extraction.faces`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from abaw_emi.core.errors import CorpusError, FeatureError, Problem
from abaw_emi.data.layout import PACKAGES, parse_stem

FACE_FOLDER = "face_images"

_FACE = re.compile(r"([0-9]{1,9})\.jpe?g", re.IGNORECASE)

_LITTER = frozenset({"thumbs.db", "desktop.ini"})
"""What file managers leave behind, beside hidden files."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
"""Of every JPEG file; a few bytes may follow the end."""


def find_faces(data: Path, features: Path | None = None) -> dict[str, tuple[Path, ...]]:
    """The faces of each clip that has a folder of them, in their order, by id; the order is that of the ids.

    An empty folder is a clip without faces. Folders whose name is no id are left out. Numbers may be missing
    (`find_gaps`).

    Args:
        data: the data folder.
        features: where faces of clips lie that have none in the data folder.

    Raises:
        CorpusError: folders that cannot be listed; names in a folder that are no numbers, or the same one
            twice; clips with faces in two packages.
    """
    found: dict[str, tuple[Path, ...]] = {}
    problems: list[Problem] = []
    for package in PACKAGES:
        folder = data / package / FACE_FOLDER
        for filename, name in _list_clips(folder, problems):
            faces = _list_faces(folder / name, problems)
            if faces and found.get(filename):
                places = f"{found[filename][0].parent} and {folder / name}"
                problems.append(
                    Problem(
                        f"clip {filename}", f"has faces in two folders: {places}", "one", "remove the other"
                    )
                )
            found[filename] = found.get(filename) or faces
    if features is not None:
        folder = features / FACE_FOLDER
        for filename, name in _list_clips(folder, problems):
            if not found.get(filename):
                found[filename] = _list_faces(folder / name, problems)
    if problems:
        raise CorpusError(problems)
    return dict(sorted(found.items()))


def find_gaps(faces: Mapping[str, tuple[Path, ...]]) -> list[Problem]:
    """What to say about clips whose faces are not numbered 0, 1, 2 and on: some pictures had no face."""
    return [
        Problem(str(paths[0].parent), f"has {len(paths):,} faces, numbered up to {last:,}", f"0 to {last:,}")
        for paths in faces.values()
        if paths and (last := int(paths[-1].stem)) != len(paths) - 1
    ]


def _list_clips(folder: Path, problems: list[Problem]) -> list[tuple[str, str]]:
    """Ids, and the names of the folders that spell them; those of five digits come first."""
    try:
        with os.scandir(folder) as entries:
            named = ((parse_stem(entry.name), entry.name) for entry in entries if entry.is_dir())
            return sorted((clip, name) for clip, name in named if clip is not None)
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(_unlisted(folder, error))
        return []


def _list_faces(folder: Path, problems: list[Problem]) -> tuple[Path, ...]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for each of 700,000 names is slow
    except OSError as error:
        problems.append(_unlisted(folder, error))
        return ()
    numbers: dict[int, str] = {}
    for name in sorted(names):
        if name.startswith(".") or name.lower() in _LITTER:
            continue
        match = _FACE.fullmatch(name)
        if match is None:
            problems.append(Problem(str(folder / name), "is no face", "a number and .jpg, such as 0.jpg"))
        elif int(match[1]) in numbers:
            found = f"has the same number as {numbers[int(match[1])]}"
            problems.append(Problem(str(folder / name), found, "one face a number"))
        else:
            numbers[int(match[1])] = name
    return tuple(folder / numbers[number] for number in sorted(numbers))


def _unlisted(folder: Path, error: OSError) -> Problem:
    return Problem(str(folder), f"cannot be listed ({error.strerror})", "a readable folder of faces")


def read_face(path: Path) -> npt.NDArray[np.uint8]:
    """The picture in a JPEG file: (H, W, 3), red, green and blue.

    Raises:
        FeatureError: the file cannot be read, is no JPEG file, or is damaged or truncated.
    """
    import av  # which finding faces does not need
    import av.error
    from av.video.frame import VideoFrame

    try:
        content = path.read_bytes()
    except OSError as error:
        raise FeatureError(Problem(str(path), f"cannot be read ({error.strerror})")) from error
    if not content.startswith(_START):
        raise FeatureError(Problem(str(path), "is no JPEG file" if content else "is empty", "a picture"))
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}  # or what is missing is painted grey
    try:
        frames = [*decoder.decode(av.Packet(content)), *decoder.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        cut = _END not in content[-64:]
        found = "is truncated" if cut else "is damaged"
        raise FeatureError(Problem(str(path), found, "a whole JPEG file", "copy it again")) from error
    if not frames or not isinstance(frames[0], VideoFrame) or _END not in content[-64:]:
        raise FeatureError(Problem(str(path), "is truncated", "a whole JPEG file", "copy it again"))
    return np.ascontiguousarray(frames[0].to_ndarray(format="rgb24"), np.uint8)
