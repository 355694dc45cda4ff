"""What is said in clips, into `features/text/NNNNN.txt`: one line of text, or an empty file.

The whole clip is transcribed, and not its first 12 s (`whisper`). As with features (`extraction`), every bad
clip is reported before the model runs, and an interrupted run continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abaw_emi.audio.clips import read_clip
from abaw_emi.core.constants import AnySplit, OnBadClip, Precision
from abaw_emi.core.errors import CorpusError, Problem
from abaw_emi.core.ids import summarise
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import ClipFiles
from abaw_emi.data.shard import Shard
from abaw_emi.extraction.encode import Source, Sources, read_sources
from abaw_emi.extraction.output import ClipFolder, Written, check_place
from abaw_emi.extraction.whisper import WHOLE, Decoding, Whisper
from abaw_emi.models.device import choose_for_prediction, describe_hardware
from abaw_emi.models.hub import find_pretrained

RECORD = "transcription.json"

_BATCH_CPU, _BATCH = 1, 16

_SHOWN_WARNINGS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription(Written):
    """The transcripts that were written.

    Attributes:
        empty: ids of the clips transcribed now in which nothing is said.
    """

    empty: tuple[str, ...]


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
    shard: Shard | None = None,
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
        shard: the clips that this process takes of those; None for all.
        reporter: shows how far things are.

    Raises:
        EmiError: the model, the folder or a clip is not what it should be; nothing was transcribed then.
    """
    reporter = reporter or Reporter(quiet=True)
    decoding = decoding or Decoding()
    shard = shard or Shard()
    check_place(out, data.root)
    chosen, arithmetic = choose_for_prediction(device, precision)
    pretrained = find_pretrained(model, revision, "MODEL", ("whisper",))
    made_by = pretrained.to_json()
    settings = {"encoder": made_by, "precision": arithmetic, **decoding.to_json()}
    about = describe_hardware(chosen)
    made = ClipFolder(out, RECORD, ".txt", settings=settings, about=about, overwrite=overwrite, shard=shard)
    sources = _read_clips(shard.take(data.list_clips(split)), data, on_bad, reporter)
    todo, kept = made.part(sources.found, reporter)
    empty: list[str] = []
    size = batch or (_BATCH_CPU if chosen.type == "cpu" else _BATCH)
    whisper = Whisper(pretrained, decoding, chosen, arithmetic) if todo else None
    with made.writing(), reporter.bar("transcribing", len(todo)) as bar:
        for clip, text in whisper.transcribe_all(todo, size) if whisper else ():
            content = f"{text}\n" if text else ""
            made.write(clip.filename, clip.content_hash, content.encode())
            if not text:
                empty.append(clip.filename)
            bar.advance()
    return Transcription(
        folder=out,
        encoder=made_by,
        written=tuple(sorted(source.filename for source in todo)),
        kept=kept,
        empty=tuple(sorted(empty)),
        skipped=tuple(sorted(sources.skipped)),
    )


def _read_clips(
    ids: Sequence[str], data: DataFolder, on_bad: OnBadClip, reporter: Reporter
) -> Sources[ClipFiles]:
    """The clips, of which only the files are kept: the sound of 33 hours is 7.6 GB.

    Each is decoded from end to end here, and again when it is transcribed: a minute or two of the whole
    corpus, against hours of a model that would stop at a bad clip.

    Raises:
        EmiError: with `on_bad="error"`, every problem of every clip; or that there is none.
    """
    warnings: list[Problem] = []
    listed = data.find_files(ids)

    def read(filename: str) -> Source[ClipFiles]:
        files = listed.get(filename, ClipFiles(filename=filename))
        clip = read_clip(files, WHOLE)
        warnings.extend(clip.warnings)
        return Source(filename, clip.content_hash, clip.samples, files)

    sources = read_sources(reporter.track(ids, "reading clips", len(ids)), read, on_bad)
    reporter.warn(warnings, shown=_SHOWN_WARNINGS)
    reporter.warn(summarise(sources.skipped))
    if not sources.found:
        raise CorpusError(Problem(str(data.root), "no clip can be read"))
    return sources
