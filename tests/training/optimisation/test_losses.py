from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from torch import Tensor, nn

from abaw_emi.config.losses import LOSSES
from abaw_emi.core.constants import EMOTIONS
from abaw_emi.core.errors import CorpusError
from abaw_emi.training.optimisation.clip_weights import weigh_clips
from abaw_emi.training.optimisation.losses import Loss

TEXTS = ("mse", "smooth-l1", "ccc", "pearson", "mse+pearson", "0.5*mse+ccc", "mse+2*ccc+0.25*pearson")


def draw(seed: int, clips: int, *, spread: float = 0.2, dtype: torch.dtype = torch.float64) -> Any:
    """Predictions and labels (clips, 6) that agree somewhat."""
    rng = np.random.default_rng([seed, clips])
    labels = rng.random((clips, 6))
    predictions = 0.5 + spread * (labels - 0.5) + spread * rng.standard_normal((clips, 6))
    return torch.from_numpy(predictions).to(dtype), torch.from_numpy(labels).to(dtype)


def slow_ccc(predictions: Tensor, labels: Tensor) -> float:
    """Lin's coefficient as 1 - E[(p - y)^2] / E[(p' - y)^2], p' and y of clips drawn apart: two loops."""
    n = len(labels)
    values = []
    for p, y in zip(predictions.T.tolist(), labels.T.tolist(), strict=True):
        together = math.fsum((p[i] - y[i]) ** 2 for i in range(n)) / n
        apart = math.fsum((p[i] - y[j]) ** 2 for i in range(n) for j in range(n)) / n**2
        values.append(together / apart)
    return math.fsum(values) / len(values)


def columns(*values: float) -> Tensor:
    """The same column in all six emotions."""
    return torch.tensor(values, dtype=torch.float64)[:, None].repeat(1, 6)


@pytest.mark.parametrize("clips", [2, 3, 8, 33])
def test_ccc_is_lins(clips: int) -> None:
    predictions, labels = draw(1, clips)
    assert Loss("ccc")(predictions, labels).item() == pytest.approx(slow_ccc(predictions, labels), abs=1e-12)


def test_ccc_of_known_columns() -> None:
    # Means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2 (2/3) / (4/3 + 1) = 4/7.
    assert Loss("ccc")(columns(1, 2, 3), columns(2, 3, 4)).item() == pytest.approx(1 - 4 / 7, abs=1e-15)
    assert Loss("ccc")(columns(3, 2, 1), columns(1, 2, 3)).item() == pytest.approx(2, abs=1e-15)


@pytest.mark.parametrize("clips", [2, 5, 40])
def test_pearson_is_scipys(clips: int) -> None:
    predictions, labels = draw(2, clips)
    r = [pearsonr(labels[:, k].numpy(), predictions[:, k].numpy()).statistic for k in range(6)]
    assert Loss("pearson")(predictions, labels).item() == pytest.approx(1 - np.mean(r), abs=1e-12)


def test_mse_is_the_mean_over_clips_and_emotions() -> None:
    predictions, labels = draw(3, 7)
    expected = np.mean((predictions.numpy() - labels.numpy()) ** 2)
    assert Loss("mse")(predictions, labels).item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("beta", [0.05, 0.3, 1.0])
def test_smooth_l1_is_squared_below_beta_and_absolute_above(beta: float) -> None:
    predictions, labels = draw(3, 7)
    errors = np.abs(predictions.numpy() - labels.numpy())
    expected = np.where(errors < beta, errors**2 / (2 * beta), errors - beta / 2).mean()
    assert Loss("smooth-l1", beta=beta)(predictions, labels).item() == pytest.approx(expected, abs=1e-12)
    assert (errors < 0.3).any()
    assert (errors > 0.3).any()


def test_terms_after_the_first_are_ramped_in() -> None:
    predictions, labels = draw(4, 9)
    mse, r = (Loss(name)(predictions, labels).item() for name in ("mse", "pearson"))
    loss = Loss("mse+0.1*pearson", ramp_epochs=8)
    for epoch, share in ((0, 1 / 8), (3, 0.5), (7, 1), (20, 1)):
        found = loss.at(epoch)(predictions, labels).item()
        assert found == pytest.approx(mse + 0.1 * share * r, abs=1e-12)
    assert Loss("mse+0.1*pearson").at(0)(predictions, labels).item() == pytest.approx(
        mse + 0.1 * r, abs=1e-12
    )


