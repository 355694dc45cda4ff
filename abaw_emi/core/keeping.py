"""Keeping what was read of files in a store, for as long as the disk lets it be kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from abaw_emi.core.arrays import Float32
from abaw_emi.core.datafile import StoredArray
from abaw_emi.core.errors import Problem
from abaw_emi.core.store import ArrayStore

CACHE_VARIABLE = "ABAW_EMI_CACHE"


class Keeper:
    """Adds arrays to a store, which is locked from the first of them on until `stop`.

    Args:
        store: Where they are kept.
        say: Told, in a line, what a person waits for.
        work: What is done anew where nothing can be kept, such as "decodes clips".
    """

    def __init__(self, store: ArrayStore, say: Callable[[str], object], work: str) -> None:
        self._store = store
        self._say = say
        self._work = work
        self._writing = ExitStack()
        self._unwritable: list[Problem] = []

    @property
    def warnings(self) -> list[Problem]:
        """What was damaged in the store, and why it cannot be written."""
        return [*self._store.problems, *self._unwritable]

    def keep(self, key: str, array: Float32, record: dict[str, Any]) -> StoredArray | None:
        """The array of `key`, on disk; None where it cannot be written there."""
        if self._unwritable:
            return None
        try:
            if not self._store.writable:
                # The lock is kept until all is read, so that others wait instead of reading the same.
                self._writing.enter_context(self._store.writing(self._wait))
            return self._store.get(key) or self._store.add(key, array, record)
        except OSError as error:
            self._give_up(error)
            return None

    def stop(self) -> None:
        """Lets others write."""
        try:
            self._writing.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        found = f"cannot be written ({error.strerror})"
        step = f"what is new is held in memory, and read again next time; set ${CACHE_VARIABLE} to a folder"
        self._unwritable = [Problem(str(self._store.folder), found, next_step=f"{step} with room")]

    def _wait(self) -> None:
        self._say(f"waiting for another process that {self._work} into {self._store.folder}")
