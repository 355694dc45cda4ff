"""What is said in clips, into `features/text/NNNNN.txt`: one line of text, or an empty file.

The whole clip is transcribed, and not its first 12 s (`whisper`). As with features (`extraction`), every bad
clip is told before the model runs, and a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw_emi.audio.clips import read_clip
from abaw_emi.core.constants import AnySplit, OnBadClip, Precision
from abaw_emi.core.errors import ClipError, CorpusError, Problem, WeightsError
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles
from abaw_emi.extraction.extract import list_clips
from abaw_emi.extraction.output import ClipFolder, check_place
from abaw_emi.extraction.whisper import WHOLE, Decoding, Heard, Whisper
from abaw_emi.models.device import (
    choose_device,
    choose_precision,
    describe_hardware,
    validate_prediction,
)
from abaw_emi.models.hub import find_pretrained

RECORD = "transcription.json"

_BATCH = {"cpu": 1, "other": 16}

_SHOWN_WARNINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription:
    """What was done.

    Attributes:
        folder: of the transcripts.
        encoder: their record of the model.
        written: ids of the clips that were transcribed.
        kept: ids of those that were there already.
        empty: ids of those transcribed now in which nothing is said.
        skipped: ids of those that were left out because they cannot be read.
    """

    folder: Path
    encoder: dict[str, Any]
    written: tuple[str, ...]
    kept: tuple[str, ...]
    empty: tuple[str, ...]
    skipped: tuple[str, ...]


def transcribe(
    model: str,
    data: DataFolder,
    split: AnySplit = "all",
    *,
    out: Path = Path("features/text"),
    decoding: Decoding | None = None,
    revision: str = "main",
    batch: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    on_bad: OnBadClip = "error",
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Transcription:
    """Writes the transcripts of the clips of `split` that are not there yet.

    Args:
        model: a Whisper model's hub id, or its folder.
        data: the data folder.
        split: which clips.
        out: the folder of the transcripts.
        decoding: how text is made of what the model says.
        revision: of the model on the hub.
        batch: clips of at most 30 s side by side; the arithmetic of a batch may round otherwise than that of
            one clip, so that where two words are almost equally likely the text may differ.
        device: where it runs.
        precision: of its arithmetic.
        on_bad: "skip" leaves clips out that cannot be read, and lists them.
        overwrite: whether transcripts of another model go first.
        reporter: shows how far things are.

    Raises:
        EmiError: the model, the folder or a clip is not what it should be; nothing was transcribed then.
    """
    reporter = reporter or Reporter(quiet=True)
    decoding = decoding or Decoding()
    check_place(out, data.root)
    chosen = choose_device(device)
    arithmetic = choose_precision(precision, "auto", chosen)
    validate_prediction(arithmetic, chosen)
    pretrained = find_pretrained(model, revision, "MODEL")
    if pretrained.config["model_type"] != "whisper":
        found = f"model_type is {pretrained.config['model_type']!r}"
        raise WeightsError(Problem(model, found, "'whisper'"))
    settings = {"encoder": pretrained.to_json(), "precision": arithmetic, **decoding.to_json()}
    about = describe_hardware(chosen)
    made = ClipFolder(out, RECORD, ".txt", settings=settings, about=about, overwrite=overwrite)
    heard, skipped = _hear(list_clips(data, split), data, on_bad, reporter)
    todo = {filename: one for filename, one in heard.items() if not made.has(filename, one.source_hash)}
    kept = tuple(filename for filename in heard if filename not in todo)
    if kept:
        reporter.say(f"{len(kept):,} of {len(heard):,} clips are in {out} already")
    empty: list[str] = []
    size = batch or _BATCH["cpu" if chosen.type == "cpu" else "other"]
    whisper = Whisper(pretrained, decoding, chosen, arithmetic) if todo else None
    with made.writing(), reporter.bar("transcribing", len(todo)) as bar:
        for clip, text in whisper.transcribe_all(todo.values(), size) if whisper else ():
            content = f"{text}\n" if text else ""
            made.write(clip.filename, clip.content_hash, content.encode())
            if not text:
                empty.append(clip.filename)
            bar.advance()
    return Transcription(
        folder=out,
        encoder=pretrained.to_json(),
        written=tuple(sorted(todo)),
        kept=kept,
        empty=tuple(sorted(empty)),
        skipped=tuple(sorted(skipped)),
    )


def _hear(
    ids: Sequence[str], data: DataFolder, on_bad: OnBadClip, reporter: Reporter
) -> tuple[dict[str, Heard], dict[str, tuple[Problem, ...]]]:
    """What is known of the clips by id, and what is wrong with those that cannot be read.

    Each is decoded from end to end here, and again when it is transcribed: a minute or two of the whole
    corpus, against hours of a model that would stop at a bad clip.

    Raises:
        EmiError: with `on_bad="error"`, every problem of every clip; or that there is none.
    """
    heard: dict[str, Heard] = {}
    skipped: dict[str, tuple[Problem, ...]] = {}
    warnings: list[Problem] = []
    for filename in reporter.track(ids, "listening", len(ids)):
        files = data.files.get(filename, ClipFiles(filename=filename))
        try:
            clip = read_clip(files, WHOLE)
        except ClipError as error:
            skipped[filename] = error.problems
            continue
        warnings += clip.warnings
        heard[filename] = Heard(files, clip.content_hash, clip.samples)
    problems = [problem for found in skipped.values() for problem in found]
    if problems and on_bad == "error":
        raise ClipError(problems)
    reporter.warn(warnings, shown=_SHOWN_WARNINGS)
    reporter.warn(problems)
    if not heard:
        raise CorpusError(Problem(str(data.root), "no clip can be read"))
    return heard, skipped
