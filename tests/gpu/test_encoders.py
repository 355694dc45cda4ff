"""Every family of speech encoders on a GPU."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from abaw_emi.batching.batches import make_batch
from abaw_emi.models.device import Runtime
from tests.models.encoders.test_speech import load
from tests.small_encoders import SPEECH_ENCODERS, write_audio
from tests.small_models import make_example

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("kind", SPEECH_ENCODERS)
def test_frames_of_every_encoder_are_those_of_a_cpu_in_float64(
    kind: str, gpu: Runtime, tmp_path: Path
) -> None:
    model = load(write_audio(tmp_path, kind)).eval()
    examples = [make_example(number, length) for number, length in enumerate((20_000, 12_345, 8_000))]
    batch = make_batch(examples, standardise=model.standardises)
    with torch.no_grad():
        found, lengths = batch.to(gpu.device).encode(copy.deepcopy(model).to(gpu.device))
        for row, example in enumerate(examples):
            one = make_batch([example], standardise=model.standardises)
            one = replace(one, waveforms=one.waveforms.double())
            expected, count = one.encode(copy.deepcopy(model).double())
            assert found is not None
            assert expected is not None
            assert lengths[row] == count[0]
            torch.testing.assert_close(found[row, : count[0]].cpu().double(), expected[0], rtol=0, atol=1e-4)
