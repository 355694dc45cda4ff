"""Golden output: commands as a user types them, and exactly what they print.

`golden/<name>.txt` holds a command after `$ `, its stdout, its stderr, and its exit code where it is not 0.
After a wanted change: `python -m tests.cli.regenerate`, then read the diff.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.cli.conftest import environment, values, write_csv
from tests.command import run_command
from tests.simulated import draw_labels, predict

GOLDEN = Path(__file__).parent / "golden"

COMPARE = "compare old.csv new.csv worse.csv valid.csv"
THREE = "--preds old.csv new.csv worse.csv --labels valid.csv --split valid"
TWO = "--preds new-test.csv old-test.csv --labels valid.csv --fit new.csv old.csv"
SHORT = "ensemble --preds new-test.csv short-test.csv --out short.csv"

SESSIONS = {
    "score": ["score preds.csv labels.csv"],
    "against": [
        "score new.csv valid.csv --against old.csv worse.csv",
        "score new.csv valid.csv --against old.csv --groups groups.csv --interval bca --bootstrap 500",
    ],
    "compare": [
        COMPARE,
        *(f"{COMPARE} --bootstrap 100 --format {form}" for form in ("markdown", "latex", "csv")),
    ],
    "diagnostics": [
        f"score {name}.csv valid.csv --bootstrap 0" for name in ("shifted", "swapped", "rounded", "valid")
    ],
    "ensemble": [
        f"ensemble {THREE} --method auto --out v.csv",
        f"ensemble {TWO} --method weights",
        SHORT,
        f"{SHORT} --on-missing others",
    ],
    "submission": [
        "submit --preds new-test.csv --valid-preds new.csv --name mine --dry-run",
        "submit --preds new-test.csv --valid-preds new.csv --name mine",
        "submit --preds new-test.csv",
        "submit --preds old-test.csv --profile rules.toml",
        "check submissions/mine/mine.zip",
        "check labels-test.csv",
        "ledger set mine --test-score .554",
        "ledger",
    ],
    "readme": [
        "score new.csv valid.csv --against old.csv",
        "score new.csv valid.csv --against old.csv --groups speakers.csv",
        "compare new.csv old.csv third.csv valid.csv",
        "ensemble --preds new-test.csv old-test.csv third-test.csv --fit new.csv old.csv third.csv "
        "--method auto",
    ],
}


def write_files(folder: Path) -> None:
    """What the commands read: 120 valid clips of 12 speakers, 30 test clips, systems of known quality."""
    names = [f"{i:05}" for i in range(40)]
    labels = values(names, seed=4)
    noise = values(names, seed=5, low=-0.4, high=0.4)
    predicted = {n: [round(a + b, 3) for a, b in zip(labels[n], noise[n], strict=True)] for n in names}
    write_csv(folder / "labels.csv", labels)
    write_csv(folder / "preds.csv", predicted)
    rng = np.random.default_rng(1)
    ids, test = [f"{i:05}" for i in range(8072, 8192)], [f"{i:05}" for i in range(12660, 12690)]
    truth = draw_labels(rng, len(ids))

    def write(name: str, clips: list[str], cells: np.ndarray) -> None:
        rows = cells.astype(np.float32).astype(float).round(6).tolist()
        write_csv(folder / f"{name}.csv", dict(zip(clips, rows, strict=True)))

    write("valid", ids, truth)
    write("data/valid_split", ids, truth)
    write("data/train_split", names, draw_labels(rng, len(names)))
    (folder / "data" / "test_split.csv").write_text("\n".join(["Filename", *test]) + "\n")
    for name, error in (("new", 0.35), ("old", 0.4), ("worse", 1.5)):
        system = predict(rng, truth, error)
        write(name, ids, system)
        write(f"{name}-test", test, rng.normal(0.4, 0.2, (len(test), 6)))
        if name == "new":
            write("shifted", ids, np.roll(system, 2, axis=0))
            write("swapped", ids, system[:, [4, 1, 2, 3, 0, 5]])
            write("rounded", ids, system.round(2))
            write("labels-test", test, truth[: len(test)])
    write("short-test", test[1:], rng.normal(0.4, 0.2, (len(test) - 1, 6)))
    groups = {name: [i // 10] for i, name in enumerate(ids)}
    write_csv(folder / "groups.csv", groups, header="Filename,speaker")
    (folder / "rules.toml").write_text('id_form = "plain"\ndecimals = 5\ntries = 1\n')


def write_official_size(folder: Path) -> None:
    """4,588 valid clips of 148 speakers; three systems that share errors, also within a speaker."""
    rng = np.random.default_rng(2)
    ids, test = [f"{i:05}" for i in range(8072, 12660)], [f"{i:05}" for i in range(12660, 12760)]
    speaker = np.arange(len(ids)) // 31
    truth = draw_labels(rng, len(ids))
    shared = rng.standard_normal(truth.shape)

    def write(name: str, clips: list[str], cells: np.ndarray) -> None:
        rows = cells.astype(np.float32).astype(float).round(6).tolist()
        write_csv(folder / f"{name}.csv", dict(zip(clips, rows, strict=True)))

    write("valid", ids, truth)
    write("data/valid_split", ids, truth)
    write("data/train_split", [f"{i:05}" for i in range(40)], draw_labels(rng, 40))
    (folder / "data" / "test_split.csv").write_text("\n".join(["Filename", *test]) + "\n")
    for name, error in (("new", 0.46), ("old", 0.475), ("third", 0.9)):
        own = 0.9 * rng.standard_normal(truth.shape)
        own += 0.45 * rng.standard_normal((speaker[-1] + 1, 6))[speaker]
        write(name, ids, 0.4 + 0.1 * (truth + error * (0.77 * shared + 0.63 * own)))
        write(f"{name}-test", test, rng.normal(0.4, 0.1, (len(test), 6)))
    groups = {name: [int(s)] for name, s in zip(ids, speaker, strict=True)}
    write_csv(folder / "speakers.csv", groups, header="Filename,speaker")


def play(session: str, folder: Path) -> str:
    """What the commands of a session print, one after the other, with version and times taken out."""
    (write_official_size if session == "readme" else write_files)(folder)
    said = []
    for line in SESSIONS[session]:
        done = run_command(*shlex.split(line), cwd=folder, env=environment())
        ended = f"exit code {done.returncode}\n" if done.returncode else ""
        said.append(f"$ abaw-emi {line}\n{done.stdout}{done.stderr}{ended}")
    text = "\n".join(said).replace(f"abaw_emi:{version('abaw-emi')}", "abaw_emi:VERSION")
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "YYYY-MM-DDTHH:MM:SS+00:00", text)


if __name__ == "__main__":
    for session in SESSIONS:
        with tempfile.TemporaryDirectory() as temporary:
            (GOLDEN / f"{session}.txt").write_text(play(session, Path(temporary)), encoding="utf-8")
