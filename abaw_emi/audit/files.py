"""Files against ids, both ways: clips without files, files of no clip, files that are not looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from abaw_emi.audit.finding import make_finding
from abaw_emi.core.constants import SPLITS, Split
from abaw_emi.core.errors import Diagnostic
from abaw_emi.data.layout import (
    AUDIO_FOLDER,
    FOLDERS,
    PACKAGES,
    VIDEO_FOLDER,
    ClipFiles,
    find_nested,
    find_unread,
    parse_stem,
)

_HARMLESS = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True, slots=True)
class Splits:
    """Which clips belong to which split.

    Attributes:
        ids: of the splits that are known.
        unlisted: clips with files that belong to none.
    """

    ids: Mapping[Split, Sequence[str]]
    unlisted: Collection[str]

    def holding(self, ids: Collection[str]) -> list[Split]:
        """The splits that have any of these clips."""
        wanted = set(ids)
        return [split for split in SPLITS if wanted & set(self.ids.get(split, ()))]

    def find(self) -> dict[str, Split]:
        """The split of each clip."""
        return {clip: split for split, clips in self.ids.items() for clip in clips}


def assign_splits(named: Mapping[Split, Sequence[str]], files: Collection[str]) -> Splits:
    """The splits as `DataFolder.ids` knows them: without a file of them, test's clips are all the others."""
    labelled = {clip for split in ("train", "valid") for clip in named.get(split, ())}
    ids = dict(named)
    if "test" not in ids and {"train", "valid"} <= ids.keys():
        ids["test"] = sorted(set(files) - labelled)
    known = {clip for clips in ids.values() for clip in clips}
    return Splits({split: ids[split] for split in SPLITS if split in ids}, sorted(set(files) - known))


def check_files(
    data: Path, files: Mapping[str, ClipFiles], splits: Splits, named: Collection[Split]
) -> list[Diagnostic]:
    """Every finding that the names of files alone show.

    Args:
        data: the data folder.
        files: of each clip (`layout.find_clips`).
        splits: which clip belongs where.
        named: splits that a file of the data folder names the clips of.
    """
    nested = find_nested(data, files)
    return [
        *_check_missing(data, files, splits, nested),
        *_check_unlisted(files, splits.unlisted),
        *([] if "test" in named else _check_test(data, files, splits)),
        *_check_nested(nested),
        *_check_listing(data, nested),
    ]


def _check_missing(
    data: Path, files: Mapping[str, ClipFiles], splits: Splits, nested: Mapping[Path, Collection[str]]
) -> Iterator[Diagnostic]:
    for split, ids in splits.ids.items():
        if lost := [clip for clip in ids if clip not in files]:
            refused = "training refuses them" if split != "test" else "no prediction can be made of them"
            places = [f"{inner}/" for inner, clips in nested.items() if set(clips) & set(lost)]
            step = f"move up those that lie in {', '.join(places)}; of the others " if places else ""
            unread = [own.audio for own in find_unread(data, set(lost)).values() if own.audio]
            yield make_finding(
                "no file",
                "error",
                "{n} clips have neither a sound file nor a video",
                f"{refused}, or, with --on-bad-clip skip, goes on without them",
                f"{step}get {AUDIO_FOLDER}/ or {VIDEO_FOLDER}/{'' if places else ' of these clips'}",
                splits=[split],
                ids=lost,
                examples=[f"{path}: the suffix {path.suffix!r} is not read" for path in unread],
            )
        if silent := [clip for clip in ids if clip in files and files[clip].audio is None]:
            yield make_finding(
                "no sound file",
                "warning",
                "{n} clips have no sound file, but a video",
                "their sound is read from the videos: it went through another encoder than the others'",
                f"get {AUDIO_FOLDER}/ of these clips, if there is one",
                splits=[split],
                ids=silent,
                examples=[str(files[clip].video) for clip in silent],
            )


def _check_unlisted(files: Mapping[str, ClipFiles], unlisted: Collection[str]) -> Iterator[Diagnostic]:
    if unlisted:
        yield make_finding(
            "no split",
            "warning",
            "{n} clips with files stand in no split file",
            "they are never read",
            "complete the split files, or remove the clips",
            ids=unlisted,
            examples=[str(_any(files[clip])) for clip in unlisted],
        )


def _check_test(data: Path, files: Mapping[str, ClipFiles], splits: Splits) -> Iterator[Diagnostic]:
    """Where no file names the test clips and there is a folder of them: test clips that lie elsewhere."""
    packages = [data / package for package in PACKAGES[1:] if (data / package).is_dir()]
    test = {clip: _any(files[clip]) for clip in splits.ids.get("test", ())}
    stray = {clip: path for clip, path in test.items() if not any(p in path.parents for p in packages)}
    if packages and stray:
        yield make_finding(
            "taken for test",
            "warning",
            f"{{n}} clips without labels lie outside {' and '.join(p.name for p in packages)}/",
            "without a test_split.csv every clip without labels is taken for a test clip: these too",
            "complete the label files, remove the clips, or name the test clips in a test_split.csv",
            splits=["test"],
            ids=stray,
            examples=map(str, stray.values()),
        )


def _check_nested(nested: Mapping[Path, Sequence[str]]) -> Iterator[Diagnostic]:
    for inner, clips in nested.items():
        yield make_finding(
            "in a subfolder",
            "warning",
            f"{inner}/ holds {{n}} clips",
            f"they are not read: clips lie in {inner.parent}/ itself",
            "move them up",
            ids=clips,
        )


def _check_listing(data: Path, nested: Collection[Path]) -> Iterator[Diagnostic]:
    """Files in the clips' folders that are not looked at, or that another one hides."""
    strangers: list[Path] = []
    media = 0
    clips: dict[tuple[str, str], list[Path]] = {}
    for package, (name, suffixes) in product(PACKAGES, FOLDERS.items()):
        for path in _list(data / package / name):
            known = path.suffix.lower() in suffixes
            if known and (clip := parse_stem(path.stem)):
                clips.setdefault((name, clip), []).append(path)
            elif path not in nested:
                strangers.append(path)
                media += known
    if strangers:
        yield make_finding(
            "not looked at",
            "warning" if media else "note",
            f"{{n}} files among the clips are no clips by their names, {media:,} of them sound or video",
            "they are not read: a clip's file is named by its id and a suffix that is read, as 00042.mp3",
            "rename those that are clips",
            count=len(strangers),
            examples=map(str, sorted(strangers)),
        )
    if several := {clip: paths for (_, clip), paths in clips.items() if len(paths) > 1}:
        yield make_finding(
            "several files",
            "note",
            "{n} clips have several sound files, or several videos",
            f"one is read: the first of the folders {', '.join(PACKAGES)}, and in it the first of "
            f"{', '.join(FOLDERS[AUDIO_FOLDER])}",
            "remove what is not meant",
            ids=several,
            examples=[str(paths[-1]) for paths in several.values()],
        )


def _list(folder: Path) -> list[Path]:
    """What lies in a folder, hidden and harmless files left out; nothing where there is none."""
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in named if path.name.lower() not in _HARMLESS]


def _any(files: ClipFiles) -> Path:
    path = files.audio or files.video
    assert path is not None
    return path
