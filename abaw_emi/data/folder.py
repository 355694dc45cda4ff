"""The data folder: which clips belong to which split, their labels, and where their files lie.

Reads only; nothing is ever written into the data folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from abaw_emi.core.constants import FILENAME, OFFICIAL_COUNTS, SPLITS, AnySplit, Split
from abaw_emi.core.errors import CorpusError, Problem, TableError, collect_errors, show_first
from abaw_emi.core.files import AnyPath
from abaw_emi.data.layout import ClipFiles, check_root, find_clips, find_nested, find_unread
from abaw_emi.data.tables import read_ids, read_labels


def read_test_ids(data: AnyPath) -> list[str]:
    """The ids of the test clips of a data folder, in the order of its test_split.csv.

    Without a test_split.csv, those of every clip that is in neither of the other splits, sorted.

    Raises:
        TableError, CorpusError: a file is not what it should be, or there is no test clip.
    """
    return DataFolder(Path(data)).ids("test")


@dataclass(frozen=True)
class DataFolder:
    """A data folder; each part is read, and checked, when it is first asked for.

    Attributes:
        root: the folder that `--data` names.
        features: the folder of feature folders that `abaw-emi extract` made; it need not exist.
    """

    root: Path
    features: Path = Path("features")
    _labels: dict[Split, pl.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def label_file(self, split: Split) -> Path:
        """Where the labels (or, for test, the ids) of `split` lie."""
        return self.root / f"{split}_split.csv"

    @cached_property
    def files(self) -> Mapping[str, ClipFiles]:
        """The media files of every clip, by id."""
        found = find_clips(self.root)
        if not found:
            check_root(self.root)
        return found

    @property
    def videos(self) -> dict[str, Path]:
        """The video of every clip that has one, by id."""
        return {clip: files.video for clip, files in self.files.items() if files.video is not None}

    def find_files(self, ids: Collection[str]) -> Mapping[str, ClipFiles]:
        """The media files of these clips; those of a suffix that is not read only where there is no other."""
        missing = {clip for clip in ids if clip not in self.files}
        return {**self.files, **find_unread(self.root, missing)} if missing else self.files

    def find_misplaced(self, ids: Collection[str]) -> list[Problem]:
        """A problem for each folder that is not read and has clips in it, some of which are among `ids`."""
        if set(ids) <= self.files.keys():
            return []
        return [
            Problem(f"{inner}/", f"holds {len(clips):,} clips", f"them in {inner.parent}/", "move them up")
            for inner, clips in find_nested(self.root, self.files).items()
            if not set(ids).isdisjoint(clips)
        ]

    def read_labels(self, *splits: Split) -> pl.DataFrame:
        """The label table of the splits, one after the other, in the files' order.

        Raises:
            TableError: problems of any of the files, all together.
            CorpusError: an id stands in two splits, or there is no data folder, or it is beside.
        """
        problems: list[Problem] = []
        for split in splits:
            if split not in self._labels:
                with collect_errors(problems):
                    self._labels[split] = read_labels(self.label_file(split))
        if problems and not self.root.is_dir():
            find_clips(self.root)  # raises, and says how to name the folder
        if problems:
            check_root(self.root)
            raise TableError(problems)
        table = pl.concat([self._labels[split] for split in splits])
        twice = table.filter(table[FILENAME].is_duplicated())[FILENAME].unique().sort().to_list()
        if twice:
            names = " and ".join(self.label_file(split).name for split in splits)
            raise CorpusError(
                Problem(str(self.root), f"{len(twice)} ids stand in both {names}: {show_first(twice)}")
            )
        return table

    def ids(self, split: Split) -> list[str]:
        """The ids of a split, in its file's order; without a test_split.csv, test is every other clip.

        Raises:
            TableError, CorpusError: a file is not what it should be, or there is no test clip.
        """
        if split != "test":
            return self.read_labels(split)[FILENAME].to_list()
        return list(self._test_ids)

    def list_clips(self, split: AnySplit, others: Iterable[str] = ()) -> list[str]:
        """The ids of a split; of "all", every clip that is in a table, has a file, or is among `others`.

        Raises:
            EmiError: a table cannot be read.
        """
        if split != "all":
            return self.ids(split)
        tables: list[Split] = [each for each in SPLITS if self.label_file(each).is_file()]
        return sorted({*self.files, *others, *(filename for each in tables for filename in self.ids(each))})

    @cached_property
    def _test_ids(self) -> list[str]:
        path = self.label_file("test")
        labelled: list[Split] = [other for other in ("train", "valid") if self.label_file(other).is_file()]
        if path.is_file():
            ids = read_ids(path)
            both = sorted(set(ids) & {i for other in labelled for i in self.ids(other)})
            if both:
                found = f"{len(both)} test ids are labelled in train or valid: {show_first(both)}"
                raise CorpusError(Problem(str(path), found, "splits without a common clip"))
        else:
            ids = sorted(set(self.files) - set(self.read_labels("train", "valid")[FILENAME]))
        if not ids:
            raise CorpusError(
                Problem(
                    str(self.root),
                    "no test clip: no test_split.csv, and every clip stands in train or valid",
                    "clips under test_data/ or test/, or a test_split.csv",
                )
            )
        return ids

    def check_counts(self, *splits: Split) -> list[Problem]:
        """A warning for each split whose size is not the official one."""
        return [
            Problem(f"{self.root}, {split}", f"{len(self.ids(split)):,} clips", f"{OFFICIAL_COUNTS[split]:,}")
            for split in splits
            if len(self.ids(split)) != OFFICIAL_COUNTS[split]
        ]
