"""Damaged tables, archives and records through the command line: `nox -s fuzz_tables`, or
`python -m tests.submission.fuzz`.

A mutant may be refused by name, or read. It is a fault if a command raises anything but an `EmiError`, takes
long, or accepts a table that a strict reader of our own refuses or reads otherwise. `--seed` and `--only`
bring a mutant back.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from abaw_emi.cli.app import app
from abaw_emi.core.constants import COLUMNS, EMOTIONS
from abaw_emi.core.errors import EmiError

MOST_SECONDS = 20.0
"""That one command may take."""

TEST_IDS = [f"{i:05}" for i in range(40, 52)]
VALID_IDS = [f"{i:05}" for i in range(20, 40)]
TRAIN_IDS = [f"{i:05}" for i in range(20)]

TOKENS = [
    *(b"\xa0", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b'""', b",", b";", b"\t", b" ", b"\0", b"\x1b[31m"),
    *(b"NaN", b"inf", b"-1", b"1e999", b"1e-400", b"0x1p3", b"1_0", "\u0661".encode(), "\u2003".encode()),
    *(b"null", b"true", b"{}", b"[]", b"{", b"[" * 9_999, b"9" * 400, b"-0", b"1.5", b"00041", b"\\u0000"),
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    2**80,
    1e308,
    "",
    "x",
    "\x00",
    [],
    {},
    [[]],
    {"a": 1},
    "00001-99999",
    [7],
]


def write_table(path: Path, ids: list[str], seed: int) -> None:
    values = np.random.default_rng(seed).random((len(ids), 6)).round(4)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(ids, values.tolist(), strict=True)]
    path.write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")


def write_bases(folder: Path) -> None:
    """A small data folder, and a file of each kind that we read."""
    (folder / "data" / "test_data" / "audio").mkdir(parents=True)
    for name in TEST_IDS:
        (folder / "data" / "test_data" / "audio" / f"{name}.mp3").touch()
    for split, ids, seed in (("train", TRAIN_IDS, 1), ("valid", VALID_IDS, 2)):
        write_table(folder / "data" / f"{split}_split.csv", ids, seed)
    for name, ids, seed in (
        ("v1", VALID_IDS, 3),
        ("v2", VALID_IDS, 4),
        ("t1", TEST_IDS, 5),
        ("t2", TEST_IDS, 6),
    ):
        write_table(folder / f"{name}.csv", ids, seed)
    groups = [f"{name},{int(name) // 4}" for name in VALID_IDS]
    (folder / "groups.csv").write_text("\n".join(["Filename,speaker", *groups, ""]))
    (folder / "rules.toml").write_text('id_form = "padded"\ndecimals = 4\nrange = [0.0, 1.0]\ntries = 3\n')
    run = folder / "runs" / "paper-seed1"
    run.mkdir(parents=True)
    record = {"preset": "paper", "seed": 1, "trained_on": ["00000-00019"], "trained_on_complete": True}
    record |= {"best_epoch": 3, "epochs": 5, "valid": {"mean_pearson": 0.4, "pearson": {"Joy": 0.4}}}
    (run / "provenance.json").write_text(json.dumps({**record, "finished": "now", "precision": "fp32"}))
    (run / "run.toml").write_text("[training]\nepochs = 5\n")
    (run / "metrics.jsonl").write_text('{"epoch": 1, "valid": {"mean_pearson": 0.1, "pearson": {}}}\n')
    for arguments in (
        ["ensemble", "--preds", "t1.csv", "t2.csv", "--out", "both.csv"],
        ["submit", "--preds", "both.csv", "--name", "one"],
        ["ledger", "set", "one", "--test-score", ".5"],
    ):
        done, error = run_command(arguments)
        assert error is None, (arguments, done, error)


# What is mutated, and the commands that read it.
READERS: dict[str, list[list[str]]] = {
    "v1.csv": [["score", "v1.csv", "data/valid_split.csv", "--bootstrap", "0"]],
    "v2.csv": [
        ["compare", "v1.csv", "v2.csv", "data/valid_split.csv", "--bootstrap", "0", "--permutations", "9"]
    ],
    "data/valid_split.csv": [["score", "v1.csv", "data/valid_split.csv", "--bootstrap", "0"]],
    "t1.csv": [
        ["check", "t1.csv"],
        ["check", "t1.csv", "--profile", "rules.toml"],
        ["check", "t1.csv", "--kind", "predictions"],
        ["submit", "--preds", "t1.csv", "--dry-run"],
    ],
    "t2.csv": [["ensemble", "--preds", "t1.csv", "t2.csv", "--out", "new.csv"]],
    "groups.csv": [["score", "v1.csv", "data/valid_split.csv", "--groups", "groups.csv", "--bootstrap", "9"]],
    "rules.toml": [
        ["check", "t1.csv", "--profile", "rules.toml"],
        ["submit", "--preds", "t1.csv", "--dry-run", "--profile", "rules.toml"],
    ],
    "both.provenance.json": [
        ["submit", "--preds", "both.csv", "--dry-run", "--force"],
        ["check", "both.csv"],
    ],
    "submissions/ledger.jsonl": [["ledger"], ["submit", "--preds", "t1.csv", "--dry-run"]],
    "submissions/one/manifest.json": [["check", "submissions/one"]],
    "submissions/one/one.zip": [["check", "submissions/one/one.zip"], ["check", "submissions/one"]],
    "runs/paper-seed1/provenance.json": [["runs"]],
    "runs/paper-seed1/run.toml": [["runs"]],
    "runs/paper-seed1/metrics.jsonl": [["runs"]],
}


def run_command(arguments: list[str]) -> tuple[dict[str, Any], BaseException | None]:
    """What a command prints as JSON with its exit code, and what it raised."""
    out, error, code = io.StringIO(), None, 0
    sys.argv = ["abaw-emi", *arguments, "--json"]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            result = COMMAND.main(sys.argv[1:], standalone_mode=False)
            code = result if isinstance(result, int) else 0
        except typer.Exit as end:
            code = end.exit_code
        except EmiError:
            code = 1
        except BaseException as raised:  # whatever it is, it is what this looks for
            error = raised
    text = out.getvalue()
    try:
        values = json.loads(text) if text else {}
    except ValueError as raised:
        return {"code": code}, error or raised
    return {**values, "code": code}, error


COMMAND = typer.main.get_command(app)


# Mutations.


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + content[at + rng.randrange(1, 60) :]
    if kind == 2:
        return content[:at] + content[max(0, at - rng.randrange(1, 200)) :]
    if kind == 3:
        changed = bytearray(content)
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 4:
        lines = content.split(b"\n")
        place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
        return b"\n".join(lines)
    token = rng.choice(TOKENS)
    return content[:at] + token + content[at + rng.choice([0, 0, 1, len(token)]) :]


def change_values(content: bytes, rng: random.Random) -> bytes:
    """Puts a value of any type in the place of one, in a line of JSON."""
    lines = content.splitlines()
    place = rng.randrange(len(lines)) if rng.random() < 0.5 or len(lines) < 3 else 0
    try:
        whole = content if content.count(b"\n") > 3 else lines[place]
        values = json.loads(whole)
    except (ValueError, IndexError):
        return change_bytes(content, rng)
    target, key = {"": values}, ""
    while isinstance(inner := target[key], (dict, list)) and inner and rng.random() < 0.8:
        target, key = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    if isinstance(target, dict) and key and rng.random() < 0.3:
        del target[key]
    else:
        target[key] = rng.choice(VALUES)
    changed = json.dumps(values if key == "" or target is not values else target).encode()
    if whole is content:
        return changed
    lines[place] = changed
    return b"\n".join(lines) + b"\n"


# A strict reader of our own.


_ID = re.compile(r"[ \t]*0*(\d{1,5})(?:\.0*)?[ \t]*", re.ASCII)
_NUMBER = re.compile(r"[ \t]*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?[ \t]*", re.ASCII)


def read_strictly(content: bytes, *, marked: bool) -> dict[str, list[float]] | None:
    """The rows of a table by id, or None where it is not plainly one; `marked` allows a byte-order mark."""
    try:
        text = content.decode("utf-8-sig" if marked else "utf-8")
        rows = list(csv.reader(io.StringIO(text.rstrip("\r\n \t"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    while rows and not rows[0]:
        return None
    if not rows or tuple(rows[0]) != COLUMNS or len(rows) < 2:
        return None
    table: dict[str, list[float]] = {}
    for name, *cells in rows[1:] and [row or [""] for row in rows[1:]]:
        match = _ID.fullmatch(name)
        if not match or len(cells) != 6 or not all(map(_NUMBER.fullmatch, cells)):
            return None
        if match[1].zfill(5) in table:
            return None
        table[match[1].zfill(5)] = list(map(float, cells))
    return table


def find_silent(name: str, arguments: list[str], done: dict[str, Any]) -> str:
    """What is wrong with a table that was accepted; "" for nothing."""
    if done["code"] != 0 or not name.endswith((".csv", ".zip")) or name == "groups.csv":
        return ""
    content = Path(name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (member,) = archive.infolist()
            content = archive.read(member)
    submission = arguments[0] == "check" and "predictions" not in arguments
    table = read_strictly(content, marked=not submission)
    if table is None:
        return "accepted, and is no plain table"
    if arguments[0] in ("check", "submit") and sorted(table) != TEST_IDS:
        return "accepted with other ids"
    if submission and not all(0 <= value <= 1 for row in table.values() for value in row):
        return "accepted with values outside [0, 1]"
    if arguments[0] == "score":
        labels = read_strictly(Path(arguments[2]).read_bytes(), marked=True)
        predictions = read_strictly(Path(arguments[1]).read_bytes(), marked=True)
        assert labels is not None
        assert predictions is not None
        for place, emotion in enumerate(EMOTIONS):
            y, p = ([rows[key][place] for key in sorted(labels)] for rows in (labels, predictions))
            expected, found = float(np.corrcoef(y, p)[0, 1]), done["pearson"][emotion]
            if not abs(expected - found) < 1e-9:
                return f"{emotion}: {found}, not {expected}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="the number of one mutant")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    faults = 0
    outcomes: Counter[str] = Counter()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["ABAW_EMI_CACHE"] = f"{folder}/cache"
        write_bases(Path(folder))
        names = list(READERS)
        numbers = range(options.mutants) if options.only is None else [options.only]
        for number in numbers:
            rng = random.Random(f"{options.seed}:{number}")
            name = names[number % len(names)]
            path = Path(name)
            content = path.read_bytes()
            change: Callable[[bytes, random.Random], bytes] = change_bytes
            if name.endswith((".json", ".jsonl")) and rng.random() < 0.6:
                change = change_values
            mutant = content
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                mutant = change(mutant or b"\n", rng)
            path.write_bytes(mutant)
            for arguments in READERS[name]:
                start = time.perf_counter()
                done, error = run_command(arguments)
                taken = time.perf_counter() - start
                slowest = max(slowest, (taken, f"{number} {name}"))
                silent = "" if error else find_silent(name, arguments, done)
                outcomes["refused" if done["code"] else "accepted"] += 1
                if error or silent or taken > MOST_SECONDS:
                    faults += 1
                    print(f"mutant {number}, {name}, {' '.join(arguments)}: {error or silent or taken!r}")
                    if error and faults < 20:
                        print("".join(traceback.format_exception(error)[-3:]))
            path.write_bytes(content)
            Path("new.csv").unlink(missing_ok=True)
            Path("new.provenance.json").unlink(missing_ok=True)
        os.chdir("/")
    print(f"{faults} faults; {dict(outcomes)}; slowest {slowest[0]:.1f} s: {slowest[1]}")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