def test_a_sum_is_weighted() -> None:
    predictions, labels = draw(4, 9)
    mse, ccc, pearson = (Loss(name)(predictions, labels).item() for name in ("mse", "ccc", "pearson"))
    together = Loss("mse+2*ccc+0.25*pearson")(predictions, labels).item()
    assert together == pytest.approx(mse + 2 * ccc + 0.25 * pearson, abs=1e-14)


def test_gate_is_the_cross_entropy_of_being_more_than_0() -> None:
    predictions, labels = draw(4, 9)
    labels = torch.where(labels < 0.5, 0.0, labels)
    logits = 3 * predictions.flip(0)
    p, y = logits.sigmoid().numpy(), (labels > 0).numpy()
    cross_entropy = -np.where(y, np.log(p), np.log(1 - p)).mean()
    outputs = torch.cat([predictions, logits], dim=1)
    assert Loss("gate")(outputs, labels).item() == pytest.approx(cross_entropy, abs=1e-12)
    found = Loss("0.3*gate+0.2*mse")(outputs, labels).item()
    mse = Loss("mse")(predictions, labels).item()
    assert found == pytest.approx(0.3 * cross_entropy + 0.2 * mse, abs=1e-12)


def test_auxiliary_heads_have_losses_of_the_clips_that_they_count_for() -> None:
    predictions, labels = draw(4, 9)
    first, second = predictions.flip(0), predictions.flip(1)
    there = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 1])[:, None].double()
    outputs = torch.cat([predictions, first, torch.ones(9, 1), second, there], dim=1)
    loss = Loss("pearson", beta=0.3, auxiliary=[(0.2, "smooth-l1"), (0.5, "mse")])
    errors = ((second - labels).square() * there).sum() / (9 * 6)
    smooth = Loss("smooth-l1", beta=0.3)(first, labels)
    expected = Loss("pearson")(predictions, labels) + 0.2 * smooth + 0.5 * errors
    torch.testing.assert_close(loss(outputs, labels), expected, rtol=0, atol=1e-12)
    slopes = loss.gradient(outputs, labels)
    assert not slopes[there[:, 0] == 0, 13:].any()
    assert slopes[there[:, 0] == 1, 13:19].all()


def test_clips_have_weights_in_means_and_not_in_correlations() -> None:
    predictions, labels = draw(4, 9)
    weights = torch.linspace(0.2, 1.8, 9, dtype=torch.float64)
    weighed = torch.cat([labels, weights[:, None]], dim=1)
    squares = (weights[:, None] * (predictions - labels).square()).mean()
    r = Loss("pearson")(predictions, labels)
    torch.testing.assert_close(Loss("mse+pearson")(predictions, weighed), squares + r, rtol=0, atol=1e-12)
    outputs = torch.cat([predictions, predictions.flip(0)], dim=1)
    for name in ("mse", "smooth-l1", "gate"):
        clips = [Loss(name)(outputs[k : k + 1], labels[k : k + 1]) for k in range(9)]
        expected = (torch.stack(clips) * weights).mean()
        torch.testing.assert_close(Loss(name)(outputs, weighed), expected, rtol=0, atol=1e-12)


def test_weights_are_the_roots_of_the_raters_that_the_labels_tell() -> None:
    rows = [[0.4, 0.2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1 / 3, 0, 0, 0.5, 0, 0]]
    names = ["00000", "00001", "00002"]
    labels = pl.DataFrame({"Filename": names}).hstack(pl.DataFrame(rows, schema=list(EMOTIONS), orient="row"))
    roots = np.sqrt([5, 1, 6])
    np.testing.assert_allclose(weigh_clips(labels), roots / roots.mean(), rtol=1e-6)
    odd = labels.with_columns(Joy=pl.Series([0.0, 0.7182818, 0.0]))
    with pytest.raises(CorpusError, match="1 clips have labels that are no k/N: 00001"):
        weigh_clips(odd)


@pytest.mark.parametrize("name", LOSSES)
def test_every_known_name_is_a_loss(name: str) -> None:
    predictions, labels = draw(5, 4)
    assert Loss(name)(torch.cat([predictions, predictions], dim=1), labels).shape == ()


