"""`presets` and `options` describe what can be trained, as it is."""

from __future__ import annotations

import json
from pathlib import Path

from abaw_emi.config.presets import PRESETS
from abaw_emi.config.read import change_config
from abaw_emi.config.run import RunConfig
from tests.cli.conftest import Shell, problems


def test_every_preset_has_its_line_and_says_what_it_reads_and_misses(shell: Shell, data: Path) -> None:
    done = shell("presets", "--json", "--data", data, HF_HUB_CACHE="nowhere")
    assert problems(done, 0) == []
    listed = {each["preset"]: each for each in json.loads(done.stdout)["presets"]}
    assert list(listed) == list(PRESETS)
    assert all(each["summary"] for each in listed.values())
    assert listed["baseline-av"]["reads"] == ["wav2vec2", "vit"]
    assert listed["baseline-av"]["missing"] == ["wav2vec2", "vit"]
    assert listed["tiny"]["reads"] == ["sound"]
    assert listed["paper"]["reads"] == ["sound", PRESETS["paper"].model.backbone]
    assert PRESETS["paper"].model.backbone in listed["paper"]["missing"]
    lines = shell("presets", "--data", data, HF_HUB_CACHE="nowhere").stdout.splitlines()
    assert lines[lines.index("baseline-vision") + 2] == "    reads vit (missing here)"


def test_every_option_that_is_listed_can_be_set_to_its_default(shell: Shell) -> None:
    done = shell("options", "--json")
    assert problems(done, 0) == []
    listed = json.loads(done.stdout)["options"]
    assert all(each["description"] and each["type"] for each in listed)
    simple = [f"{each['key']}={each['default']}" for each in listed if ".N." not in each["key"]]
    assert change_config(RunConfig(), simple) == RunConfig()
    assert len(simple) > 40
    assert [each["default"] for each in listed if each["key"] == "training.learning_rate"] == ["0.0001"]
    (bounds,) = (each["type"] for each in listed if each["key"] == "model.features.N.dropout")
    assert bounds == "number, >= 0, < 1"
