"""Frame features of clips from published encoders, into `features/<name>/NNNNN.npy`: float32 (T, D).

    find and identify the encoder -> read the sources of all clips -> encode those that are not done

Every problem of every source is reported before the encoder runs. Each file is whole or not there, and
belongs to the bytes that it was made of: an interrupted run continues, and a clip whose source changed is
made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from abaw_emi.core.constants import MAX_SECONDS, AnySplit, EncoderKind, OnBadClip, Precision
from abaw_emi.core.errors import (
    CorpusError,
    Problem,
    UsageError,
)
from abaw_emi.core.ids import summarise
from abaw_emi.core.installation import require
from abaw_emi.core.progress import Reporter
from abaw_emi.data.align import list_ids
from abaw_emi.data.folder import DataFolder
from abaw_emi.data.layout import PACKAGES, find_files
from abaw_emi.data.shard import Shard
from abaw_emi.extraction.audio import AudioEncoder, read_sounds
from abaw_emi.extraction.encode import EncoderSettings, FrameEncoder, Sources, check_frames, pack_frames
from abaw_emi.extraction.output import ClipFolder, Written, check_place
from abaw_emi.extraction.text import TextFeatureEncoder, read_texts
from abaw_emi.extraction.vision import VisionEncoder, find_pooling, read_faces
from abaw_emi.features.faces import find_faces
from abaw_emi.features.files import SUFFIXES
from abaw_emi.features.transcripts import TEXT_FOLDER, find_transcripts
from abaw_emi.models.device import choose_for_prediction, describe_hardware
from abaw_emi.models.hub import Pretrained, find_pretrained
from abaw_emi.models.load import check_layer, detect_kind

RECORD = "extraction.json"

_ENCODERS: dict[EncoderKind, Callable[[Pretrained, EncoderSettings], FrameEncoder[Any, Any]]] = {
    "audio": AudioEncoder,
    "vision": VisionEncoder,
    "text": TextFeatureEncoder,
}

_BATCH: dict[EncoderKind, tuple[int, int]] = {"audio": (1, 16), "vision": (16, 128), "text": (8, 64)}
"""Clips, faces or transcripts side by side, on a CPU and elsewhere. On a CPU a large encoder gains nothing
from a batch, and padding costs its share."""

_SHOWN = 20
"""Clips without anything to encode that a warning names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction(Written):
    """The features that were written.

    Attributes:
        kind: what the encoder reads.
        rows: what a row of a clip's array is.
        width: numbers a row; None where nothing was written.
        missing: ids of clips that have nothing of the kind.
    """

    kind: EncoderKind
    rows: str
    width: int | None
    missing: tuple[str, ...]


def extract(
    encoder: str,
    data: DataFolder,
    split: AnySplit = "all",
    *,
    kind: EncoderKind | Literal["auto"] = "auto",
    out: Path = Path("features"),
    name: str | None = None,
    layer: int | None = None,
    revision: str = "main",
    max_seconds: float = MAX_SECONDS,
    batch: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    on_bad: OnBadClip = "error",
    overwrite: bool = False,
    shard: Shard | None = None,
    reporter: Reporter | None = None,
) -> Extraction:
    """Writes the features of the clips of `split` that are not there yet.

    Args:
        encoder: a hub id, or a folder.
        data: the data folder; transcripts are also looked for in its feature folders.
        split: which clips.
        kind: what the encoder reads; "auto" asks its config.
        out: the folder of feature folders.
        name: of the feature folder; the last part of `encoder` if not given.
        layer: whose hidden states are kept, 0 being what goes into the first; None for the last ones.
        revision: of the encoder on the hub.
        max_seconds: to which sound is cut.
        batch: clips, faces or transcripts side by side.
        device: where the encoder runs.
        precision: of its arithmetic; what is written is float32.
        on_bad: "skip" leaves clips out whose sources cannot be read, and lists them.
        overwrite: whether a folder of other features goes first.
        shard: the clips that this process takes of those; None for all.
        reporter: shows how far things are.

    Raises:
        EmiError: the encoder, the folder or a clip is not what it should be; nothing was encoded then.
    """
    reporter = reporter or Reporter(quiet=True)
    shard = shard or Shard()
    folder = out / _choose_name(encoder, name)
    check_place(out, data.root)
    chosen, arithmetic = choose_for_prediction(device, precision)
    pretrained = find_pretrained(encoder, revision)
    reads = detect_kind(pretrained) if kind == "auto" else kind
    check_layer(pretrained, reads, layer)
    made_by = pretrained.to_json()
    rows = _name_rows(pretrained, reads, layer)
    made = ClipFolder(
        folder,
        RECORD,
        ".npy",
        settings={
            "encoder": made_by,
            "kind": reads,
            "layer": layer,
            "rows": rows,
            "precision": arithmetic,
            **({"max_seconds": max_seconds} if reads == "audio" else {}),
        },
        about=_describe_machine(reads, chosen),
        overwrite=overwrite,
        shard=shard,
    )
    sources = _read_sources(reads, data, split, shard, max_seconds, on_bad, reporter, made)
    _check_supplied(data, folder, [source.filename for source in sources.found])
    todo, kept = made.part(sources.found, reporter)
    settings = EncoderSettings(
        layer=layer,
        batch=batch or _BATCH[reads][chosen.type != "cpu"],
        device=chosen,
        precision=arithmetic,
        max_seconds=max_seconds,
    )
    model = _ENCODERS[reads](pretrained, settings) if todo else None
    width = None
    with made.writing(), reporter.bar(folder.name, len(todo)) as bar:
        for filename in sources.missing:
            made.drop(filename)
        for source, frames in model.encode_all(todo) if model else ():
            check_frames(source, frames, arithmetic)
            made.write(source.filename, source.sha256, pack_frames(frames))
            width = frames.shape[1]
            bar.advance()
    reporter.warn(model.warnings() if model else [])
    return Extraction(
        folder=folder,
        encoder=made_by,
        kind=reads,
        rows=rows,
        width=width,
        written=tuple(sorted(source.filename for source in todo)),
        kept=kept,
        missing=tuple(sources.missing),
        skipped=tuple(sorted(sources.skipped)),
    )