@pytest.mark.parametrize(
    ("text", "separable"), [("mse", True), ("0.5*mse", True), ("mse+smooth-l1", True), ("ccc", False)]
)
def test_only_errors_are_a_mean_over_clips(text: str, separable: bool) -> None:
    assert Loss(text).separable is separable
    assert not Loss("mse+ccc").separable
    predictions, labels = draw(6, 6)
    loss = Loss(text)
    parts = [loss(predictions[rows], labels[rows]).item() for rows in (slice(0, 4), slice(4, 6))]
    agree = (4 * parts[0] + 2 * parts[1]) / 6 == pytest.approx(loss(predictions, labels).item(), abs=1e-12)
    assert agree is separable


@pytest.mark.parametrize("text", TEXTS)
def test_gradients_are_those_of_the_loss(text: str) -> None:
    predictions, labels = draw(7, 5)
    assert torch.autograd.gradcheck(lambda p: Loss(text)(p, labels), predictions.requires_grad_())


@pytest.mark.parametrize("text", TEXTS)
def test_the_gradient_agrees_with_finite_differences(text: str) -> None:
    loss, (predictions, labels) = Loss(text), draw(8, 4)
    slopes = loss.gradient(predictions, labels)
    step = 1e-6
    for row, column in np.ndindex(4, 6):
        shift = torch.zeros_like(predictions)
        shift[row, column] = step
        rise = (loss(predictions + shift, labels) - loss(predictions - shift, labels)).item()
        assert slopes[row, column].item() == pytest.approx(rise / (2 * step), abs=1e-8)


def test_the_gradient_is_float64_and_without_a_graph_even_where_graphs_are_off() -> None:
    predictions, labels = draw(9, 4, dtype=torch.float32)
    with torch.no_grad():
        slopes = Loss("ccc").gradient(predictions, labels)
    assert slopes.dtype == torch.float64
    assert not slopes.requires_grad
    assert not predictions.requires_grad
    exact = Loss("ccc").gradient(predictions.double(), labels.double())
    torch.testing.assert_close(slopes, exact, rtol=0, atol=0)


@pytest.mark.parametrize("text", TEXTS)
def test_group_by_group_is_the_whole_batch(text: str) -> None:
    """The two passes: outputs without graphs, then each group backward along its rows of the gradient."""
    torch.manual_seed(10)
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 6)).double()
    inputs, (_, labels) = torch.randn(11, 12, dtype=torch.float64), draw(10, 11)
    loss = Loss(text)
    loss(model(inputs), labels).backward()
    whole = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    groups = [slice(0, 4), slice(4, 5), slice(5, 11)]
    with torch.no_grad():
        outputs = torch.cat([model(inputs[rows]) for rows in groups])
    slopes = loss.gradient(outputs, labels)
    for rows in groups:
        model(inputs[rows]).backward(slopes[rows])
    for weight, expected in zip(model.parameters(), whole, strict=True):
        torch.testing.assert_close(weight.grad, expected, rtol=0, atol=1e-12)


def value_and_slopes(text: str, predictions: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    leaf = predictions.clone().requires_grad_()
    value = Loss(text)(leaf, labels)
    (slopes,) = torch.autograd.grad(value, leaf)
    return value.item(), slopes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 1 / 3, 1e-20, 1e6])
@pytest.mark.parametrize("side", ["predictions", "labels", "both"])
def test_a_constant_emotion_counts_one_and_has_no_slope(side: str, level: float, dtype: torch.dtype) -> None:
    predictions, labels = draw(11, 9, dtype=dtype)
    others = Loss("pearson")(predictions[:, 1:], labels[:, 1:]).item()
    if side != "labels":
        predictions[:, 0] = level
    if side != "predictions":
        labels[:, 0] = level
    value, slopes = value_and_slopes("pearson", predictions, labels)
    assert value == pytest.approx((1 + 5 * others) / 6, abs=1e-6)
    assert slopes[:, 0].eq(0).all()
    assert slopes[:, 1:].ne(0).all()
    assert slopes.isfinite().all()
    value, slopes = value_and_slopes("ccc", predictions, labels)
    assert 0 <= value <= 2
    assert slopes.isfinite().all()


