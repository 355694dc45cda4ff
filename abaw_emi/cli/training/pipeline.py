"""The commands that do everything that presets need: prepare, pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abaw_emi.cli import options
from abaw_emi.cli.completion import complete_presets
from abaw_emi.cli.next_step import PLACES, keep, print_next, retype
from abaw_emi.cli.output import print_line, print_result, score_to_json
from abaw_emi.core.installation import REPORT, check_installation, require
from abaw_emi.core.progress import Reporter

if TYPE_CHECKING:
    from abaw_emi.pipeline.prepare import Preparation

WINNERS = ["winner-2025", "winner-2026"]
SEEDS = [1, 2, 3, 4, 5]

PREPARE_EXAMPLES = """Examples:
  abaw-emi prepare --presets winner-2025 --dry-run           what is missing, and what would make it
  abaw-emi prepare --presets winner-2025 --model text=models/whisper

Run again, it continues."""

PIPELINE_EXAMPLES = """Examples:
  abaw-emi pipeline --dry-run                      what it would do, and how long training takes here
  abaw-emi pipeline --presets paper text --seeds 1 2 3
  abaw-emi pipeline --train-plus-val               submits runs that have seen valid, too

Run again, it continues with what is not done."""

Presets = Annotated[
    list[str] | None,
    typer.Option(
        "--presets",
        "--preset",
        autocompletion=complete_presets,
        metavar="NAME",
        help="Names; abaw-emi presets lists them.",
        show_default=" ".join(WINNERS),
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=MODEL",
        help="NAME=MODEL: what makes the folder NAME; text is made by a Whisper.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def prepare(
    presets: Presets = None,
    model: Models = None,
    dry_run: DryRun = False,
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    on_bad_clip: options.Bad = "error",
    quiet: options.Quiet = False,
) -> None:
    """Make what presets read and is missing: transcripts, features of words and of faces."""
    from abaw_emi.config.presets import find_presets
    from abaw_emi.data.folder import DataFolder
    from abaw_emi.pipeline.prepare import parse_models, plan_preparation, prepare_data

    configs, models = find_presets(presets or WINNERS, ()), parse_models(model or [])
    folder = options.open_folder(data, features)
    planned = plan_preparation(configs, folder, models)
    reporter = Reporter(quiet=quiet)
    if not dry_run:
        check_installation()
        from abaw_emi.pipeline.models import check_models

        check_models((), planned)
        prepare_data(planned, folder, reporter, device=device, precision=precision, on_bad=on_bad_clip)
        planned = plan_preparation(configs, DataFolder(data, features), models)

    def show() -> None:
        print_line(_list(planned))
        if dry_run and any(each.to_do for each in planned):
            print_next(*retype("--dry-run"))
        else:
            print_next("train", "--preset", next(iter(configs)), *keep(*PLACES))

    print_result({"folders": [_describe(each) for each in planned]}, show, reporter.warnings)


def pipeline(
    presets: Presets = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seeds", help="A run of each preset for each.", show_default="1 2 3 4 5", min=0),
    ] = None,
    train_plus_val: Annotated[
        bool, typer.Option("--train-plus-val", help="Train on train+val afterwards, and submit those runs.")
    ] = False,
    changes: options.ChangesOfPresets = None,
    model: Models = None,
    dry_run: DryRun = False,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="FILE", help="A TOML file: the form of the submission."),
    ] = None,
    fill: options.FillOption = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder of runs/, predictions/, submissions/, report.html."
        ),
    ] = Path(),
    data: options.Data = options.DEFAULT_DATA,
    features: options.Features = options.DEFAULT_FEATURES,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    on_bad_clip: options.Bad = "error",
    quiet: options.Quiet = False,
) -> None:
    """Audit, prepare, train, ensemble, score, submit and report, in one command."""
    from abaw_emi.cli.submission.ledger import read_form
    from abaw_emi.config.presets import find_presets

    configs = find_presets(presets or WINNERS, changes or [])
    form = read_form(profile)
    folder = options.open_folder(data, features)
    folder.read_labels("train", "valid")
    from abaw_emi.pipeline.prepare import parse_models, plan_preparation

    planned = plan_preparation(configs, folder, parse_models(model or []))
    check_installation()
    require(REPORT, "pipeline")

    from abaw_emi.pipeline.begun import check_begun
    from abaw_emi.pipeline.models import find_missing_models
    from abaw_emi.pipeline.plan import PipelinePlan
    from abaw_emi.pipeline.run import estimate, run_pipeline

    reporter = Reporter(quiet=quiet)
    plan = PipelinePlan(
        configs=configs,
        seeds=list(dict.fromkeys(seeds or SEEDS)),
        train_plus_val=train_plus_val,
        preparations=planned,
        out=out,
        profile=form,
        fill=fill,
        device=device,
        precision=precision,
        on_bad_clip=on_bad_clip,
    )
    if dry_run:
        check_begun(plan, folder)
        missing = find_missing_models(plan.unfinished, planned)
        reporter.warn(missing)
        ready = not missing and not any(each.to_do for each in planned)
        seconds = estimate(plan, folder, reporter) if ready else {}
        lines = [_list(planned)] if planned else []
        lines += [
            f"train {name}, {len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}: "
            + (_describe_time(seconds[name]) if ready else "the time is known once all is here")
            for name in configs
        ]
        result = {"folders": [_describe(each) for each in planned], "seconds": seconds}

        def show_plan() -> None:
            print_line("\n".join(lines))
            print_next(*retype("--dry-run"))

        print_result(result, show_plan, reporter.warnings)
        return
    done = run_pipeline(plan, folder, reporter)

    def show() -> None:
        low_high = done.score.interval["mean_pearson"]
        interval = f" [{low_high[0]:.4f}, {low_high[1]:.4f}]" if low_high else ""
        scored = f"{done.score.mean_pearson:.4f}{interval} on {done.score.n:,} clips of valid"
        print_line(f"{done.recipe.scheme}: mean Pearson {scored}")
        print_line(f"submission: {done.submission or 'none, the data folder has no test clips'}")
        print_line(f"report: {done.report}")
        if done.submission:
            place = () if out == Path() else ("--submissions", out / "submissions")
            entry = ("ledger", "set", done.submission.parent.name, "--test-score", "R", *place)
            print_next(*entry, note="once its score is known")

    print_result(
        {
            "score": score_to_json(done.score),
            "scheme": done.recipe.scheme,
            "submission": done.submission and str(done.submission),
            "report": str(done.report),
        },
        show,
        reporter.warnings,
    )


def _list(planned: list[Preparation]) -> str:
    return "\n".join(map(str, planned)) or "these presets read nothing but sound"


def _describe(each: Preparation) -> dict[str, object]:
    return {
        "name": each.name,
        "clips": each.total,
        "missing": each.missing,
        "command": each.command if each.model else None,
        "presets": list(each.presets),
    }


def _describe_time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"about {hours} h {rest // 60:02} min" if hours else f"about {max(1, rest // 60)} min"