def _choose_name(encoder: str, name: str | None) -> str:
    if name is None:
        name = Path(encoder).resolve().name  # of a hub id, its last part
    if not name or name in (".", "..", TEXT_FOLDER) or Path(name).name != name:
        raise UsageError(Problem("--name", repr(name), f"the name of a folder, other than {TEXT_FOLDER}"))
    return name


def _name_rows(pretrained: Pretrained, kind: EncoderKind, layer: int | None) -> str:
    """What a row of the arrays is: a frame of sound, a token, or how a picture was pooled."""
    if kind == "vision":
        return find_pooling(pretrained, layer)
    return "frames" if kind == "audio" else "tokens"


def _describe_machine(kind: EncoderKind, device: torch.device) -> dict[str, Any]:
    hardware = describe_hardware(device)
    packages = {"vision": ("pillow",), "text": ("tokenizers",), "audio": ()}[kind]
    require(packages, "train")
    hardware["versions"] |= {name: version(name) for name in packages}
    return hardware


def _read_sources(
    kind: EncoderKind,
    data: DataFolder,
    split: AnySplit,
    shard: Shard,
    max_seconds: float,
    on_bad: OnBadClip,
    reporter: Reporter,
    made: ClipFolder,
) -> Sources[Any]:
    """What is to be encoded; says what is missing.

    Raises:
        EmiError: every problem of every source, or that there is none.
    """
    sources: Sources[Any]
    if kind == "audio":
        sources = read_sounds(data, shard.take(data.list_clips(split)), max_seconds, on_bad, reporter)
        what = "sound"
    elif kind == "vision":
        faces = find_faces(data.root, data.features)
        sources = read_faces(shard.take(data.list_clips(split, faces)), faces, on_bad, reporter, made.has)
        what = "face"
    else:
        transcripts = find_transcripts(data.root, data.features)
        sources = read_texts(shard.take(data.list_clips(split, transcripts)), transcripts, on_bad)
        what = "word"
    if kind != "audio":  # those were reported where they were read
        reporter.warn(summarise(sources.skipped))
    if not sources.found:
        step = {"text": "abaw-emi transcribe writes them", "vision": "abaw-emi faces cuts them out of videos"}
        raise CorpusError(
            Problem(f"{data.root}, {split}", f"no clip has a {what} to encode", next_step=step.get(kind, ""))
        )
    if sources.missing:
        found = list_ids(list(sources.missing), f"have no {what}, and so no features", _SHOWN)
        reporter.warn([Problem(str(data.root), found)])
    return sources


def _check_supplied(data: DataFolder, folder: Path, ids: Sequence[str]) -> None:
    """Refuses to write a second feature file beside the one that a clip has in the data folder."""
    folders = [data.root / package / folder.name for package in PACKAGES]
    supplied = {filename for each in folders for filename in find_files(each, SUFFIXES)}
    both = [filename for filename in ids if filename in supplied]
    if both:
        found = list_ids(both, f"have {folder.name} features in the data folder")
        raise UsageError(Problem(f"--name {folder.name}", found, "another name"))
