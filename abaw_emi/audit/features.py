"""Findings on feature folders and faces: clips without them, files that cannot be read or fit no clip.

Every feature file is read once, and none is kept: a cache of all of them would be as large as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abaw_emi.audit.files import Splits
from abaw_emi.audit.finding import make_finding
from abaw_emi.core.constants import FEATURE_WIDTHS
from abaw_emi.core.errors import CorpusError, Diagnostic, EmiError, FeatureError, Problem
from abaw_emi.core.progress import Track
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import PACKAGES
from abaw_emi.features.faces import FACE_FOLDER, find_faces, find_gaps
from abaw_emi.features.files import (
    CONSTANT_STEP,
    find_constant,
    find_features,
    find_unread,
    read_array,
    read_feature_file,
)
from abaw_emi.features.lengths import advise_transposed, find_transposed_rows, find_unusual_lengths
from abaw_emi.features.transcripts import (
    TEXT_FOLDER,
    find_transcripts,
    find_unread_transcripts,
    parse_transcript,
)

_WITHOUT = "a system of this folder alone refuses them, one of several modalities does without"


@dataclass(frozen=True, slots=True)
class _Folder:
    """What was read of one feature folder, by id: shapes, the number of constant arrays, and why not."""

    shapes: Mapping[str, tuple[int, int]]
    constant: Mapping[str, float]
    unusable: Mapping[str, str]


def check_features(
    data: DataFolder, splits: Splits, seconds: Mapping[str, float | None], track: Track
) -> Iterator[Diagnostic]:
    """The findings on every feature folder that is there, and on the faces.

    Args:
        data: the data folder, and where extracted features lie.
        splits: whose clips should have them.
        seconds: how long each clip is, None where that is not known.
        track: puts a bar over the files.
    """
    for name in _list_folders(data):
        try:
            files = find_features(data.root, data.features, name)
        except (FeatureError, CorpusError) as error:
            yield replace(_refused(name, error), modality=name)
            continue
        found = [*_report_unread(name, find_unread(data.root, data.features, name))]
        if files:
            folder = _read(files, name, track)
            found += [
                *_check_folder(name, folder, set(files), splits),
                *_check_lengths(name, folder.shapes, splits, seconds),
            ]
        yield from (replace(finding, modality=name) for finding in found)
    yield from (replace(finding, modality=TEXT_FOLDER) for finding in _check_transcripts(data, splits))
    yield from (replace(finding, modality=FACE_FOLDER) for finding in _check_faces(data, splits))


def _list_folders(data: DataFolder) -> list[str]:
    """The official folders' names, and those of what was extracted."""
    own = [path.name for path in data.features.iterdir() if path.is_dir()] if data.features.is_dir() else []
    return [*FEATURE_WIDTHS, *sorted(set(own) - FEATURE_WIDTHS.keys() - {TEXT_FOLDER, FACE_FOLDER})]


def _read(files: Mapping[str, Path], name: str, track: Track) -> _Folder:
    shapes: dict[str, tuple[int, int]] = {}
    constant: dict[str, float] = {}
    unusable: dict[str, str] = {}
    ids = {path: filename for filename, path in files.items()}
    for path in track(list(ids), f"reading {name}", len(ids)):
        try:
            frames = read_array(path)
            shapes[ids[path]] = (frames.shape[0], frames.shape[1])
            if (number := find_constant(frames)) is not None:
                constant[ids[path]] = number
        except FeatureError as error:
            unusable[ids[path]] = str(error)
    return _Folder(shapes, constant, unusable)


def _check_folder(name: str, folder: _Folder, ids: set[str], splits: Splits) -> Iterator[Diagnostic]:
    for split, clips in splits.ids.items():
        if missing := set(clips) - ids:
            found = f"{{n}} clips have no {name} features"
            step = "look whether the folder is whole, or make them with abaw-emi extract"
            yield make_finding("no features", "warning", found, _WITHOUT, step, splits=[split], ids=missing)
    if folder.unusable:
        yield _report_unusable(name, folder.unusable, splits)
    if folder.constant:
        yield make_finding(
            "constant features",
            "warning",
            f"{{n}} files of {name} hold one number throughout",
            "a model takes them for what is seen or heard in the clip",
            CONSTANT_STEP,
            splits=splits.holding(folder.constant),
            ids=folder.constant,
            examples=[f"{clip}: {number:g}" for clip, number in folder.constant.items()],
        )
    widths = Counter(width for _, width in folder.shapes.values())
    if len(widths) > 1:
        rows = find_transposed_rows(folder.shapes.values())
        usual = widths.most_common(1)[0][0]
        others = {clip: width for clip, (_, width) in folder.shapes.items() if width != usual}
        yield make_finding(
            "feature widths",
            "error",
            f"{{n}} files of {name} are not {usual} numbers wide, as the others are",
            "a model takes one width: these are refused",
            advise_transposed(rows) if rows else "make them again with the same encoder",
            splits=splits.holding(others),
            ids=others,
            examples=[f"{clip}: {width}" for clip, width in others.items()],
        )
    elif widths and (width := next(iter(widths))) != FEATURE_WIDTHS.get(name, width):
        found = f"{name} features are {width} numbers wide, the organisers' are {FEATURE_WIDTHS[name]}"
        means = "they are taken as they are; scores do not compare with those on the supplied ones"
        yield make_finding("official width", "warning", found, means, count=len(folder.shapes))


