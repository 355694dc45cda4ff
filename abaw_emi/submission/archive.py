"""A submission's zip: its members, read after what is declared of them was checked; and their names."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import PureWindowsPath

from abaw_emi.core.errors import Problem, SubmissionError
from abaw_emi.data.csv import MAX_BYTES, cap_problems
from abaw_emi.submission.format import SubmissionFormat

_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22

_MAX_RATIO = 100
"""Of a zip's contents to its size: numbers deflate to a half, the same row again and again to a hundredth."""

# Whatever the zip reader and its decompressors raise on damaged bytes.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


def read_zip(content: bytes, name: str) -> list[tuple[str, bytes]]:
    """The members of a zip: their names, and of CSVs what they hold.

    Raises:
        SubmissionError: it is no zip, is damaged, has bytes around it, or its members are compressed in a
            way, or to a degree, that no submission is.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            problems = _check_archive(archive, content, name)
            if not problems and (damaged := archive.testzip()):
                problems = [Problem(f"{name}, {damaged}", "damaged inside the zip")]
            infos = [] if problems else archive.infolist()
            members = [(i.filename, archive.read(i) if is_csv(i.filename) else b"") for i in infos]
    except _ZIP_ERRORS as error:
        problems = [Problem(name, f"not a sound zip file: {error}")]
    if problems:
        raise SubmissionError(problems)
    return members


def _check_archive(archive: zipfile.ZipFile, content: bytes, name: str) -> list[Problem]:
    """What is known to be wrong with a zip before anything in it is decompressed."""
    infos = archive.infolist()
    problems = [
        Problem(f"{name}, {info.filename}", "neither stored nor deflated", "one of the two")
        for info in infos
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    ]
    size = sum(info.file_size for info in infos)
    if size > min(MAX_BYTES, _MAX_RATIO * len(content)):
        found = f"{len(content):,} bytes that unpack to {size:,}"
        problems.append(Problem(name, found, "a CSV of about 1 MB"))
    end = content.rfind(_ZIP_END) + _ZIP_END_BYTES + len(archive.comment)
    if not content.startswith((b"PK\x03\x04", _ZIP_END)) or archive.comment or end != len(content):
        found = "bytes before or after the zip, or a comment in it"
        problems.append(Problem(name, found, "the zip alone"))
    return cap_problems(problems, name)


def is_csv(member: str) -> bool:
    """Whether a member is a CSV, and not what macOS puts beside one."""
    return member.lower().endswith(".csv") and not _is_added(member)


def _is_added(member: str) -> bool:
    """Whether macOS put it beside a file, or into its zip."""
    return member.startswith("__MACOSX/") or member.rpartition("/")[2].startswith("._")


def check_members(members: Sequence[str], name: str, profile: SubmissionFormat) -> list[Problem]:
    """What is wrong with the names of a zip's members."""
    problems = []
    for member in members:
        if _is_added(member):
            step = "make it with abaw-emi submit, or with zip -X"
            problems.append(
                Problem(name, f"{member}, which macOS adds, is in the zip", "nothing but the CSV", step)
            )
        elif len(PureWindowsPath(member).parts) > 1 or member.endswith("/"):
            found = f"{member} lies in a folder inside the zip"
            problems.append(Problem(name, found, "the CSV at the zip's root", "zip the file, not its folder"))
        elif not is_csv(member):
            problems.append(Problem(name, f"{member} is in the zip", "nothing but the CSV"))
    csv_names = list(filter(is_csv, members))
    if len(csv_names) != 1:
        problems.append(Problem(name, f"{len(csv_names)} CSV files in the zip", "exactly one"))
    elif "csv_name" in profile.given and csv_names != [profile.csv_name]:
        problems.append(Problem(name, f"the CSV is named {csv_names[0]}", profile.csv_name))
    return cap_problems(problems, name)
