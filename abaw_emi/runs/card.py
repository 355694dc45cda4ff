"""The model card of a finished run: the `README.md` of its folder. Imports no torch.

The same run gives the same text: no date, no path, nothing of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from abaw_emi.config.run import RunConfig
from abaw_emi.core.constants import EMOTIONS, FILENAME
from abaw_emi.core.files import write_bytes
from abaw_emi.data.tables import read_predictions
from abaw_emi.evaluation.score import Score, score
from abaw_emi.evaluation.text_tables import format_interval, format_r
from abaw_emi.runs.publish import shorten_path
from abaw_emi.runs.run import Run

_CARD = """\
---
{front_matter}
---

# Emotional mimicry intensity: {title}

Six numbers for a clip, in this order: {emotions}.
The labels that they were trained on lie in [0, 1]; the numbers themselves are not bounded.

## System

{system}

## Data and score

{data}

## Use

```python
import abaw_emi

abaw_emi.load("RUN").predict({arguments})  # RUN: this folder, or its id on the hub
```

## Licence

{licence} The terms of the data that it was trained on apply, too.

## Citation

Tobias Hallmen, Fabian Deuser, Norbert Oswald, Elisabeth André: Unimodal Multi-Task Fusion for Emotional
Mimicry Intensity Prediction. CVPR 2024 workshops, arXiv 2403.11879.
"""

Record = Mapping[str, Any]


def write_card(run: Run, labels: pl.DataFrame | None = None) -> Score | None:
    """Writes the card from the run's record, its `run.toml` and the predictions of what was held out.

    Returns:
        The score of those predictions; None for a run without.

    Args:
        run: finished, but that its record may not say so yet.
        labels: of the clips of `valid_predictions.csv`, at least; None for a run without.
    """
    record, config = run.read_provenance(), run.read_config()
    found = None if labels is None else _score(run, record, labels)
    preset = record.get("preset")
    text = _CARD.format(
        front_matter=_write_front_matter(record, config),
        title=f"{f'preset {preset}' if preset else 'a system'}, seed {config.training.seed}",
        emotions=", ".join(EMOTIONS),
        system=_describe_system(record, config),
        data=_describe_data(record, found),
        arguments=_write_arguments(config),
        licence=_find_licence(record)[1],
    )
    write_bytes(run.card_file, text.encode())
    return found


def _find_encoders(record: Record) -> list[dict[str, Any]]:
    """The published encoders that a run's record names: `name`, `revision`, `commit`."""
    return [record[key] for key in ("backbone", "text_encoder") if record.get(key)]


def _score(run: Run, record: Record, labels: pl.DataFrame) -> Score:
    ids = read_predictions(run.valid_predictions)[FILENAME].to_list()
    held_out = labels.filter(pl.col(FILENAME).is_in(ids))
    precision = record.get("precision") or "fp32"
    return score(held_out, run.valid_predictions, precisions=() if precision == "fp32" else (precision,))


def _write_front_matter(record: Record, config: RunConfig) -> str:
    lines = ["library_name: abaw_emi"]
    lines += ["pipeline_tag: audio-classification"] if config.model.encoder != "none" else []
    licence, _ = _find_licence(record)
    lines += [f"license: {licence}"] if licence else []
    if published := [encoder["name"] for encoder in _find_encoders(record) if encoder["commit"]]:
        lines += ["base_model:", *(f"- {name}" for name in published)]
    return "\n".join([*lines, "tags:", "- emotional-mimicry-intensity", "- abaw"])


def _describe_system(record: Record, config: RunConfig) -> str:
    model, lines = config.model, []
    if model.encoder != "none":
        lines.append(f"sound: the first {config.data.max_seconds:g} s at 16 kHz, encoder: {model.encoder}")
    lines += [f"{'words' if each.backbone else 'features'}: `{each.name}`" for each in model.features]
    for encoder in _find_encoders(record):
        commit = f", commit {encoder['commit']}" if encoder["commit"] else ", from a local folder"
        lines.append(f"starts from: {shorten_path(encoder['name'])}{commit}")
    before = [record.get("init_from"), *(record.get("init_branches") or [])]
    lines += [f"starts from: the run {run['run']}" for run in before if run]
    lines.append(f"trained with abaw_emi {record['version']}; `run.toml` has every option")
    return "\n".join(f"- {line}" for line in lines)


def _describe_data(record: Record, found: Score | None) -> str:
    if "data" not in record:
        return "Which clips it was trained on is not recorded."
    splits = "train and valid" if record.get("train_plus_val") else "train"
    text = f"Trained on {record['data']['train']:,} clips of {splits}. "
    if found is None:
        return f"{text}No clips were held out, so there is no score, and the last weights are kept."
    fold = record.get("fold")
    held_out = f"fold {fold}, held out of these splits" if fold else "valid"
    text += f"Scored on {found.n:,} clips of {held_out}.\n"
    text += "The epoch was selected on them: the score is optimistic."
    if found.seen:
        text += "\nSEEN IN TRAINING: this is no validation score."
    scores = [("mean", "mean_pearson", found.mean_pearson), *((e, e, r) for e, r in found.pearson.items())]
    rows = [f"| {name} | {format_r(r)} | {format_interval(found.interval[key])} |" for name, key, r in scores]
    table = "\n".join(["| | Pearson's r | 95 % interval |", "|---|---|---|", *rows])
    return f"{text}\n\n{table}\n\nSignature: `{found.signature}`"


def _write_arguments(config: RunConfig) -> str:
    sound = ['["a.wav"]'] if config.model.encoder != "none" else []
    files = {each.name: "the words" if each.backbone else "a.npy" for each in config.model.features}
    given = ", ".join(f'"{name}": ["{file}"]' for name, file in files.items())
    return ", ".join([*sound, *([f"features={{{given}}}"] if given else [])])


def _find_licence(record: Record) -> tuple[str | None, str]:
    """The licence that all encoders share which the weights come from, None for no such, and it in words."""
    known = record.get("licenses") or {}
    found = {shorten_path(encoder["name"]): known.get(encoder["name"]) for encoder in _find_encoders(record)}
    shared = next(iter(found.values())) if len(set(found.values())) == 1 else None
    if shared:
        return shared, f"{shared}, inherited from {' and '.join(found)}."
    if not found:
        return None, "None is stated: the weights come from no published encoder."
    each = ", ".join(f"{name}: {licence or 'not known here'}" for name, licence in found.items())
    return None, f"None is stated. Of what the weights come from: {each}."
