"""The arithmetic that a command runs models in."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from abaw_emi.core.errors import UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.models.device import Runtime, choose_device


@pytest.mark.parametrize("choose", [Runtime.choose, Runtime.for_prediction])
def test_float32_is_float32_on_every_gpu(choose: object) -> None:
    """cuDNN's own default is TF32, which only a GPU could show; what it is told is seen here."""
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    for part in parts:
        part.fp32_precision = "tf32"
    choose("cpu", "fp32", Reporter(quiet=True))  # type: ignore[operator]
    assert [part.fp32_precision for part in parts] == ["ieee"] * 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "gpu",
            "--device: 'gpu' is no device; expected auto, cpu, cuda, cuda:1 or mps; a GPU is called cuda",
        ),
        ("gpu:0", "a GPU is called cuda"),
        ("quantum", "--device: 'quantum' is no device; expected auto, cpu, cuda, cuda:1 or mps"),
    ],
)
def test_a_device_that_there_is_not_is_named_in_one_short_line(name: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_device(name)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 100


def test_its_own_default_is_another() -> None:
    code = "import torch; print(torch.backends.cudnn.rnn.fp32_precision)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "ieee"
