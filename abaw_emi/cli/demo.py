"""The command demo."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli.options import Quiet
from abaw_emi.cli.output import print_line, print_result, score_to_json
from abaw_emi.core.constants import SPLITS
from abaw_emi.core.installation import check_installation
from abaw_emi.core.progress import Reporter
from abaw_emi.evaluation.text_tables import TextTable, render

if TYPE_CHECKING:
    from abaw_emi.demo.run import DemoResult


EXAMPLES = "Example: abaw-emi demo --out demo/"


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")] = Path("demo"),
    quiet: Quiet = False,
) -> None:
    """Show everything end to end, offline, on a synthetic corpus: two minutes on two idle cores."""
    from abaw_emi.demo.folder import check_folder

    check_folder(out)
    check_installation()

    from abaw_emi.core.hashing import hash_file
    from abaw_emi.demo.run import run_demo

    reporter = Reporter(quiet=quiet)
    result = run_demo(out, reporter)
    print_result(
        {
            "scores": {
                system: {split: score_to_json(score) for split, score in by_split.items()}
                for system, by_split in result.scores.items()
            },
            "submission": str(result.archive),
            "sha256": hash_file(result.archive),
            "seconds": result.seconds,
        },
        partial(_print_summary, result, out),
        reporter.warnings,
    )


def _print_summary(result: DemoResult, out: Path) -> None:
    from abaw_emi.submission.check import MANIFEST

    rows = []
    for system, by_split in result.scores.items():
        cells = []
        for split in SPLITS[1:]:
            low_high = by_split[split].interval["mean_pearson"]
            interval = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
            cells.append(f"{by_split[split].mean_pearson:.4f}{interval}")
        rows.append([system, *cells])
    means = [f"{result.mean_of_seeds(split):.4f}{' ' * 15}" for split in SPLITS[1:]]
    rows.append(["mean of seeds", *means])
    header = ["", "valid", "test (its truth is known here)"]
    print_line()
    print_line(render(TextTable(header, rows, "mean Pearson"), "table"))
    minutes, seconds = divmod(round(result.seconds), 60)
    test = {system: by_split["test"].mean_pearson for system, by_split in result.scores.items()}
    winner = "the ensemble" if test["ensemble"] > test["ridge"] else "the ridge"
    manifest = json.loads((result.archive.parent / MANIFEST).read_text(encoding="utf-8"))
    changed = f"{sum(manifest['clipped'].values())} values clipped to [0, 1]"
    if manifest["rescaled"]:
        changed += f", {', '.join(manifest['rescaled'])} rescaled"
    print_line(f"""
{minutes} min {seconds} s. On unseen speakers {winner} wins. The speech is synthetic: these numbers say
nothing about the challenge.

{out}/data          the corpus, in the official layout
{out}/runs          one folder a seed: weights, config, metrics, provenance
{out}/predictions   the ensemble's predictions for valid and test
{result.archive}   the checked submission ({changed})
{out}/report.html   all of it on one page: open it in a browser

With the official data in data/, type:

  abaw-emi train --seeds 1 2 3
  abaw-emi train --train-plus-val --seeds 1 2 3 --epochs-from runs/paper-seed1
  abaw-emi ensemble --ckpts runs/paper-trainval-seed*
  abaw-emi submit --out submissions/""")
