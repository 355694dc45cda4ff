"""What a report is made from: everything is read here, and what is not there is said.

A system is a prediction file, of a run or of anybody. Its clips tell the split that it is scored on: those of
valid, or else of train. Predictions of other clips, and of clips that the predictor was trained on, are named
with the reason and not scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from abaw_emi.audit.record import AUDIT, Audit, find_audit
from abaw_emi.core.constants import FILENAME, Split
from abaw_emi.core.errors import EmiError, Problem, RunError, gather
from abaw_emi.core.hashing import hash_file
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles
from abaw_emi.data.provenance import Provenance, read_provenance
from abaw_emi.data.tables import read_predictions
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report.history import Curve, read_curve
from abaw_emi.runs.run import Run
from abaw_emi.submission.ledger import LEDGER, Entry, Ledger, read_ledger

LABELLED: tuple[Split, ...] = ("train", "valid")
PREFERRED: tuple[Split, ...] = ("valid", "train")
"""The split that counts first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What to read.

    Attributes:
        data: the data folder.
        runs: run folders, or folders of run folders.
        predictions: prediction CSVs.
        submissions: the folder of the ledger.
        audits: the folder in which `abaw-emi audit` left its record.
        chosen: which of these names were chosen by the user: what is wrong with them is an error. What was
            only found in its usual place is warned of and left out.
    """

    data: Path | None = None
    runs: Sequence[Path] = ()
    predictions: Sequence[Path] = ()
    submissions: Path | None = None
    audits: Path = Path()
    chosen: frozenset[str] = frozenset({"data", "runs", "predictions", "submissions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A prediction file.

    Attributes:
        name: for people; no two systems share one.
        path: the file.
        table: what it predicts.
        run: the run that it is of, None for a file of any origin.
        record: its provenance, None where there is none.
        split: whose clips it predicts, all of them and no others; None for other clips.
        labelled: whether these clips have labels here.
        seen: how many of its clips the predictor is known to have been trained on.
    """

    name: str
    path: Path
    table: pl.DataFrame
    run: Run | None
    record: Provenance | None
    split: Split | None
    seen: int
    labelled: bool

    @property
    def complete(self) -> bool:
        """Whether all that the predictor was trained on is known."""
        return self.record is not None and self.record.trained_on_complete

    @property
    def why_not(self) -> str:
        """Why it is not scored; "" where it is."""
        if self.split is None:
            which = "some, not all, clips of a split" if self.labelled else "clips without labels here"
            return f"it predicts {which}"
        if self.seen:
            return f"SEEN IN TRAINING: trained on {self.seen:,} of these {len(self.table):,} clips"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file that was read.

    Attributes:
        what: "labels of train", say.
        path: of the file.
        sha256: of its bytes.
        rows: clips, epochs or submissions in it.
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
        labels: of train and valid, as far as they are there.
        audit: of the data folder as it is now, None where there is none.
        curves: of the runs.
        systems: the prediction files.
        ledger: the submissions, None without a folder of them.
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
        """The clips of every split that is there."""
        ids: dict[Split, list[str]] = {
            split: table[FILENAME].to_list() for split, table in self.labels.items()
        }
        if self.folder is not None and len(ids) == len(LABELLED):
            try:
                ids["test"] = self.folder.ids("test")
            except EmiError:  # no test clip, which the official data lacks until the last weeks
                return ids
        return ids


def read_material(sources: Sources) -> Material:
    """Reads all of it.

    Raises:
        EmiError: something that was chosen cannot be read; all problems at once.
    """
    material = Material()
    problems: list[Problem] = []

    def notes(name: str) -> list[Problem]:
        return problems if name in sources.chosen else material.warnings

    if sources.data is not None:
        _read_data(sources.data, material, notes("data"))
    if material.folder is not None:
        material.audit, stale = find_audit(material.folder, sources.audits)
        material.warnings += stale
        if material.audit is not None:
            _note("audit", sources.audits / AUDIT, len(material.audit.seconds), material)
    runs: list[Run] = []
    for path in sources.runs:
        with gather(notes("runs")):
            runs += _find_runs(path)
    for run in runs:
        with gather(notes("runs")):
            _read_run(run, material)
    for path in sources.predictions:
        with gather(notes("predictions")):
            _read_system(path, path.stem, None, material)
    if sources.submissions is not None:
        with gather(notes("submissions")):
            _read_submissions(sources.submissions, material, chosen="submissions" in sources.chosen)
    if problems:
        raise EmiError(problems)
    material.systems = _name_apart(material.systems)
    return material


