"""What a report is made from: reads the data folder, runs, predictions and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from abaw_emi.audit.record import AUDIT, Audit, find_audit
from abaw_emi.core.constants import FILENAME, Split
from abaw_emi.core.errors import EmiError, Problem, RunError, collect_errors
from abaw_emi.core.hashing import hash_file
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.history import Curve, read_curve
from abaw_emi.report.systems import System, make_unique, read_system
from abaw_emi.runs.run import Run, find_runs
from abaw_emi.submission.ledger import LEDGER, Entry, Ledger, read_ledger

LABELLED: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSources:
    """What to read.

    Attributes:
        data: the data folder.
        runs: run folders, or folders of run folders.
        predictions: prediction CSVs.
        submissions: the folder of the ledger.
        audits: the folder of the record of `abaw-emi audit`.
        chosen: which of these the user named; a problem with them is an error. Problems with the others,
            found in their default places, are warnings, and the files are left out.
    """

    data: Path | None = None
    runs: Sequence[Path] = ()
    predictions: Sequence[Path] = ()
    submissions: Path | None = None
    audits: Path = Path()
    chosen: frozenset[str] = frozenset({"data", "runs", "predictions", "submissions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file that was read.

    Attributes:
        what: its content, such as "labels of train".
        path: of the file.
        sha256: of its bytes.
        rows: number of clips, epochs or submissions in it.
    """

    what: str
    path: Path
    sha256: str
    rows: int


@dataclass(slots=True, kw_only=True)
class Material:
    """What was read.

    Attributes:
        folder: the data folder, None where there is none.
        files: of every clip, by id.
        labels: of train and valid, where they exist.
        audit: of the data folder in its present state, None where there is none.
        curves: of the runs.
        systems: the prediction files.
        ledger: the submissions, None without their folder.
        inputs: every file read.
        warnings: what a reader must know.
    """

    folder: DataFolder | None = None
    files: Mapping[str, ClipFiles] = field(default_factory=dict)
    labels: dict[Split, pl.DataFrame] = field(default_factory=dict)
    audit: Audit | None = None
    curves: list[Curve] = field(default_factory=list)
    systems: list[System] = field(default_factory=list)
    ledger: Ledger | None = None
    inputs: list[Input] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.labels or self.curves or self.systems or (self.ledger and self.ledger.entries))

    def ids(self) -> dict[Split, list[str]]:
        """The clips of every split."""
        ids: dict[Split, list[str]] = {
            split: table[FILENAME].to_list() for split, table in self.labels.items()
        }
        if self.folder is not None and len(ids) == len(LABELLED):
            try:
                ids["test"] = self.folder.ids("test")
            except EmiError:  # no test clips: the official ones are published only in the last weeks
                return ids
        return ids

    def note(self, what: str, path: Path, rows: int) -> None:
        """Adds a file to `inputs`."""
        self.inputs.append(Input(what=what, path=path, sha256=hash_file(path), rows=rows))


def read_material(sources: ReportSources) -> Material:
    """Reads everything.

    Raises:
        EmiError: something that the user named cannot be read; all problems together.
    """
    material = Material()
    problems: list[Problem] = []

    def list_for(name: str) -> list[Problem]:
        return problems if name in sources.chosen else material.warnings

    if sources.data is not None:
        _read_data(sources, material, list_for("data"))
    runs: list[Run] = []
    for path in sources.runs:
        with collect_errors(list_for("runs")):
            runs += _find_runs(path)
    for run in runs:
        with collect_errors(list_for("runs")):
            _read_run(run, material)
    for path in sources.predictions:
        with collect_errors(list_for("predictions")):
            _add_system(path, path.stem, None, material)
    if sources.submissions is not None:
        with collect_errors(list_for("submissions")):
            _read_submissions(sources.submissions, material, chosen="submissions" in sources.chosen)
    if problems:
        raise EmiError(problems)
    material.systems = make_unique(material.systems)
    return material


def read_validation(entry: Entry) -> tuple[float | None, float | None, float | None]:
    """A submission's validation score in the ledger: mean, low, high; None for what is not recorded."""
    value = entry.val or {}
    interval = value.get("interval")
    bounds = interval.get(MEAN) if isinstance(interval, dict) else None
    numbers = [value.get("mean_pearson"), *(bounds if isinstance(bounds, list) else [])]
    known = [float(number) if isinstance(number, int | float) else None for number in numbers]
    mean, low, high = known if len(known) == 3 else (known[0], None, None)
    return mean, low, high


def _read_data(sources: ReportSources, material: Material, problems: list[Problem]) -> None:
    assert sources.data is not None
    folder = DataFolder(sources.data)
    with collect_errors(problems):
        material.files = folder.files
        material.folder = folder
    if material.folder is None:
        return
    for split in LABELLED:
        path = folder.label_file(split)
        if not path.is_file():
            material.warnings.append(Problem(str(path), "no such file", f"the labels of {split}"))
            continue
        with collect_errors(problems):
            material.labels[split] = folder.read_labels(split)
            material.note(f"labels of {split}", path, len(material.labels[split]))
    if len(material.labels) == len(LABELLED):
        with collect_errors(problems):
            folder.read_labels(*LABELLED)  # raises where a clip is in both
    material.audit, stale = find_audit(folder, sources.audits)
    material.warnings += stale
    if material.audit is not None:
        material.note("audit", sources.audits / AUDIT, len(material.audit.seconds))


def _find_runs(path: Path) -> list[Run]:
    if Run(path).config_file.is_file():
        return [Run(path)]
    runs = find_runs(path) if path.is_dir() else []
    if not runs:
        found = "no run in it" if path.is_dir() else "no such run"
        raise RunError(Problem(str(path), found, "a run folder, made by abaw-emi train"))
    return runs


def _read_run(run: Run, material: Material) -> None:
    if any(run.folder.resolve() == curve.run.folder.resolve() for curve in material.curves):
        return
    curve = read_curve(run, material.warnings)
    material.curves.append(curve)
    if run.metrics_file.is_file():
        material.note(f"epochs of {run.name}", run.metrics_file, len(curve.epochs))
    if run.valid_predictions.is_file():
        _add_system(run.valid_predictions, run.name, run, material)


def _add_system(path: Path, name: str, run: Run | None, material: Material) -> None:
    system, problems = read_system(path, name, run, material.labels)
    material.warnings += problems
    material.systems.append(system)
    material.note("predictions", path, len(system.table))


def _read_submissions(out: Path, material: Material, *, chosen: bool) -> None:
    path = out / LEDGER
    if not path.is_file():
        if chosen:
            raise EmiError(Problem(str(path), "no such file", "the folder of a ledger"))
        return
    material.ledger = read_ledger(out)
    material.warnings += material.ledger.problems
    material.note("ledger", path, len(material.ledger.entries))
