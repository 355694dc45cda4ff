"""Dense layers by the library that is faster on this processor."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_AMD = "AuthenticAMD"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`; rounding may differ by the processor.

    For float32 torch takes MKL, which uses half the width of AMD's vectors: without a graph, oneDNN makes the
    same products in half the time there (`benchmarks/encoder.py`). By the processor and not by a measurement,
    so that a machine always computes the same.
    """
    plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    plain = plain and not torch.compiler.is_compiling()  # which chooses by itself, and cannot look here
    if plain and x.dtype == torch.float32 and x.device.type == "cpu" and _has_wide_amd():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], None)
        return product
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return linear(x, self.weight, self.bias)


@cache
def _has_wide_amd() -> bool:
    """Whether this is a processor of AMD with AVX-512, and a torch with oneDNN."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    cpuinfo = Path("/proc/cpuinfo")
    described = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return _AMD in (described or platform.processor())