def read_validation(entry: Entry) -> tuple[float | None, float | None, float | None]:
    """What the ledger has of a submission's validation score: mean, low, high; None for what it has not."""
    value = entry.val or {}
    interval = value.get("interval")
    bounds = interval.get(MEAN) if isinstance(interval, dict) else None
    numbers = [value.get("mean_pearson"), *(bounds if isinstance(bounds, list) else [])]
    known = [float(number) if isinstance(number, int | float) else None for number in numbers]
    mean, low, high = known if len(known) == 3 else (known[0], None, None)
    return mean, low, high


def _read_data(root: Path, material: Material, problems: list[Problem]) -> None:
    folder = DataFolder(root)
    with gather(problems):
        material.files = folder.files
        material.folder = folder
    if material.folder is None:
        return
    for split in LABELLED:
        path = folder.label_file(split)
        if not path.is_file():
            material.warnings.append(Problem(str(path), "no such file", f"the labels of {split}"))
            continue
        with gather(problems):
            material.labels[split] = folder.read_labels(split)
            _note(f"labels of {split}", path, len(material.labels[split]), material)
    if len(material.labels) == len(LABELLED):
        with gather(problems):
            folder.read_labels(*LABELLED)  # no clip stands in both


def _find_runs(path: Path) -> list[Run]:
    if Run(path).config_file.is_file():
        return [Run(path)]
    below = sorted(path.iterdir()) if path.is_dir() else []
    runs = [Run(folder) for folder in below if Run(folder).config_file.is_file()]
    if not runs:
        found = "no run in it" if path.is_dir() else "no such run"
        raise RunError(Problem(str(path), found, "a run folder, as abaw-emi train makes them"))
    return runs


def _read_run(run: Run, material: Material) -> None:
    if any(run.folder.resolve() == curve.run.folder.resolve() for curve in material.curves):
        return
    curve = read_curve(run)
    material.curves.append(curve)
    if run.metrics_file.is_file():
        _note(f"epochs of {run.name}", run.metrics_file, len(curve.epochs), material)
    if run.valid_predictions.is_file():
        _read_system(run.valid_predictions, run.name, run, material)


def _read_system(path: Path, name: str, run: Run | None, material: Material) -> None:
    table = read_predictions(path)
    record, problems = read_provenance(path)
    material.warnings += problems
    if record is None and run is not None and run.trained_on is not None:
        record = Provenance(
            command="abaw-emi train", trained_on=run.trained_on, trained_on_complete=run.trained_on_complete
        )
    clips = set(table[FILENAME])
    split = next((split for split in PREFERRED if _ids(material.labels, split) == clips), None)
    material.systems.append(
        System(
            name=name,
            path=path,
            table=table,
            run=run,
            record=record,
            split=split,
            seen=len(record.trained_on & clips) if record else 0,
            labelled=any(clips & set(labels[FILENAME]) for labels in material.labels.values()),
        )
    )
    _note("predictions", path, len(table), material)


def _ids(labels: Mapping[Split, pl.DataFrame], split: Split) -> set[str] | None:
    return set(labels[split][FILENAME]) if split in labels else None


def _read_submissions(out: Path, material: Material, *, chosen: bool) -> None:
    path = out / LEDGER
    if not path.is_file():
        if chosen:
            raise EmiError(Problem(str(path), "no such file", "the folder of a ledger"))
        return
    material.ledger = read_ledger(out)
    material.warnings += material.ledger.problems
    _note("ledger", path, len(material.ledger.entries), material)


def _note(what: str, path: Path, rows: int, material: Material) -> None:
    material.inputs.append(Input(what=what, path=path, sha256=hash_file(path), rows=rows))


def _name_apart(systems: Sequence[System]) -> list[System]:
    """The systems under names of their own: where two files share a stem, their paths tell them apart."""
    from dataclasses import replace

    count = Counter(system.name for system in systems)
    apart = [
        system if count[system.name] == 1 else replace(system, name=str(system.path)) for system in systems
    ]
    unique = {system.name: system for system in apart}  # a file named twice is one system
    return list(unique.values())
