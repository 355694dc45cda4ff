"""The command that cuts faces out of videos."""

from __future__ import annotations

from typing import Annotated

import typer

from abaw_emi.cli import options
from abaw_emi.cli.data.extract import Clips
from abaw_emi.cli.next_step import PLACES, keep, print_next
from abaw_emi.cli.output import print_line, print_result
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.installation import check_installation
from abaw_emi.core.progress import Reporter
from abaw_emi.data.shard import Shard

EXAMPLES = """For clips without face_images/ in the data folder. One person is followed in each.

Examples:
  abaw-emi faces                       six pictures a second of every video
  abaw-emi faces --split test
  abaw-emi faces --shard 2/4           the second of four machines that share a disk

Run again, it continues. It needs pip install 'abaw-emi[faces]'."""


def faces(
    split: Clips = "all",
    rate: Annotated[
        float, typer.Option("--rate", help="Frames a second that are looked at.", min=0.1, max=1000)
    ] = 6.0,
    data: options.Data = options.DEFAULT_DATA,
    out: options.MadeFeatures = options.DEFAULT_FEATURES,
    on_bad_clip: options.Bad = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Cut all of them out again.")] = False,
    shard: options.ShardOption = None,
    quiet: options.Quiet = False,
) -> None:
    """Cut the faces out of the videos, into features/face_images/NNNNN/0.jpg and on."""
    share = Shard.read(shard)
    folder = options.open_folder(data, out)
    check_installation()

    from abaw_emi.extraction.faces import Cropping, crop_faces

    reporter = Reporter(quiet=quiet)
    done = crop_faces(
        folder,
        split,
        out=out,
        cropping=Cropping(rate=rate),
        on_bad=on_bad_clip,
        overwrite=overwrite,
        shard=share,
        reporter=reporter,
    )
    counts = [f"{len(done.written):,} clips written ({len(done.faceless):,} without a face)"]
    counts += [f"{len(done.kept):,} kept"]
    others = {"have no video": done.missing, "have faces in the data folder": done.supplied}
    counts += [f"{len(ids):,} {what}" for what, ids in (others | {"left out": done.skipped}).items() if ids]
    result = {
        "path": str(done.folder),
        "detector": done.encoder,
        "rate": rate,
        "frames": done.frames,
        "faces": done.found,
        "written": pack_ids(done.written),
        "kept": pack_ids(done.kept),
        "skipped": list(done.skipped),
        "faceless": pack_ids(done.faceless),
        "missing": pack_ids(done.missing),
        "supplied": pack_ids(done.supplied),
    }

    def show() -> None:
        print_line(f"{done.folder}: {', '.join(counts)}; a face in {done.found:,} of {done.frames:,} frames")
        print_next("prepare", *keep(*PLACES), note="makes features of them")

    print_result(result, show, reporter.warnings)
