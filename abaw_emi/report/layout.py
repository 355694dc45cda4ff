"""What is on the page: its sections, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from abaw_emi.core.constants import OFFICIAL_COUNTS, VERSION
from abaw_emi.evaluation.significance import MEAN
from abaw_emi.report import record_tables, score_tables
from abaw_emi.report.blocks import Block, Lines, Report, Section, Text, Tile
from abaw_emi.report.charts import comparisons, data, intensities, predictions, scores, training
from abaw_emi.report.charts.style import format_bounds, format_number
from abaw_emi.report.history import Durations
from abaw_emi.report.results import MOST_SYSTEMS, Results
from abaw_emi.report.sources import Material


def lay_out(
    material: Material, results: Results, durations: Durations | None, page: Path, made: str = ""
) -> Report:
    """The content of the page.

    Args:
        material: what was read.
        results: of its systems.
        durations: of the clips, None where they are not known.
        page: where the page will be, for the addresses of the clips.
        made: when and with what the page was made, as a sentence; "" to leave it out.
    """
    names = _name_runs(material)
    sections = [
        Section("about", "About this page", _about(material, results)),
        Section("data", "Data", _data(material, durations)),
        Section("training", "Training", _training(material, names)),
        Section("validation", "Validation", _validation(material, results, page)),
        Section("comparison", "Comparison", _comparison(results)),
        Section("submissions", "Submissions", _submissions(material)),
        Section("provenance", "Provenance", _provenance(material, names, made)),
    ]
    return Report(lede=_summarise(material), tiles=_tiles(material, results), sections=sections)


def _summarise(material: Material) -> str:
    parts = []
    if material.labels:
        sizes = [f"{len(table):,} {split}" for split, table in material.labels.items()]
        parts.append(f"the labels of {' and '.join(sizes)} clips")
    for number, what in (
        (len(material.curves), "run"),
        (sum(system.run is None for system in material.systems), "prediction file"),
        (len(material.ledger.entries) if material.ledger else 0, "submission"),
    ):
        if number:
            parts.append(f"{number:,} {what}{'' if number == 1 else 's'}")
    return f"A report of {' and '.join(filter(None, [', '.join(parts[:-1]), parts[-1]]))}."


def _tiles(material: Material, results: Results) -> list[Tile]:
    tiles = []
    if results.best is not None:
        score = results.best.score
        name, value = f"Best mean Pearson on {results.split}", format_number(score.mean_pearson)
        note = f"{results.best.name}, 95% {_unbroken(score.interval.get(MEAN))}"
        tiles.append(Tile(name=name, value=value, note=note))
    if results.gain is not None:
        d = results.gain.difference
        bounds = _unbroken(d.interval[MEAN], signed=True)
        shown = "not significant" if d.verdict == "not shown" else "significant"
        note = f"{d.first} minus {d.second}, 95% {bounds}, {shown} (p {format_number(d.p[MEAN])})"
        value = format_number(d.difference[MEAN], signed=True)
        tiles.append(Tile(name="Ensemble minus its best member", value=value, note=note))
    entries = material.ledger.entries if material.ledger else ()
    tests = [(entry.test_score, entry.name) for entry in entries if entry.test_score is not None]
    if tests:
        best, name = max(tests)
        tiles.append(Tile(name="Best test score", value=format_number(best), note=name))
    if ids := material.ids():
        note = ", ".join(f"{len(clips):,} {split}" for split, clips in ids.items())
        tiles.append(Tile(name="Clips", value=f"{sum(map(len, ids.values())):,}", note=note))
    if material.curves:
        done = sum(bool(curve.record.get("finished")) for curve in material.curves)
        tiles.append(Tile(name="Runs", value=str(len(material.curves)), note=f"{done} finished"))
    return tiles[:4]


def _unbroken(bounds: tuple[float, float] | None, *, signed: bool = False) -> str:
    """An interval that no line break divides."""
    return format_bounds(bounds, signed=signed).replace(" ", "\N{NO-BREAK SPACE}")


def _about(material: Material, results: Results) -> list[Block]:
    blocks: list[Block] = [
        Text(
            "The challenge: predict the intensities of six emotions in a short clip. The score is Pearson's "
            "r between predictions and labels over the clips of a split, per emotion, and the mean of the "
            "six; an undefined r counts as 0. Intervals are bootstrap intervals over clips, taken as "
            "independent. Clips of one speaker are not independent, so the true intervals are wider."
        ),
        Text(
            f"Everything was computed by abaw-emi {VERSION} from the files that are listed under Provenance "
            "with their hashes. Each figure and table of numbers has a signature: the settings that, with "
            "these files, reproduce the numbers."
        ),
    ]
    warnings = [str(problem) for problem in (*material.warnings, *results.warnings)]
    for standing in results.standings:
        warnings += [f"{standing.name}, {problem}" for problem in standing.score.problems]
    return [*blocks, Text("Warnings:"), Lines(warnings)] if warnings else blocks


def _data(material: Material, durations: Durations | None) -> list[Block]:
    blocks: list[Block] = []
    other = [
        f"{split} has {len(clips):,} clips, the official one {OFFICIAL_COUNTS[split]:,}"
        for split, clips in material.ids().items()
        if len(clips) != OFFICIAL_COUNTS[split]
    ]
    if other:
        blocks.append(Text(f"These are not the official sizes: {'; '.join(other)}."))
    if material.labels:
        blocks.append(intensities.chart_labels(material.labels))
    else:
        blocks.append(
            _missing("No labels: there is no data folder, or no train_split.csv or valid_split.csv in it.")
        )
    if durations is not None and any(values.size for values in durations.seconds.values()):
        blocks.append(data.chart_durations(durations))
    else:
        blocks.append(
            _missing(
                "No durations: there is no audit.json (abaw-emi audit makes it), and there are no files of "
                "the clips, or reading them needs the extra train."
            )
        )
    if material.labels:
        blocks.append(data.chart_correlations(material.labels))
    if material.audit is not None and material.audit.findings:
        blocks.append(record_tables.tabulate_audit(material.audit))
    return blocks


def _training(material: Material, names: Sequence[str]) -> list[Block]:
    if not material.curves:
        return [_missing("No runs given.")]
    if not any(curve.epochs for curve in material.curves):
        return [_missing("No run has finished an epoch yet.")]
    return [training.chart_curves(material.curves, names)]


def _validation(material: Material, results: Results, page: Path) -> list[Block]:
    blocks: list[Block] = []
    if not results.standings:
        why = "No predictions of labelled clips that their predictor was not trained on."
        blocks.append(_missing(why if material.systems else "No predictions given."))
    else:
        if results.split == "train":
            blocks.append(Text("These are predictions of the training clips: not a validation score."))
        blocks += _explain_scores(results)
        blocks += [
            scores.chart_scores(results),
            score_tables.tabulate_scores(results),
            predictions.chart_predictions(results),
            *([score_tables.tabulate_groups(results)] if results.groups else []),
            score_tables.tabulate_worst(results, page),
        ]
    if results.folds:
        blocks.append(score_tables.tabulate_folds(results))
    if any(system.why_not for system in material.systems):
        blocks.append(score_tables.tabulate_unscored(material))
    return blocks


def _explain_scores(results: Results) -> list[Block]:
    """What the scores were selected on, and what clipping to the range of submissions changes."""
    blocks: list[Block] = []
    if any(standing.of_runs for standing in results.standings):
        blocks.append(
            Text(
                f"The epoch of each run was selected on these clips ({results.split}), so the scores of runs "
                "and of their ensembles are optimistic."
            )
        )
    if results.best is not None and results.clipped is not None:
        score, share = results.clipped
        blocks.append(
            Text(
                "Scores are those of the raw predictions. A submission must be in [0, 1]: clipped to that "
                f"range, which changes {share:.1%} of its values, {results.best.name} scores "
                f"{format_number(score)} instead of {format_number(results.best.score.mean_pearson)}."
            )
        )
    return blocks


def _comparison(results: Results) -> list[Block]:
    blocks: list[Block] = []
    if results.left_out:
        blocks.append(
            Text(f"The best {MOST_SYSTEMS} systems are compared; {results.left_out} more have lower scores.")
        )
    if results.comparison is None:
        blocks.append(_missing("No comparison: there are fewer than two scored systems."))
    else:
        blocks += [
            comparisons.chart_comparison(results.comparison),
            score_tables.tabulate_pairs(results.comparison),
        ]
    if results.gain is None:
        blocks.append(_missing("No ensembles: there are fewer than two members."))
    else:
        blocks.append(comparisons.chart_gain(results.gain))
    return blocks


def _submissions(material: Material) -> list[Block]:
    if material.ledger is None or not material.ledger.entries:
        return [_missing("No submissions: no ledger was found.")]
    chart = comparisons.chart_submissions(material.ledger)
    return [*([] if chart is None else [chart]), record_tables.tabulate_submissions(material.ledger)]


def _provenance(material: Material, names: Sequence[str], made: str) -> list[Block]:
    text = [Text(made)] if made else []
    runs = [record_tables.tabulate_runs(material.curves, names)] if material.curves else []
    return [*text, *runs, record_tables.tabulate_inputs(material.inputs)]


def _missing(text: str) -> Text:
    return Text(text, "missing")


def _name_runs(material: Material) -> list[str]:
    names = [curve.run.name for curve in material.curves]
    return [
        name if names.count(name) == 1 else str(curve.run.folder)
        for name, curve in zip(names, material.curves, strict=True)
    ]
