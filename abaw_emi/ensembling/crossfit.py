"""How good a way of combining is on clips that its weights have not seen: repeated K-fold cross-fitting.

Weights are fitted on all folds but one, and combine the clips of that one; folds are drawn over clips, or
over groups of them, several times, and a clip's predictions are averaged over the repeats: none of them saw
its label. Beside the schemes stand the best single member, chosen the same way (on the other folds, since
the best of many on the very clips that it is judged by is flattered), and the plain mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from abaw_emi.core.arrays import Array
from abaw_emi.core.constants import Scheme
from abaw_emi.core.errors import Problem, ScoreError, UsageError
from abaw_emi.ensembling.schemes import SCHEMES, Fit, Moments, choose_best, combine, fit, measure, to_scale
from abaw_emi.evaluation.bootstrap import Resampling
from abaw_emi.evaluation.score import Score, score_arrays, sign
from abaw_emi.evaluation.significance import MEAN, Difference, compare_pairs
from abaw_emi.evaluation.text_tables import TextTable, format_interval, format_p, format_r

BEST = "best single"
FOLDS = 5
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeReport:
    """How a scheme does out of fold.

    Attributes:
        score: of its out-of-fold predictions.
        against_best: its difference to the best single member, chosen out of fold.
        against_mean: its difference to the plain mean, corrected over all pairs of schemes; None for that
            itself.
        weights: (K, M) fitted on all clips.
    """

    score: Score
    against_best: Difference
    against_mean: Difference | None
    weights: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """What cross-fitting found.

    Attributes:
        members: their names.
        schemes: the report of each scheme, the simplest first.
        best: the score of the best single member, chosen out of fold.
        chosen: the simplest scheme that is not significantly outperformed.
        predictions: (N, K) out of fold, by scheme.
        signature: the settings that made these numbers.
        problems: what a reader of the report must know.
    """

    members: tuple[str, ...]
    schemes: dict[Scheme, SchemeReport]
    best: Score
    chosen: Scheme
    predictions: dict[Scheme, Array]
    signature: str
    problems: tuple[Problem, ...] = ()

    def table(self) -> TextTable:
        """The report as a table of text."""
        header = ["Out of fold", "Mean", "95 % interval", f"minus {BEST}", "95 % interval", "minus mean"]
        rows = [[BEST, *_show_score(self.best), "", "", "", "", ""]]
        for scheme, report in self.schemes.items():
            row = [scheme, *_show_score(report.score), *_show_difference(report.against_best)]
            if report.against_mean is None:
                row += ["", "", ""]
            else:
                row += [*_show_difference(report.against_mean), format_p(report.against_mean.p_holm[MEAN])]
            rows.append(row)
        return TextTable([*header, "95 % interval", "p (Holm)"], rows)

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions, as JSON values."""
        return {
            "chosen": self.chosen,
            "members": list(self.members),
            "best_single": self.best.numbers,
            "schemes": {
                scheme: {
                    **report.score.numbers,
                    "against_best": report.against_best.to_json(),
                    "against_mean": report.against_mean and report.against_mean.to_json(),
                    "weights": report.weights.T.tolist(),
                }
                for scheme, report in self.schemes.items()
            },
            "signature": self.signature,
        }


def _show_score(score: Score) -> list[str]:
    return [format_r(score.mean_pearson), format_interval(score.interval.get(MEAN))]


def _show_difference(difference: Difference) -> list[str]:
    interval = format_interval(difference.interval[MEAN], signed=True)
    return [format_r(difference.difference[MEAN], signed=True), interval]


