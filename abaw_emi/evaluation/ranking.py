"""What a comparison of systems found, and its forms: ranking and pairs, as tables of text or as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import Problem, UsageError
from abaw_emi.evaluation.score import Score
from abaw_emi.evaluation.significance import MEAN, Difference
from abaw_emi.evaluation.text_tables import FORMATS, Sheet, format_interval, format_p, format_r, render


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two systems beside each other; the first has the higher score.

    Attributes:
        difference: the first's score minus the second's, with interval and tests.
        correlation: Pearson's r between their predictions, per emotion; None where one is constant.
        mean_correlation: the mean of it, None counted as 0. The lower, the more an ensemble can gain.
        mean_of_both: the mean Pearson of the mean of their z-scores.
        gain: that, minus the better one's score.
    """

    difference: Difference
    correlation: dict[str, float | None]
    mean_correlation: float
    mean_of_both: float
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes:
        scores: of each system, the best first.
        pairs: every two systems, in the order of the ranking.
        n: clips compared.
        signature: the settings that made these numbers, on one line.
        problems: what a reader of the comparison must know.
    """

    scores: dict[str, Score]
    pairs: tuple[Pair, ...]
    n: int
    signature: str
    problems: tuple[Problem, ...] = ()

    def beats(self, name: str) -> tuple[str, ...]:
        """The systems that this one is shown to be better than, by the mean Pearson."""
        differences = [pair.difference for pair in self.pairs]
        return tuple(d.second for d in differences if d.first == name and d.verdict == "better")

    def sheets(self) -> tuple[Sheet, Sheet]:
        """The ranking and the pairs, as tables of text."""
        header = ["System", "Mean", "95 % interval", *EMOTIONS, "Beats"]
        ranking = [
            [
                f"{name} (SEEN IN TRAINING)" if found.seen else name,
                format_r(found.mean_pearson),
                format_interval(found.interval.get(MEAN)),
                *(format_r(found.pearson[emotion]) for emotion in EMOTIONS),
                ", ".join(self.beats(name)) or "-",
            ]
            for name, found in self.scores.items()
        ]
        pairs = [
            [
                f"{pair.difference.first} - {pair.difference.second}",
                format_r(pair.difference.difference[MEAN], signed=True),
                format_interval(pair.difference.interval[MEAN], signed=True),
                format_p(pair.difference.p[MEAN]),
                format_p(pair.difference.p_holm[MEAN]),
                pair.difference.verdict,
                ""
                if pair.difference.detectable[MEAN] is None
                else format_r(pair.difference.detectable[MEAN]),
                format_r(pair.mean_correlation),
                format_r(pair.gain, signed=True),
            ]
            for pair in self.pairs
        ]
        named = [
            "Pair",
            "Difference",
            "95 % interval",
            "p",
            "p Holm",
            "First is",
            "Detectable",
            "Correlation",
        ]
        return Sheet(header, ranking, "Systems"), Sheet([*named, "Gain of mean"], pairs, "Pairs")

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded, as JSON values."""
        systems = [
            {
                "rank": rank,
                "name": name,
                "mean_pearson": found.mean_pearson,
                "pearson": found.pearson,
                "interval": found.interval,
                "contaminated": found.seen > 0,
                "beats": list(self.beats(name)),
            }
            for rank, (name, found) in enumerate(self.scores.items(), start=1)
        ]
        pairs = [
            {
                **pair.difference.to_json(),
                "correlation": pair.correlation,
                "mean_correlation": pair.mean_correlation,
                "mean_of_both": pair.mean_of_both,
                "gain": pair.gain,
            }
            for pair in self.pairs
        ]
        return {"n": self.n, "signature": self.signature, "systems": systems, "pairs": pairs}

    def render(self, form: str = "table") -> str:
        """Ranking and pairs as text; as CSV the ranking alone, one header and one row a system.

        Args:
            form: one of `rendering.FORMATS`.

        Raises:
            UsageError: no such form.
        """
        if form not in FORMATS:
            raise UsageError(Problem("form", repr(form), f"one of {', '.join(FORMATS)}"))
        if form == "json":
            return json.dumps(self.to_json(), indent=2, allow_nan=False)
        sheets = self.sheets()
        if form == "csv":
            return render(self._values(), form)
        return "\n\n".join(render(sheet, form) for sheet in sheets)

    def _values(self) -> Sheet:
        """The ranking with unrounded numbers."""
        rows = [
            [
                name,
                repr(found.mean_pearson),
                *map(repr, found.interval.get(MEAN) or ()),
                *([""] * (0 if found.interval.get(MEAN) else 2)),
                *("" if found.pearson[e] is None else repr(found.pearson[e]) for e in EMOTIONS),
                " ".join(self.beats(name)),
            ]
            for name, found in self.scores.items()
        ]
        return Sheet(["system", MEAN, "low", "high", *EMOTIONS, "beats"], rows)
