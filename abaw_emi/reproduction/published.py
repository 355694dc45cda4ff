"""What others reached and published, row by row, and which preset runs the same here.

Numbers are mean Pearson as their authors printed them, on the official valid and hidden test splits; nothing
here was measured by this package. Sources: PAPER as in `facts`, the others beside each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from abaw_emi.core.errors import Problem, UsageError

TableName = Literal["1", "2", "text"]
TABLES: tuple[TableName, ...] = get_args(TableName)

TITLES: dict[TableName, str] = {
    "1": "Table 1: entrants of the challenge",
    "2": "Table 2: parts of the model, on valid",
    "text": "From the text: what was tried besides",
}

Mark = Literal["disputed", "inferred", "about", "illegible", "lengths"]

MARKS: dict[Mark, str] = {
    "disputed": "sources differ on whether the number is of valid or of test; it is set beside our valid",
    "inferred": "the number of valid is inferred, not printed as such",
    "about": "the text gives it as a rough figure",
    "illegible": "the number cannot be read in our copy of the paper",
    "lengths": "how long it was trained is not published: 30 epochs, and 60 for longer, are guesses",
}
"""What stands behind a mark at a published number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A system that somebody published a score of.

    Attributes:
        table: where it stands.
        name: unique within the table; what `--only` takes.
        system: what its authors call it.
        preset: what runs it here; None where nothing can, and `note` says why.
        train_plus_val: whether it is trained on valid too, so that no score on valid can exist.
        valid: mean Pearson on valid; None where it is not published.
        test: mean Pearson on test; None where it is not published.
        words: what stands in the place of a number of valid.
        marks: what to know of the numbers.
        source: who published them.
        note: what of the row that runs here is ours and not the authors'.
    """

    table: TableName
    name: str
    system: str
    preset: str | None
    train_plus_val: bool = False
    valid: float | None = None
    test: float | None = None
    words: str = ""
    marks: tuple[Mark, ...] = ()
    source: str = ""
    note: str = ""

    @property
    def beside_valid(self) -> float | None:
        """The number that a score on valid is held against."""
        return self.test if self.valid is None and "disputed" in self.marks else self.valid

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know of the numbers, and the note."""
        return tuple(filter(None, [*(MARKS[mark] for mark in self.marks), self.note]))


_SOURCES: dict[TableName, str] = {"1": "PAPER, Table 1", "2": "PAPER, Table 2", "text": "PAPER, its text"}
_AGAIN = "MimicMetrics, arXiv 2605.21869, poster: the official baselines run again, on the official valid"

_FACES = "their face model is trained along; here the supplied ViT features are read"
_OWN = "their weights are not public or not named: the preset's feature folders stand in"
_EXTRA = "not of this table"


def _row(
    table: TableName,
    name: str,
    system: str,
    valid: float | None = None,
    test: float | None = None,
    *,
    source: str = "",
    **rest: Any,
) -> PublishedRow:
    """A row that runs the preset of its own name, unless `rest` says otherwise."""
    values = {"preset": name, "source": source or _SOURCES[table], **rest}
    return PublishedRow(table=table, name=name, system=system, valid=valid, test=test, **values)


