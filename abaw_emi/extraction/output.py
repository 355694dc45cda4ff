"""A folder of one file a clip that a model made, with a record of which model it was, and made of what.

    features/hubert-base/00000.npy ...   extraction.json

A file (or, of faces, a folder) is there whole or not at all. The record lags behind the files by seconds:
what was written and not recorded when a process was killed is made again. A folder holds the work of one
model in one setting.
Processes that share the clips out (`data.shard`) write into one folder, and add to one record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic_core import from_json

from abaw_emi.core.errors import FeatureError, Problem, TableError, UsageError, show_first
from abaw_emi.core.files import drop_parts, write_bytes
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.layout import find_files
from abaw_emi.data.shard import Shard
from abaw_emi.extraction.encode import Content, Source

_SAVE_SECONDS = 10.0
"""Between two saves of the record, which takes 20 ms for 17,000 clips."""

_LOCK = ".lock"
"""Held while a process writes files; each shard has one of its own."""

_RECORD_LOCK = ".record.lock"
"""Held while the record is read and written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written.

    Attributes:
        folder: of the files.
        encoder: their record of the model.
        written: ids of the clips that a file was made of.
        kept: ids of those that had it already.
        skipped: ids of those that were left out because their sources cannot be read.
    """

    folder: Path
    encoder: dict[str, Any]
    written: tuple[str, ...]
    kept: tuple[str, ...]
    skipped: tuple[str, ...]


class ClipFolder:
    """Writes files of clips, and knows which are there.

    Args:
        folder: Where they lie; it need not exist.
        record: Name of the record in it.
        suffix: Of the files.
        settings: What shapes the files; `settings["encoder"]` is `Pretrained.to_json()`.
        about: What else is recorded: versions, device.
        overwrite: Whether what is there is to go, once `writing`.
        shard: The clips that this process makes files of.

    Raises:
        UsageError: `overwrite`, while others may write.
        FeatureError: the folder holds the work of another model or setting (unless `overwrite`), files that
            nothing here made, or a record that cannot be read.
    """

    _what = "files"
    """What is there of a clip, for messages."""

    def __init__(
        self,
        folder: Path,
        record: str,
        suffix: str,
        *,
        settings: dict[str, Any],
        about: dict[str, Any],
        overwrite: bool = False,
        shard: Shard = Shard(),  # noqa: B008 - it is frozen
    ) -> None:
        if overwrite and not shard.is_whole:
            found = f"{folder} is to be replaced, by the shard {shard} of its clips"
            raise UsageError(Problem("--overwrite", found, "to remove the folder before any shard begins"))
        self.folder = folder
        self._record = folder / record
        self._suffix = suffix
        self._settings = settings
        self._about = about
        self._overwrite = overwrite
        self._shard = shard
        self._saved = time.monotonic()
        self._clips = self._read()
        self._changes: dict[str, str | None] = {}  # since the last save; None for what was dropped
        self._notes: dict[str, Any] = {}  # of clips that were written since

    def part(
        self, sources: Sequence[Source[Content]], reporter: Reporter
    ) -> tuple[list[Source[Content]], tuple[str, ...]]:
        """The sources whose files are still to be made, and the ids of the others, whose number is said."""
        todo = [source for source in sources if not self.has(source.filename, source.sha256)]
        kept = tuple(source.filename for source in sources if self.has(source.filename, source.sha256))
        if kept:
            reporter.say(f"{len(kept):,} of {len(sources):,} clips are in {self.folder} already")
        return todo, kept

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The block writes files; the record is saved however it ends.

        Raises:
            FeatureError: another process writes there, or has written something else by now.
            TableError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            own = "" if self._shard.is_whole else f"-{self._shard.number}-of-{self._shard.count}"
            lock = FileLock(self.folder / f"{_LOCK}{own}")
            lock.acquire(timeout=0)
        except Timeout:
            found = "another process is writing there"
            raise FeatureError(Problem(str(self.folder), found, next_step="wait for it")) from None
        except OSError as error:
            found = f"cannot be written: {error.strerror}"
            raise TableError(Problem(str(self.folder), found)) from error
        try:
            drop_parts(self.folder)
            if self._overwrite:
                for paths in self._find().values():
                    for path in paths:
                        self._remove(path)
                self._record.unlink(missing_ok=True)
                self._overwrite = False
            self._save()
            try:
                yield
            finally:
                self._save()
        finally:
            lock.release()

    def has(self, filename: str, source_hash: str) -> bool:
        """Whether the clip's file is there, made of these very bytes."""
        return self._clips.get(filename) == source_hash and self._path(filename).exists()

    def write(self, filename: str, source_hash: str, content: Any, note: Any = None) -> None:
        """Writes what was made of a clip, whole or not at all; the record keeps the note, if there is one."""
        self._store(filename, content)
        if note is not None:
            self._notes[filename] = note
        self._clips[filename] = self._changes[filename] = source_hash
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self._save()

    def drop(self, filename: str) -> None:
        """Takes away what was made of a clip that has no source any more."""
        self._changes[filename] = None
        if self._clips.pop(filename, None) is not None:
            self._remove(self._path(filename))

    def _store(self, filename: str, content: Any) -> None:
        write_bytes(self._path(filename), content)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def _find(self) -> dict[str, list[Path]]:
        """What is there of each clip."""
        return find_files(self.folder, (self._suffix,))

    def _path(self, filename: str) -> Path:
        return self.folder / f"{filename}{self._suffix}"

    def _save(self) -> None:
        """Writes the record, with what other shards have added to it."""
        with FileLock(self.folder / _RECORD_LOCK):
            clips = sorted({**self._read(), **self._changes}.items())
            self._clips = {name: sha256 for name, sha256 in clips if sha256 is not None}
            record = {"settings": self._settings, **self._about, "clips": self._clips}
            notes = {**(self._read_record().get("notes") or {}), **self._notes}
            if notes := {name: note for name, note in sorted(notes.items()) if name in self._clips}:
                record["notes"] = notes
            text = json.dumps(record, indent=1)
            write_bytes(self._record, f"{text}\n".encode())
        self._changes.clear()
        self._saved = time.monotonic()

    def _read(self) -> dict[str, str]:
        """The clips that are there, with the hashes of their sources."""
        before = self._read_record()
        files = self._find()
        if files and not before:
            first = show_first(pack_ids(files), 3)
            found = f"holds {len(files):,} {self._what} that abaw-emi did not make ({first})"
            raise FeatureError(Problem(str(self.folder), found, "a new folder", "give another one"))
        if not before or self._overwrite:
            return {}
        settings = before["settings"]
        others = [key for key in self._settings if _identify(settings, key) != _identify(self._settings, key)]
        if others:
            raise FeatureError(
                Problem(
                    str(self.folder),
                    f"was made by {_describe(settings, others)}",
                    _describe(self._settings, others),
                    "give another folder, or replace it with --overwrite",
                )
            )
        return dict(before["clips"])

    def _read_record(self) -> dict[str, Any]:
        try:
            record = from_json(self._record.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise FeatureError(Problem(str(self._record), f"cannot be read: {error}")) from error
        if not isinstance(record, dict) or not all(
            isinstance(record.get(key), dict) for key in ("settings", "clips")
        ):
            raise FeatureError(Problem(str(self._record), "is no record of abaw-emi"))
        return record


def check_place(out: Path, data: Path) -> None:
    """Passes where `out` may be written to.

    Raises:
        UsageError: it lies in the data folder, into which nothing is ever written.
    """
    if out.resolve().is_relative_to(data.resolve()):
        raise UsageError(Problem("--out", f"{out} lies in the data folder {data}", "a folder outside of it"))


def _identify(settings: Mapping[str, Any], key: str) -> Any:
    """A setting without the names that the same thing may go by."""
    value = settings.get(key)
    return value.get("files") if key == "encoder" and isinstance(value, dict) else value


def _describe(settings: Mapping[str, Any], keys: list[str]) -> str:
    """The model, and the settings that matter, in words."""
    encoder = settings.get("encoder") or {}
    name = str(encoder.get("name"))
    commit = encoder.get("commit")
    if "encoder" in keys:
        files = encoder.get("files") or {}
        weights = next(
            (value for file, value in files.items() if "model" in file or file.endswith(".onnx")), ""
        )
        name += f" ({f'commit {commit[:12]}' if commit else f'weights {weights[:12]}'})"
    return ", ".join([name, *(f"{key} {settings.get(key)}" for key in keys if key != "encoder")])
