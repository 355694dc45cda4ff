"""What training makes small: functions of predictions (N, 6) and labels (N, 6) of the same N clips.

The released code's "CCC" is none: it takes the covariance of clips instead of that of the two sides, a
matrix (CODE, see `core.constants`). Here are the definitions themselves, per emotion over the clips of the
batch, with moments divided by N, in float64: intensities that differ by 1e-4 have a spread, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from abaw_emi.config.losses import parse_loss
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.models.device import in_float64

# A column whose standard deviation is below a millionth of its size, or 1e-12, is constant: whatever lies
# below is rounding, and gradients go with one over it. The score (`evaluation.pearson`) means equal values.
_ROUNDING = 1e-12
_NOTHING = 1e-24


def mse(predictions: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean squared error over clips and emotions (PAPER, section 4)."""
    return _average((in_float64(predictions) - in_float64(labels)).square(), weights).to(predictions)


def smooth_l1(
    predictions: Tensor, labels: Tensor, weights: Tensor | None = None, beta: float = 1.0
) -> Tensor:
    """The mean of e^2 / (2 beta) where the error e is below `beta` in size, and of |e| - beta / 2 elsewhere.

    Girshick, Fast R-CNN, arXiv 1504.08083, equation 3, which has beta 1.
    """
    p, y = in_float64(predictions), in_float64(labels)
    errors = functional.smooth_l1_loss(p, y, beta=beta, reduction="none")
    return _average(errors, weights).to(predictions)


def ccc(predictions: Tensor, labels: Tensor) -> Tensor:
    """1 - the concordance correlation of each emotion, averaged: 0 to 2.

    2 cov / (var + var + (difference of the means)^2), Lin, Biometrics 45 (1989). An emotion
    that is the same constant on both sides counts 1; so does every emotion of a single clip.
    """
    p, y = in_float64(predictions), in_float64(labels)
    p_variance, y_variance, covariance = _moments(p, y)
    spread = p_variance + y_variance + (p.mean(dim=0) - y.mean(dim=0)).square()  # (6,)
    nothing = spread <= _NOTHING
    # Divided by 1 there, and thrown away: dividing by 0 first would leave NaN in the gradient.
    concordance = 2 * covariance / torch.where(nothing, 1.0, spread)
    return (1 - torch.where(nothing, 0.0, concordance)).mean().to(predictions)


def pearson(predictions: Tensor, labels: Tensor) -> Tensor:
    """1 - Pearson's correlation of each emotion, averaged: 0 to 2 (PAPER, equation 1, turned over).

    An emotion that is constant on either side has no correlation: it counts 1, with gradient 0.
    """
    p, y = in_float64(predictions), in_float64(labels)
    p_variance, y_variance, covariance = _moments(p, y)
    constant = (p_variance <= _ROUNDING * p.square().mean(dim=0) + _NOTHING) | (
        y_variance <= _ROUNDING * y.square().mean(dim=0) + _NOTHING
    )
    scale = torch.where(constant, 1.0, p_variance).sqrt() * torch.where(constant, 1.0, y_variance).sqrt()
    correlation = torch.where(constant, 0.0, covariance / scale)  # (6,)
    return (1 - correlation).mean().to(predictions)