ROWS: tuple[PublishedRow, ...] = (
    _row(
        "1",
        "baseline-vision",
        "official baseline, vision",
        None,
        0.09,
        marks=("disputed",),
        note="a GRU of 3 layers on the supplied ViT features; its width and training are ours",
    ),
    _row(
        "1",
        "baseline-audio",
        "official baseline, audio",
        None,
        0.24,
        marks=("disputed",),
        note="linear on the mean of the supplied Wav2Vec2 features; its training is ours",
    ),
    _row(
        "1",
        "baseline-av",
        "official baseline, both",
        None,
        0.25,
        marks=("disputed",),
        note="the mean of the two baselines above, trained in one run",
    ),
    _row(
        "1",
        "savchenko",
        "Savchenko et al.",
        0.289,
        0.331,
        source="PAPER, Table 1; arXiv 2403.11590",
        note=_OWN,
    ),
    _row(
        "1",
        "yu",
        "Yu et al.",
        0.328,
        0.359,
        source="PAPER, Table 1; arXiv 2403.11757",
        note=f"{_OWN}; their code scores valid without the clips that have no intensity at all",
    ),
    _row(
        "1",
        "zhang",
        "Zhang et al.",
        0.463,
        0.718,
        source="PAPER, Table 1; arXiv 2403.10825",
        note="their face model, trained on 262 million images, is not public: a feature folder stands in",
    ),
    _row(
        "1",
        "vision",
        "Hallmen et al., vision",
        0.013,
        note=f"{_FACES}; a state of their code (commit 934e473) takes the faces of valid by row and not by "
        "id, which gives next to nothing whatever the model",
    ),
    _row("1", "vision-audio", "Hallmen et al., vision and audio", 0.198, note=_FACES),
    _row(
        "1",
        "frozen",
        "Hallmen et al., audio, frozen",
        0.262,
        note="rate and epochs are those of an earlier state of the released code",
    ),
    _row("1", "paper", "Hallmen et al., audio, train", 0.386, 0.461),
    _row("1", "paper-dropout", "Hallmen et al., audio, with dropout", 0.389, 0.465),
    _row(
        "1",
        "paper-trainval",
        "Hallmen et al., audio, train+val",
        None,
        0.522,
        preset="paper",
        train_plus_val=True,
        marks=("lengths",),
        note="no clip is left to score it on but test; whether with dropout is not published: here without",
    ),
    _row(
        "1",
        "paper-longer",
        "Hallmen et al., audio, train+val, longer",
        None,
        0.554,
        train_plus_val=True,
        marks=("lengths",),
        note="no clip is left to score it on but test",
    ),
    _row(
        "1",
        "text-vision-audio",
        "8th edition's winner: text, vision, audio",
        0.522,
        0.706,
        marks=("inferred",),
        source="arXiv 2504.11460, abstract (test); the name of a checkpoint in its code (valid)",
        note=f"{_EXTRA}; what their paper and code leave open is ours",
    ),
    _row(
        "1",
        "baseline-vision-again",
        "official baseline, vision, run by others",
        0.1084,
        preset="baseline-vision",
        source=_AGAIN,
        note=f"{_EXTRA}; the runs of baseline-vision",
    ),
    _row(
        "1",
        "baseline-audio-again",
        "official baseline, audio, run by others",
        0.1428,
        preset="baseline-audio",
        source=_AGAIN,
        note=f"{_EXTRA}; the runs of baseline-audio",
    ),
    _row(
        "1",
        "baseline-audio-lstm",
        "official baseline, audio, with an LSTM by others",
        0.3088,
        source=_AGAIN,
        note=f"{_EXTRA}; layers, width and training are ours",
    ),
    _row("2", "w2v2-gv", "W2V2-L: GV", 0.017),
    _row("2", "xlsr-gv", "W2V2-L XLSR: GV", 0.021),
    _row("2", "gv", "audeering: GV", 0.342),
    _row("2", "gv-head", "audeering: GV, head", 0.356),
    _row("2", "head-lstm", "audeering: head, LSTM", 0.375),
    _row("2", "gv-head-lstm", "audeering: GV, head, LSTM", words="illegible", marks=("illegible",)),
    _row("2", "head-lstm-vad", "audeering: head, LSTM, VAD", 0.375),
    _row("2", "paper", "audeering: GV, head, LSTM, VAD", 0.386),
    _row(
        "text",
        "paper-ccc",
        "CCC as the loss",
        words="no better",
        note="what the released code calls CCC is not CCC; this is",
    ),
    _row("text", "paper-pearson", "Pearson's r as the loss", words="no better"),
    _row(
        "text",
        "zero-padding",
        "zero padding without masks",
        -0.1,
        marks=("about",),
        note="the worst that padding could push it to; their batches were padded to the longest clip, 34 % "
        "of it zeros, here every clip is padded to 12 s",
    ),
    _row(
        "text",
        "vision-within-train",
        "vision, 2:1 within train",
        0.18,
        marks=("about",),
        note="scored on the third of train that is held out, speakers on both sides; which clips they held "
        "out is not published",
    ),
    _row(
        "text",
        "other-faces",
        "vision, other face models",
        preset=None,
        words="-.10 to -.01",
        note="no preset, for which model is yours to say: abaw-emi extract makes a folder of the features of "
        "any vision encoder, and abaw-emi train --preset vision --set model.features.0.name=FOLDER reads it",
    ),
)


def find_rows(table: TableName, names: Sequence[str] = ()) -> tuple[PublishedRow, ...]:
    """The rows of a table in its order, all or those of these names.

    Raises:
        UsageError: a name that the table does not have; all of them, and the known ones.
    """
    rows = [row for row in ROWS if row.table == table]
    known = [row.name for row in rows]
    if unknown := [name for name in names if name not in known]:
        expected = f"of table {table}: {', '.join(known)}"
        raise UsageError(Problem("--only", f"no row {name!r}", expected) for name in unknown)
    return tuple(row for row in rows if not names or row.name in names)
