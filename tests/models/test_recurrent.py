"""Recurrent layers with dropout between them: torch's own where it is off, its draws where it is on."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from abaw_emi.models.branches import make_recurrent

WIDTH, HIDDEN = 5, 7
LENGTHS = torch.tensor([9, 4, 12, 1])
KINDS = list(product(("gru", "lstm"), (False, True)))


def make_pair(kind: str, *, both_ways: bool, layers: int = 2, dropout: float = 0.4) -> tuple[Any, Any]:
    """A network of ours and torch's own with the same weights, by the same names."""
    torch.manual_seed(0)
    ours = make_recurrent(kind, WIDTH, HIDDEN, layers, dropout, both_ways=both_ways)
    theirs = (nn.GRU if kind == "gru" else nn.LSTM)(
        WIDTH, HIDDEN, layers, dropout=dropout, batch_first=True, bidirectional=both_ways
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def draw_frames(*, packed: bool) -> Any:
    frames = torch.randn(len(LENGTHS), int(LENGTHS.max()), WIDTH, generator=torch.Generator().manual_seed(1))
    if not packed:
        return frames
    return rnn.pack_padded_sequence(frames, LENGTHS, batch_first=True, enforce_sorted=False)


def run(network: Any, frames: Any, seed: int = 2) -> Tensor:
    torch.manual_seed(seed)
    states = network(frames)[0]
    return (
        rnn.pad_packed_sequence(states, batch_first=True)[0]
        if isinstance(frames, rnn.PackedSequence)
        else states
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("kind", "both_ways"), KINDS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layers", [2, 3])
def test_states_and_gradients_have_the_bits_of_torchs_network_on_a_cpu(
    kind: str, both_ways: bool, packed: bool, training: bool, layers: int
) -> None:
    found, expected = [], []
    for network, values in zip(
        make_pair(kind, both_ways=both_ways, layers=layers), (found, expected), strict=True
    ):
        states = run(network.train(training), draw_frames(packed=packed))
        states.square().sum().backward()
        values += [states, *(weight.grad for weight in network.parameters())]
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("kind", "both_ways"), KINDS)
def test_the_mask_lies_between_the_layers_with_its_rate_and_scale(
    kind: str, both_ways: bool, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[tuple[Tensor, Tensor]] = []
    dropout = nn.functional.dropout

    def spy(x: Tensor, rate: float, training: bool) -> Tensor:
        assert training
        masked.append((x, dropout(x, rate, training)))
        return masked[-1][1]

    monkeypatch.setattr(nn.functional, "dropout", spy)
    ours, _ = make_pair(kind, both_ways=both_ways, dropout=0.25)
    wide = draw_frames(packed=packed)
    run(ours.train(), wide)
    ((before, after),) = masked  # once: after the first of two layers, not after the last, not on the input
    assert before.shape[-1] == HIDDEN * (1 + both_ways)
    kept = after != 0
    torch.testing.assert_close(after[kept], before[kept] / 0.75)
    count = before.numel()
    assert abs(int((~kept).sum()) - 0.25 * count) < 4 * (count * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(("kind", "both_ways"), KINDS)
def test_the_draws_follow_from_torchs_seed(kind: str, both_ways: bool) -> None:
    ours = make_pair(kind, both_ways=both_ways)[0].train()
    frames = draw_frames(packed=False)
    assert torch.equal(run(ours, frames), run(ours, frames))
    assert not torch.equal(run(ours, frames), run(ours, frames, seed=3))


@pytest.mark.parametrize(("layers", "dropout"), [(1, 0.4), (2, 0.0)])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_without_dropout_between_layers_the_network_is_torchs(kind: str, layers: int, dropout: float) -> None:
    network = make_recurrent(kind, WIDTH, HIDDEN, layers, dropout)
    assert type(network) is (nn.GRU if kind == "gru" else nn.LSTM)


def test_the_weights_follow_when_they_are_replaced_moved_or_copied() -> None:
    ours, theirs = make_pair("lstm", both_ways=False)
    for network in (ours, theirs):
        network.weight_ih_l1 = nn.Parameter(torch.full_like(network.weight_ih_l1, 0.1))
    frames = draw_frames(packed=False)
    assert torch.equal(run(ours.eval(), frames), run(theirs.eval(), frames))
    assert torch.equal(run(ours.double(), frames.double()), run(theirs.double(), frames.double()))
