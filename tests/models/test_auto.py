"""transformers' own classes read what this package saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from abaw_emi.core.constants import EMOTIONS
from abaw_emi.inference.predict import predict
from tests.small_models import CPU, make_example, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

_LOAD = """
import sys
if sys.argv[1] == "after":
    import transformers
import abaw_emi
assert "torch" not in sys.modules or sys.argv[1] == "after"
from transformers import AutoConfig
print(type(AutoConfig.from_pretrained(sys.argv[2])).__name__)
from transformers import AutoModel
print(type(AutoModel.from_pretrained(sys.argv[2])).__name__)
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_import_of_the_package_is_enough(order: str, tmp_path: Path) -> None:
    small_model("logmel").save_pretrained(tmp_path)
    command = [sys.executable, "-c", _LOAD, order, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["EmiConfig", "EmiModel"], done.stderr


def test_a_run_folder_of_before_gives_the_same_predictions_and_the_emotions(tmp_path: Path) -> None:
    saved = small_model("layer")
    saved.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for added in ("id2label", "label2id", "problem_type"):
        del config[added]
    path.write_text(json.dumps(config))
    model = AutoModel.from_pretrained(tmp_path).eval()
    read = AutoConfig.from_pretrained(tmp_path)
    assert [read.id2label[place] for place in range(6)] == list(EMOTIONS)
    assert (read.num_labels, read.problem_type) == (6, "regression")
    for name, weight in saved.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
    clips = [make_example(0, 9_000), make_example(1, 400)]
    expected = predict(saved, clips, CPU).select(EMOTIONS).to_numpy()
    np.testing.assert_array_equal(predict(model, clips, CPU).select(EMOTIONS).to_numpy(), expected)
