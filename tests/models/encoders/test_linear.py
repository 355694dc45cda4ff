"""oneDNN's products are those of torch's own dense layer, whatever the layout of what goes in."""

from __future__ import annotations

import pytest
import torch

from abaw_emi.models.encoders import linear as module
from abaw_emi.models.encoders.linear import Linear

SHAPES = [(5, 7), (1, 1), (2, 3, 7), (2, 0, 7), (2, 3, 4, 7)]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_torchs_own(shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_wide_amd", lambda: True)
    torch.manual_seed(0)
    layer = Linear(shape[-1], 6, bias=bias)
    contiguous = torch.randn(*shape)
    for x in (contiguous, contiguous.mT.contiguous().mT):
        expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
        assert torch.equal(layer(x), expected)  # with a graph it is torch's
        with torch.no_grad():
            torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-6)
    wide = layer.double()
    with torch.no_grad():
        torch.testing.assert_close(wide(contiguous.double()), expected.double(), rtol=1e-5, atol=1e-6)
