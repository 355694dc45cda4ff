"""SHA-256 of files, computed again only for those that changed."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from abaw_emi.core.files import open_whole

_SETTLED_NS = 2_000_000_000
"""Age in ns from which a further change of a file changes its time stamps: FAT's resolution is 2 s."""


def sha256(content: bytes) -> str:
    """The SHA-256 of `content`, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_Look = tuple[int, int, int, int]
"""Size, mtime, ctime and inode of a file: they change when it does. ctime (POSIX) cannot be set back."""

_KNOWN = TypeAdapter(dict[str, tuple[_Look, str]])


class FileHashes:
    """SHA-256 of files, computed again only for files that changed: a corpus has gigabytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._load()
        self._new: dict[str, tuple[_Look, str]] = {}

    def _load(self) -> dict[str, tuple[_Look, str]]:
        try:
            return _KNOWN.validate_json(self._path.read_bytes())
        except (OSError, ValueError):  # only a memory: without it, all files are hashed again
            return {}

    def get(self, path: Path) -> str | None:
        """The hash of a file; None if it cannot be read, or is not a regular file."""
        key = str(path.absolute())
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return None
            look = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            known = self._known.get(key)
            if known is not None and known[0] == look:
                return known[1]
            source_hash = hash_file(path)
        except OSError:
            return None
        # Not of a file so new that a change might leave its time stamps.
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS:
            self._known[key] = self._new[key] = (look, source_hash)
        return source_hash

    def save(self) -> None:
        """Saves the new hashes together with those of other processes, without files that no longer exist."""
        if not self._new:
            return
        known = {path: entry for path, entry in self._load().items() if Path(path).exists()}
        content = json.dumps(known | self._new, separators=(",", ":")).encode()
        with suppress(OSError), open_whole(self._path) as file:
            file.write(content)
        self._new.clear()
