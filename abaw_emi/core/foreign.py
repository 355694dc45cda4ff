"""Files that are not what their names say: what a failed download leaves in their place."""

from __future__ import annotations


def recognise_foreign(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins with these bytes, and what to do about it; None if it is none of these.

    >>> recognise_foreign(b"version https://git-lfs.github.com/spec/v1")
    ('is a Git LFS pointer, not the file itself', 'run `git lfs pull`')
    """
    start = head[:100].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself", "run `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a saved web page", "download it again, signed in"
    return None
