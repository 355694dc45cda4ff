"""Commands that make feature folders and transcripts of the clips, with published models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from abaw_emi.cli import options
from abaw_emi.cli.next_step import keep, print_next
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.constants import MAX_SECONDS, AnySplit, EncoderKind
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.installation import check_installation, require_training
from abaw_emi.core.progress import Reporter
from abaw_emi.data.shard import Shard

if TYPE_CHECKING:
    from abaw_emi.extraction.output import Written

EXTRACT_EXAMPLES = """A row is a frame of sound, a token of a transcript, or a face.

Examples:
  abaw-emi extract facebook/hubert-large-ll60k         of sound
  abaw-emi extract facebook/dinov2-small --name dino   of faces
  abaw-emi extract thenlper/gte-base --name gte        of transcripts
  abaw-emi extract microsoft/wavlm-large --layer 9     what its 9th layer says
  abaw-emi extract models/my-encoder --split test      of test, from a folder
  abaw-emi extract thenlper/gte-base --shard 2/4       the second of four machines that share a disk

Run again, it continues: clips that are there, made of the same bytes by the same encoder, are kept."""

TRANSCRIBE_EXAMPLES = """Whole clips, not their first 12 s. A clip in which nothing is said is an empty file.

Examples:
  abaw-emi transcribe openai/whisper-large-v3-turbo
  abaw-emi transcribe models/whisper --language auto         asks the model
  abaw-emi transcribe openai/whisper-small --no-speech 0.6   without silence

Run again, it continues."""

Clips = Annotated[AnySplit, typer.Option("--split", help="Which clips.")]
Revision = Annotated[str, typer.Option("--revision", metavar="REVISION", help="Of the model on the hub.")]
Batch = Annotated[
    int | None, typer.Option("--batch", help="Side by side.", show_default="by kind and device", min=1)
]


def extract(
    encoder: Annotated[
        str,
        typer.Argument(help="An encoder of transformers, of sound, pictures or text: a hub id or a folder."),
    ],
    split: Clips = "all",
    kind: Annotated[
        Literal["auto", EncoderKind], typer.Option("--kind", help="What it reads; auto asks its config.")
    ] = "auto",
    data: options.Data = options.DEFAULT_DATA,
    out: options.MadeFeatures = options.DEFAULT_FEATURES,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Of the feature folder.",
            show_default="last part of the encoder's id",
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer", help="Hidden states of this layer, 0 before the first.", show_default="the last", min=0
        ),
    ] = None,
    revision: Revision = "main",
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="To which sound is cut.", min=0.025)
    ] = MAX_SECONDS,
    batch: Batch = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    on_bad_clip: options.Bad = "error",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder, whatever made it.")
    ] = False,
    shard: options.ShardOption = None,
    quiet: options.Quiet = False,
) -> None:
    """Write frame features of the clips, with any transformers encoder, into features/NAME/NNNNN.npy."""
    share = Shard.read(shard)
    folder = options.open_folder(data, out)
    _check_model(encoder, revision, "ENCODER")

    from abaw_emi.extraction.extract import extract as extract_features

    reporter = Reporter(quiet=quiet)
    done = extract_features(
        encoder,
        folder,
        split,
        kind=kind,
        out=out,
        name=name,
        layer=layer,
        revision=revision,
        max_seconds=max_seconds,
        batch=batch,
        device=device,
        precision=precision,
        on_bad=on_bad_clip,
        overwrite=overwrite,
        shard=share,
        reporter=reporter,
    )
    about = {"kind": done.kind, "layer": layer, "rows": done.rows, "width": done.width}
    without = f", {len(done.missing):,} have none" if done.missing else ""
    text = f"{len(done.written):,} clips written, {len(done.kept):,} kept{without}"
    ending = f" ({done.kind}, rows: {done.rows})"
    _print_made(done, "baseline-audio", about | {"missing": pack_ids(done.missing)}, text, reporter, ending)


def transcribe(
    model: Annotated[str, typer.Argument(help="A Whisper model: a hub id or a folder.")],
    split: Clips = "all",
    data: options.Data = options.DEFAULT_DATA,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the transcripts.")
    ] = options.DEFAULT_FEATURES / "text",
    language: Annotated[
        str,
        typer.Option(
            "--language", metavar="LANGUAGE", help="Spoken in the clips; auto asks the model, for each."
        ),
    ] = "en",
    no_speech: Annotated[
        float | None,
        typer.Option("--no-speech", help="Leave out segments likelier silent than this.", min=0, max=1),
    ] = None,
    logprob: Annotated[
        float, typer.Option("--logprob", help="With --no-speech: and less likely than this a token.", max=0)
    ] = -1.0,
    revision: Revision = "main",
    batch: Batch = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    on_bad_clip: options.Bad = "error",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Transcribe all again, whatever model did before.")
    ] = False,
    shard: options.ShardOption = None,
    quiet: options.Quiet = False,
) -> None:
    """Write what is said in the clips, by a Whisper model, into features/text/NNNNN.txt."""
    share = Shard.read(shard)
    folder = options.open_folder(data, out.parent)
    _check_model(model, revision, "MODEL")

    from abaw_emi.extraction.transcribe import transcribe as transcribe_clips
    from abaw_emi.extraction.whisper import Decoding

    reporter = Reporter(quiet=quiet)
    done = transcribe_clips(
        model,
        folder,
        split,
        out=out,
        decoding=Decoding(language=language, no_speech=no_speech, logprob=logprob),
        revision=revision,
        batch=batch,
        device=device,
        precision=precision,
        on_bad=on_bad_clip,
        overwrite=overwrite,
        shard=share,
        reporter=reporter,
    )
    text = f"{len(done.written):,} clips written ({len(done.empty):,} empty), {len(done.kept):,} kept"
    _print_made(done, "text", {"empty": pack_ids(done.empty)}, text, reporter)


def _check_model(name: str, revision: str, argument: str) -> None:
    """Looks for the model, and then loads torch, which takes seconds."""
    from abaw_emi.config.pretrained import check_pretrained

    require_training()
    check_pretrained(name, revision, argument)
    check_installation()


def _print_made(
    done: Written, reader: str, about: Mapping[str, Any], text: str, reporter: Reporter, ending: str = ""
) -> None:
    """Prints what became of the clips of a folder; `reader` is a preset that can read it, and it alone."""
    ids = {"written": pack_ids(done.written), "kept": pack_ids(done.kept), "skipped": list(done.skipped)}
    skipped = f", {len(done.skipped):,} left out" if done.skipped else ""

    def show() -> None:
        print_line(f"{done.folder}: {text}{skipped}{ending}")
        _print_next(done.folder, reader)

    print_result({"path": str(done.folder), "encoder": done.encoder, **about, **ids}, show, reporter.warnings)


def _print_next(folder: Path, reader: str) -> None:
    """Prints how to see which presets read a folder; where none does, how `reader` is made to."""
    from abaw_emi.config.presets import PRESETS

    place = [] if folder.parent == options.DEFAULT_FEATURES else ["--features", str(folder.parent)]
    place = [*keep("--data"), *place]
    if any(feature.name == folder.name for config in PRESETS.values() for feature in config.model.features):
        print_next("presets", *place, note="to see which read it")
    else:
        change = f"model.features.0.name={folder.name}"
        print_next("train", "--preset", reader, "--set", change, "--limit", "64", *place)