def cross_fit(
    truth: Array,
    members: Array,
    names: Sequence[str],
    how: Resampling,
    *,
    schemes: Sequence[Scheme] = SCHEMES,
    folds: int = FOLDS,
    repeats: int = REPEATS,
) -> CrossFit:
    """Every scheme out of fold, beside the best single member and the plain mean.

    Args:
        truth: (N, K) labels.
        members: (M, N, K) predictions of the same clips.
        names: of the members.
        how: intervals and tests; its groups are never parted by a fold, its seed draws the folds.
        schemes: to try; the mean is always among them.
        folds: parts of the clips, three at least (the ridge is chosen within all but one).
        repeats: how often they are drawn.

    Raises:
        ScoreError: fewer than two clips or groups for each fold.
        UsageError: fewer than three folds.
    """
    wanted: list[Scheme] = [scheme for scheme in SCHEMES if scheme in schemes or scheme == "mean"]
    if folds < 3:
        raise UsageError(Problem("ensemble", f"{folds} folds", "three at least"))
    clusters = np.arange(len(truth)) if how.clusters is None else how.clusters
    if clusters.max() + 1 < 2 * folds:
        found = f"{clusters.max() + 1} clips or groups"
        raise ScoreError(Problem("ensemble", found, f"at least {2 * folds}, for {folds} folds"))
    parts = _draw_folds(clusters, folds, repeats, how.seed)
    predictions: dict[Scheme, Array] = {}
    weights: dict[Scheme, Array] = {}
    for scheme in wanted:
        predictions[scheme], weights[scheme] = _out_of_fold(
            truth, members, scheme, partial(fit, scheme), parts
        )
    single, _ = _out_of_fold(truth, members, "zscores", choose_best, parts)
    systems, called = [single, *predictions.values()], [BEST, *predictions]
    to_best = compare_pairs(truth, systems, called, [(s, 0) for s in range(1, len(systems))], how)
    # The choice rests on what is reported: all pairs of schemes, corrected together.
    pairs = list(combinations(range(1, len(systems)), 2))
    among = compare_pairs(truth, systems, called, pairs, how) if pairs else []
    to_mean = [difference.turned() for (a, _), difference in zip(pairs, among, strict=True) if a == 1]
    reports = {
        scheme: SchemeReport(
            score=score_arrays(truth, predictions[scheme], how),
            against_best=against_best,
            against_mean=against_mean,
            weights=weights[scheme],
        )
        for scheme, against_best, against_mean in zip(wanted, to_best, [None, *to_mean], strict=True)
    }
    drawn = "clips" if how.clusters is None else "groups"
    return CrossFit(
        members=tuple(names),
        schemes=reports,
        best=score_arrays(truth, single, how),
        chosen=_choose(wanted, among),
        predictions=predictions,
        signature=f"{sign(len(truth), how, tests=len(pairs))}|crossfit:{repeats}x{folds},{drawn}",
        problems=tuple(how.doubts),
    )


def _choose(schemes: Sequence[Scheme], among: Sequence[Difference]) -> Scheme:
    """The first scheme that no other one is shown to be better than."""
    beaten = {difference.first for difference in among if difference.verdict == "worse"}
    beaten |= {difference.second for difference in among if difference.verdict == "better"}
    return next((scheme for scheme in schemes if scheme not in beaten), schemes[0])


def _draw_folds(
    clusters: npt.NDArray[np.intp], folds: int, repeats: int, seed: int
) -> list[list[npt.NDArray[np.intp]]]:
    """For each repeat, the rows of each fold; a cluster is never parted."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(repeats):
        fold_of_cluster = rng.permutation(clusters.max() + 1) % folds
        drawn.append([np.flatnonzero(fold_of_cluster[clusters] == fold) for fold in range(folds)])
    return drawn


def _out_of_fold(
    truth: Array,
    members: Array,
    scheme: Scheme,
    fit_weights: Fit,
    parts: Sequence[Sequence[npt.NDArray[np.intp]]],
) -> tuple[Array, Array]:
    """(N, K) out-of-fold predictions, averaged over the repeats, and the weights (K, M) of all clips."""
    scaled = to_scale(members, scheme)
    combined = np.zeros(truth.shape)
    moments: list[Moments] = []
    for folds in parts:
        moments = [measure(truth[rows], scaled[:, rows]) for rows in folds]
        for i, rows in enumerate(folds):
            weights = fit_weights([*moments[:i], *moments[i + 1 :]])
            combined[rows] += np.einsum("km,mnk->nk", weights, scaled[:, rows])
    weights = fit_weights(moments)
    centre = combine(members, scheme, weights)
    # On the scale of the final combination, column by column: no correlation notices.
    average = combined / len(parts)
    spread = np.where(average.std(axis=0) > 0, average.std(axis=0), 1.0)
    moved = (average - average.mean(axis=0)) / spread * centre.std(axis=0) + centre.mean(axis=0)
    return np.asarray(moved), weights
