"""What the shell offers as values of options, once `abaw-emi --install-completion` was typed."""

from __future__ import annotations

from pathlib import Path

_RUNS = Path("runs")

Offers = list[tuple[str, str]]
"""Values, each with a line about it."""


def complete_presets(incomplete: str) -> Offers:
    """The presets that begin so."""
    from abaw_emi.config.presets import SUMMARIES

    return [offer for offer in SUMMARIES.items() if offer[0].startswith(incomplete)]


def complete_keys(incomplete: str) -> Offers:
    """The options of a run that begin so, with the sign that their value follows."""
    from abaw_emi.config.options import list_options

    return [
        (f"{option.key}=", f"{option.type}, default {option.default}")
        for option in list_options()
        if option.key.startswith(incomplete)
    ]


def complete_runs(incomplete: str) -> Offers:
    """The run folders that begin so, in `runs/` where nothing else is named."""
    folder, slash, _ = incomplete.rpartition("/")
    place = Path(folder + slash) if slash else _RUNS
    found = sorted(str(file.parent) for file in place.glob("[!.]*/run.toml"))
    return [(run, "") for run in found if run.startswith(incomplete)]