def test_a_constant_prediction_has_a_slope_under_ccc() -> None:
    predictions, labels = draw(12, 9)
    predictions[:] = 0.3
    value, slopes = value_and_slopes("ccc", predictions, labels)
    assert value == pytest.approx(1, abs=1e-12)
    assert slopes.ne(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("text", ["ccc", "pearson"])
def test_a_single_clip_counts_one(text: str, dtype: torch.dtype) -> None:
    predictions, labels = draw(13, 1, dtype=dtype)
    for there in (labels, predictions):
        value, slopes = value_and_slopes(text, predictions, there)
        assert value == 1
        assert slopes.eq(0).all()


@pytest.mark.parametrize("text", TEXTS)
def test_tiny_spreads_in_single_precision(text: str) -> None:
    predictions, labels = draw(14, 32, dtype=torch.float32)
    predictions = 0.5 + 1e-4 * (predictions - 0.5)
    labels = 0.5 + 1e-4 * (labels - 0.5)
    value, slopes = value_and_slopes(text, predictions, labels)
    exact, exact_slopes = value_and_slopes(text, predictions.double(), labels.double())
    assert value == pytest.approx(exact, abs=1e-6)
    torch.testing.assert_close(slopes.double(), exact_slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_not_a_number_is_not_hidden(text: str) -> None:
    predictions, labels = draw(15, 6)
    predictions[2, 3] = torch.nan
    assert Loss(text)(predictions, labels).isnan()


tables = st.integers(1, 12).flatmap(
    lambda clips: st.lists(
        st.lists(st.floats(-2, 2, width=32), min_size=6, max_size=6), min_size=clips, max_size=clips
    )
)


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(0, 2**32), st.sampled_from([torch.float32, torch.float64]))
def test_bounds_and_never_a_nan(values: list[list[float]], seed: int, dtype: torch.dtype) -> None:
    predictions = torch.tensor(values, dtype=dtype)
    _, labels = draw(seed, len(values), dtype=dtype)
    for text in ("ccc", "pearson"):
        for one, other in ((predictions, labels), (labels, predictions), (predictions, predictions)):
            value, slopes = value_and_slopes(text, one, other)
            assert -1e-6 <= value <= 2 + 1e-6
            assert slopes.isfinite().all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 20), st.floats(1e-4, 10))
def test_a_copy_has_no_loss(seed: int, clips: int, spread: float) -> None:
    predictions, _ = draw(seed, clips, spread=spread)
    for text in ("mse", "smooth-l1", "ccc", "pearson"):
        assert Loss(text)(predictions, predictions).item() == pytest.approx(0, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20), st.floats(0.01, 100), st.floats(-10, 10))
def test_pearson_heeds_neither_scale_nor_offset(seed: int, clips: int, scale: float, offset: float) -> None:
    predictions, labels = draw(seed, clips)
    before = Loss("pearson")(predictions, labels).item()
    assert Loss("pearson")(scale * predictions + offset, labels).item() == pytest.approx(before, abs=1e-8)
    flipped = Loss("pearson")(-scale * predictions + offset, labels).item()
    assert flipped == pytest.approx(2 - before, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20), st.floats(-1, 1))
def test_ccc_is_symmetric_and_no_better_than_pearson(seed: int, clips: int, offset: float) -> None:
    predictions, labels = draw(seed, clips)
    predictions = predictions + offset
    for column in range(6):
        p, y = predictions[:, [column]], labels[:, [column]]
        concordance = 1 - Loss("ccc")(p, y).item()
        assert concordance == pytest.approx(1 - Loss("ccc")(y, p).item(), abs=1e-12)
        assert abs(concordance) <= abs(1 - Loss("pearson")(p, y).item()) + 1e-12


@pytest.mark.parametrize("text", TEXTS)
def test_heads_that_know_nothing_of_each_other_have_a_loss_of_their_own_rows(text: str) -> None:
    predictions, labels = draw(5, 12)
    heads = torch.tensor([0, 2, 2, 0, 0, 2, 2, 2, 0, 2, 2, 2])
    loss = Loss(text)
    expected = torch.zeros_like(predictions)
    value = 0.0
    for head in (0, 2):
        rows = heads == head
        share = rows.sum() / len(rows)
        expected[rows] = loss.gradient(predictions[rows], labels[rows]) * share
        value += float(loss(predictions[rows], labels[rows]) * share)
    torch.testing.assert_close(loss.gradient(predictions, labels, heads), expected, rtol=0, atol=1e-12)
    assert float(loss(predictions, labels, heads)) == pytest.approx(value, abs=1e-12)
    moved = predictions.clone()
    moved[heads == 2] += 3.0
    there = loss.gradient(moved, labels, heads)[heads == 0]
    torch.testing.assert_close(there, expected[heads == 0], rtol=0, atol=1e-12)
