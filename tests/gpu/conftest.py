from __future__ import annotations

import os

import pytest
import torch

from abaw_emi.core.progress import Reporter
from abaw_emi.models.device import Runtime


@pytest.fixture(scope="session")
def gpu() -> Runtime:
    """float32 on the GPU; ABAW_EMI_TEST_DEVICE=cpu tries the tests themselves where there is none."""
    name = os.environ.get("ABAW_EMI_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.fail("needs a GPU")
    return Runtime.choose(name, "fp32", Reporter(quiet=True))
