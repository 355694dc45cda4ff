"""The arithmetic that a command runs models in."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from abaw_emi.core.errors import UsageError
from abaw_emi.core.progress import Reporter
from abaw_emi.inference.predict import predict
from abaw_emi.models.device import Runtime, choose_device
from tests.small_models import CPU, make_example, small_model


@pytest.mark.parametrize("choose", [Runtime.choose, Runtime.for_prediction])
def test_float32_is_float32_on_every_gpu(choose: Any) -> None:
    """cuDNN's own default is TF32, which only a GPU could show; what it is told is seen here."""
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    for part in parts:
        part.fp32_precision = "tf32"
    choose("cpu", "fp32", Reporter(quiet=True))
    assert [part.fp32_precision for part in parts] == ["ieee"] * 3
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_model_in_float32_stays_so_beside_one_in_half_precision() -> None:
    recurrent = torch.backends.cudnn.rnn
    Runtime.choose("cpu", "bf16", Reporter(quiet=True))
    assert recurrent.fp32_precision == "tf32"  # finer than what comes in
    predict(small_model("layer"), [make_example(0, 4_000)], CPU)
    assert recurrent.fp32_precision == "ieee"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "gpu",
            "device: 'gpu' is no device; expected auto, cpu, cuda, cuda:1 or mps; a GPU is called cuda",
        ),
        ("gpu:0", "a GPU is called cuda"),
        ("quantum", "device: 'quantum' is no device; expected auto, cpu, cuda, cuda:1 or mps"),
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