def _report_unread(name: str, unread: Sequence[Problem]) -> Iterator[Diagnostic]:
    if unread:
        yield make_finding(
            "unread files",
            "warning",
            f"{name} has files that are not read",
            "their clips have none for this package",
            "save them in a form that is read, under the clips' ids",
            examples=map(str, unread),
            count=len(unread),
        )


def _check_transcripts(data: DataFolder, splits: Splits) -> Iterator[Diagnostic]:
    yield from _report_unread(TEXT_FOLDER, find_unread_transcripts(data.root, data.features))
    empty: list[str] = []
    unusable: dict[str, str] = {}
    try:
        paths = find_transcripts(data.root, data.features)
    except (FeatureError, CorpusError) as error:
        yield _refused(TEXT_FOLDER, error)
        return
    for clip, path in paths.items():
        try:
            if not parse_transcript(path, read_feature_file(path)):
                empty.append(clip)
        except FeatureError as error:
            unusable[clip] = str(error)
    if unusable:
        yield _report_unusable(TEXT_FOLDER, unusable, splits)
    if empty:
        found = f"{{n}} of {len(paths):,} transcripts are empty"
        means = "nothing is said in these clips; if something is, a text model learns from nothing"
        yield make_finding("no words", "note", found, means, splits=splits.holding(empty), ids=empty)


def _check_lengths(
    name: str, shapes: Mapping[str, tuple[int, int]], splits: Splits, seconds: Mapping[str, float | None]
) -> Iterator[Diagnostic]:
    unusual = find_unusual_lengths({clip: frames for clip, (frames, _) in shapes.items()}, seconds)
    if off := unusual.expected.keys():
        yield make_finding(
            "feature lengths",
            "warning",
            f"{{n}} files of {name} are far from the {unusual.rate:.1f} frames a second of the others",
            "they may be the features of other clips",
            "compare them with the clips' lengths",
            splits=splits.holding(off),
            ids=off,
            examples=[f"{clip}: {shapes[clip][0]:,} frames for {seconds[clip]:.2f} s" for clip in off],
        )


def _check_faces(data: DataFolder, splits: Splits) -> Iterator[Diagnostic]:
    if not any((data.root / package / FACE_FOLDER).is_dir() for package in PACKAGES):
        return
    try:
        faces = find_faces(data.root)
    except CorpusError as error:
        yield _refused(FACE_FOLDER, error)
        return
    if empty := [clip for clip, pictures in faces.items() if not pictures]:
        found = "{n} clips have an empty folder of faces"
        means = "no face was found in them: vision has nothing to go by"
        yield make_finding("no faces", "note", found, means, splits=splits.holding(empty), ids=empty)
    if gaps := find_gaps(faces):
        found = "{n} clips' faces are not numbered 0, 1, 2 and on"
        means = "some pictures had no face, or files are missing"
        yield make_finding("face numbers", "note", found, means, examples=map(str, gaps), count=len(gaps))


def _report_unusable(name: str, unusable: Mapping[str, str], splits: Splits) -> Diagnostic:
    return make_finding(
        "unusable features",
        "error",
        f"{{n}} files of {name} cannot be used",
        "every command that reads this folder refuses them, or leaves the clips out",
        "copy or make them again",
        splits=splits.holding(unusable),
        ids=unusable,
        examples=unusable.values(),
    )


def _refused(name: str, error: EmiError) -> Diagnostic:
    return make_finding(
        "unusable features",
        "error",
        f"{name} cannot be read as it is",
        "every command that reads this folder refuses it",
        "mend what is named",
        examples=[str(problem) for problem in error.problems],
        count=len(error.problems),
    )
