"""How many clips have each modality that a system reads, and what to do about those that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abaw_emi.batching.examples import InputSpec
from abaw_emi.config.parts import SOUND
from abaw_emi.core.errors import ClipError, Problem, show_first
from abaw_emi.core.ids import pack_ids
from abaw_emi.core.progress import Reporter
from abaw_emi.data.folder import DataFolder
from abaw_emi.features.files import find_unread
from abaw_emi.features.transcripts import find_unread_transcripts

SHOWN_RANGES = 20
"""Ranges of ids that a line about a missing modality names."""


def report_empty(
    data: DataFolder, empty: Sequence[str], total: int, spec: InputSpec, reporter: Reporter
) -> None:
    """Warns of clips that have nothing that the system reads, or raises a ClipError."""
    problem = Problem(
        f"{len(empty):,} of {total:,} clips",
        f"nothing to predict from: {_list(empty)}",
        f"{' or '.join(spec.modalities)} of each",
        "; ".join(advise(data, name, spec) for name in spec.names),
    )
    if spec.on_bad == "error":
        raise ClipError(problem)
    reporter.warn([problem])


def report_coverage(
    data: DataFolder,
    missing: Mapping[str, Sequence[str]],
    total: int,
    spec: InputSpec,
    reporter: Reporter,
) -> None:
    """Says how many clips have each modality, and warns of those without it and of files not read."""
    of_all = f"of {total:,} clips"
    counts = [f"{name} {total - len(missing.get(name, ())):,}" for name in spec.modalities]
    reporter.say(f"{of_all}: {', '.join(counts)}")
    reporter.warn(
        [Problem(f"{len(ids):,} {of_all}", f"no {name}: {_list(ids)}") for name, ids in missing.items()]
    )
    reporter.warn([problem for name in missing for problem in _find_unread(data, name, spec)])


def advise(data: DataFolder, name: str, spec: InputSpec) -> str:
    """Where a modality is looked for, and how it is made."""
    if name == SOUND:
        return f"put sound or videos into {data.root}"
    if unread := _find_unread(data, name, spec):
        return "; ".join(map(str, unread))
    if spec.text is not None and name == spec.text.name:
        return "make transcripts with abaw-emi transcribe"
    return (
        f"put features into {data.root / name} or {data.features / name}, or make them with abaw-emi extract"
    )


def _find_unread(data: DataFolder, name: str, spec: InputSpec) -> list[Problem]:
    """What to say of files in a modality's folders that are not read."""
    if spec.text is not None and name == spec.text.name:
        return find_unread_transcripts(data.root, data.features)
    return find_unread(data.root, data.features, name) if name in spec.folders else []


def _list(ids: Sequence[str]) -> str:
    return show_first(pack_ids(ids), SHOWN_RANGES, "... (all in the provenance record)")
