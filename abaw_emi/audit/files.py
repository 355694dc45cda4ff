"""Files against ids, both ways: clips without files, files of no clip, files that are not looked at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw_emi.audit.finding import make_finding
from abaw_emi.core.constants import SPLITS, Split
from abaw_emi.core.errors import Diagnostic
from abaw_emi.data.layout import (
    AUDIO_FOLDER,
    AUDIO_SUFFIXES,
    PACKAGES,
    VIDEO_FOLDER,
    VIDEO_SUFFIXES,
    ClipFiles,
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
    """Every finding that the names of files alone tell.

    Args:
        data: the data folder.
        files: of each clip (`layout.find_clips`).
        splits: which clip belongs where.
        named: splits that a file of the data folder names the clips of.
    """
    return [
        *_check_missing(files, splits),
        *_check_unlisted(data, files, splits, named),
        *_check_listing(data),
    ]


def _check_missing(files: Mapping[str, ClipFiles], splits: Splits) -> list[Diagnostic]:
    findings = []
    for split, ids in splits.ids.items():
        if lost := [clip for clip in ids if clip not in files]:
            refused = "training refuses them" if split != "test" else "no prediction can be made of them"
            findings.append(
                make_finding(
                    "no file",
                    "error",
                    "{n} clips have neither a sound file nor a video",
                    f"{refused}, or, with --on-bad-clip skip, goes on without them",
                    f"get {AUDIO_FOLDER}/ or {VIDEO_FOLDER}/ of these clips",
                    splits=[split],
                    ids=lost,
                )
            )
        if silent := [clip for clip in ids if clip in files and files[clip].audio is None]:
            findings.append(
                make_finding(
                    "no sound file",
                    "warning",
                    "{n} clips have no sound file, but a video",
                    "their sound is read from the videos: it went through another encoder than the others'",
                    f"get {AUDIO_FOLDER}/ of these clips, if there is one",
                    splits=[split],
                    ids=silent,
                    examples=[str(files[clip].video) for clip in silent[:5]],
                )
            )
    return findings


def _check_unlisted(
    data: Path, files: Mapping[str, ClipFiles], splits: Splits, named: Collection[Split]
) -> list[Diagnostic]:
    findings = []
    if splits.unlisted:
        findings.append(
            make_finding(
                "no split",
                "warning",
                "{n} clips with files stand in no split file",
                "they are never read",
                "complete the split files, or remove the clips",
                ids=splits.unlisted,
                examples=[str(_any(files[clip])) for clip in list(splits.unlisted)[:5]],
            )
        )
    packages = [data / package for package in PACKAGES[1:] if (data / package).is_dir()]
    if "test" in named or not packages:
        return findings
    stray = [clip for clip in splits.ids.get("test", ()) if not _lies_in(_any(files[clip]), packages)]
    if stray:
        findings.append(
            make_finding(
                "taken for test",
                "warning",
                f"{{n}} clips without labels lie outside {' and '.join(p.name for p in packages)}/",
                "without a test_split.csv every clip without labels is taken for a test clip: these too",
                "complete the label files, remove the clips, or name the test clips in a test_split.csv",
                splits=["test"],
                ids=stray,
                examples=[str(_any(files[clip])) for clip in stray[:5]],
            )
        )
    return findings


def _check_listing(data: Path) -> list[Diagnostic]:
    """Files in the clips' folders that are not looked at, or that another one hides."""
    strangers: list[Path] = []
    media = 0
    files: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for folder, suffixes in (
        (data / package / name, suffixes)
        for package in PACKAGES
        for name, suffixes in ((AUDIO_FOLDER, AUDIO_SUFFIXES), (VIDEO_FOLDER, VIDEO_SUFFIXES))
    ):
        for name in _list(folder):
            path = folder / name
            known = path.suffix.lower() in suffixes
            if known and len(path.stem) == 5 and path.stem.isascii() and path.stem.isdigit():
                files[folder.name, path.stem] += 1
                examples[folder.name, path.stem] = str(path)
            else:
                strangers.append(path)
                media += known
    several = [clip for clip, count in files.items() if count > 1]
    findings = []
    if strangers:
        findings.append(
            make_finding(
                "not looked at",
                "warning" if media else "note",
                f"{{n}} files among the clips are no clips by their names, {media:,} of them sound or video",
                "they are not read: a clip's file is named by five digits and a known suffix, as 00042.mp3",
                "rename those that are clips",
                count=len(strangers),
                examples=map(str, sorted(strangers)),
            )
        )
    if several:
        findings.append(
            make_finding(
                "several files",
                "note",
                "{n} clips have several sound files, or several videos",
                f"one is read: the first of the folders {', '.join(PACKAGES)}, and in it the first of "
                f"{', '.join((*AUDIO_SUFFIXES, *VIDEO_SUFFIXES))}",
                "remove what is not meant",
                ids={clip for _, clip in several},
                examples=[examples[clip] for clip in several],
            )
        )
    return findings


def _list(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in _HARMLESS:
                yield entry.name


def _any(files: ClipFiles) -> Path:
    path = files.audio or files.video
    assert path is not None
    return path


def _lies_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(folder in path.parents for folder in folders)