def gate(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """The binary cross-entropy of sigmoid(logits) and y > 0, averaged over clips and emotions."""
    target = in_float64((labels > 0).to(logits))
    values = functional.binary_cross_entropy_with_logits(in_float64(logits), target, reduction="none")
    return _average(values, weights).to(logits)


def _average(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of values (N, 6), those of a clip times its weight (N,)."""
    return (values if weights is None else values * in_float64(weights)[:, None]).mean()


def _moments(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variances and covariance (6,) of the columns."""
    p, y = p - p.mean(dim=0), y - y.mean(dim=0)
    return p.square().mean(dim=0), y.square().mean(dim=0), (p * y).mean(dim=0)


_Formula = Callable[..., Tensor]
_FORMULAS: dict[str, _Formula] = {
    "mse": mse,
    "smooth-l1": smooth_l1,
    "ccc": ccc,
    "pearson": pearson,
    "gate": gate,
}
_SEPARABLE = ("mse", "smooth-l1", "gate")
_CORRELATIONS = (ccc, pearson)

_INTENSITIES = slice(0, len(EMOTIONS))
_LOGITS = slice(len(EMOTIONS), 2 * len(EMOTIONS))
_AUXILIARY = len(EMOTIONS) + 1
"""The columns of a model's outputs, the last of them the number that each auxiliary head has."""


class Loss:
    """A weighted sum of losses.

    Args:
        text: as in `config.losses.parse_loss`.
        beta: of smooth-l1.
        ramp_epochs: see `at`; 0 for a loss that is the same in every epoch.
        auxiliary: weight and name of the loss, mse or smooth-l1, of each of the model's `AuxiliaryHeads`.

    Attributes:
        separable: whether a batch's loss is the mean of its clips' own losses, so that parts of a batch,
            each weighted by its share of the clips, can go backward one after the other.
    """

    def __init__(
        self,
        text: str,
        *,
        beta: float = 1.0,
        ramp_epochs: int = 0,
        auxiliary: Sequence[tuple[float, str]] = (),
    ) -> None:
        formulas: dict[str, _Formula] = {**_FORMULAS, "smooth-l1": partial(smooth_l1, beta=beta)}
        self._terms = [
            (weight, formulas[name], _LOGITS if name == "gate" else _INTENSITIES)
            for weight, name in parse_loss(text)
        ]
        self._auxiliary = [(weight, formulas[name]) for weight, name in auxiliary]
        self._ramp_epochs = ramp_epochs
        self.separable = all(name in _SEPARABLE for _, name in parse_loss(text))

    def at(self, epoch: int) -> Loss:
        """The loss of an epoch, counted from 0: each term but the first times min(1, (epoch + 1) / N).

        Terms like a correlation, of which a model that has just begun knows little, come in over the first N
        = `ramp_epochs` epochs (the idea of Laine and Aila's ramp-up, arXiv 1610.02242, made linear). Where a
        run stands says it all: there is no state.
        """
        if epoch + 1 >= self._ramp_epochs:
            return self
        loss = copy(self)
        share = (epoch + 1) / self._ramp_epochs
        loss._terms = [
            (weight if place == 0 else weight * share, formula, columns)
            for place, (weight, formula, columns) in enumerate(self._terms)
        ]
        return loss

    def __call__(self, predictions: Tensor, labels: Tensor, heads: Tensor | None = None) -> Tensor:
        """The loss of a batch, a scalar in the predictions' precision.

        Args:
            predictions: (N, W) the outputs of a model: intensities (N, 6); then the gate's logits (N, 6), if
                it has one; then of each auxiliary head intensities (N, 6) and 1 for a clip that it counts
                for, else 0.
            labels: (N, 6), or (N, 7) with a weight for each clip (`clip_weights`), which the terms that are a
                mean over clips take, and the correlations do not.
            heads: (N,) the head that each row comes from, where heads know nothing of each other: the loss
                is then taken over the rows of each, and these are averaged by their numbers of rows.
        """
        if heads is not None:
            rows = [heads == head for head in heads.unique()]
            parts = [self(predictions[own], labels[own]) * (own.sum() / len(heads)) for own in rows]
            return torch.stack(parts).sum()
        labels, weights = labels[:, : len(EMOTIONS)], labels[:, len(EMOTIONS) :]
        weighed = {"weights": weights[:, 0]} if weights.shape[1] else {}
        first, *others = [
            weight
            * formula(predictions[:, columns], labels, **(weighed if formula not in _CORRELATIONS else {}))
            for weight, formula, columns in self._terms
        ]
        start = predictions.shape[1] - _AUXILIARY * len(self._auxiliary)
        for place, (weight, formula) in enumerate(self._auxiliary):
            block = predictions[:, start + _AUXILIARY * place : start + _AUXILIARY * (place + 1)]
            # A clip that does not count has no error.
            counted = torch.where(block[:, -1:] > 0, block[:, :-1], labels.to(block))
            others.append(weight * formula(counted, labels, **weighed))
        return sum(others, start=first)

    def gradient(self, predictions: Tensor, labels: Tensor, heads: Tensor | None = None) -> Tensor:
        """How the loss of a batch changes with each prediction: (N, W) float64, without a graph.

        A loss that is not separable needs all of the batch's predictions together, but not their graphs:
        predict all parts without, then run each part again and go backward from its rows of this. The
        chain rule makes the sum of it the gradient of the whole batch (the idea of GradCache, Gao et al.,
        arXiv 2101.06983).
        """
        with torch.enable_grad():
            leaf = in_float64(predictions.detach()).requires_grad_()
            heads = None if heads is None else heads.to(leaf.device)
            (slopes,) = torch.autograd.grad(self(leaf, labels.detach().to(leaf.device), heads), leaf)
        return slopes
