from __future__ import annotations

import tomllib
from dataclasses import asdict

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from abaw_emi.config.losses import LOSSES, parse_loss
from abaw_emi.config.parts import AugmentationConfig


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("mse", ((1.0, "mse"),)),
        ("ccc", ((1.0, "ccc"),)),
        ("mse+pearson", ((1.0, "mse"), (1.0, "pearson"))),
        ("0.5*mse+ccc", ((0.5, "mse"), (1.0, "ccc"))),
        (" 2 * ccc + 1e-2*mse ", ((2.0, "ccc"), (0.01, "mse"))),
    ],
)
def test_a_loss_is_read_as_a_weighted_sum(text: str, terms: tuple[tuple[float, str], ...]) -> None:
    assert parse_loss(text) == terms


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", "''"),
        ("huber", "'huber'"),
        ("mse+huber", "'huber'"),
        ("mse+", "''"),
        ("MSE", "'MSE'"),
        ("0*mse", "'0*mse'"),
        ("-1*mse+ccc", "'-1*mse'"),
        ("inf*mse", "'inf*mse'"),
        ("nan*mse", "'nan*mse'"),
        ("x*mse", "'x*mse'"),
        ("*mse", "'*mse'"),
        ("mse*0.5", "'mse*0.5'"),
        ("2*3*mse", "'2*3*mse'"),
        ("mse-ccc", "'mse-ccc'"),
    ],
)
def test_a_bad_term_is_named_beside_the_known_losses(text: str, bad: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        parse_loss(text)
    assert f"term {bad}" in str(error.value)
    assert all(name in str(error.value) for name in LOSSES)


def test_a_loss_that_comes_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="mse comes twice"):
        parse_loss("mse+ccc+0.5*mse")


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 1e6), st.sampled_from(LOSSES)),
        min_size=1,
        max_size=3,
        unique_by=lambda term: term[1],
    )
)
def test_whatever_is_written_as_a_sum_is_read_back(terms: list[tuple[float, str]]) -> None:
    text = "+".join(f"{weight:f}*{name}" for weight, name in terms)
    assert parse_loss(text) == tuple((float(f"{weight:f}"), name) for weight, name in terms)


@pytest.mark.parametrize(
    "config",
    [
        AugmentationConfig(),
        AugmentationConfig(speed=(0.9, 1.0, 1.1), gain_db=6.0, time_mask_seconds=0.5),
        AugmentationConfig(noise_probability=0.5, noise_snr_db=(-5.0, 20.0)),
    ],
)
def test_augmentation_survives_a_toml_file(config: AugmentationConfig) -> None:
    values = tomllib.loads(tomli_w.dumps({"augmentation": asdict(config)}))["augmentation"]
    assert TypeAdapter(AugmentationConfig).validate_python(values) == config


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"speeds": [1.0]}, "speeds"),
        ({"speed": [0.9, 1.003]}, "hundredth"),
        ({"speed": [0.0]}, "speed"),
        ({"speed": [3.0]}, "speed"),
        ({"speed": ["0.9"]}, "speed"),
        ({"speed": 0.9}, "speed"),
        ({"gain_db": -1.0}, "gain_db"),
        ({"gain_db": float("nan")}, "gain_db"),
        ({"noise_probability": 1.5}, "noise_probability"),
        ({"noise_snr_db": [10.0]}, "noise_snr_db"),
        ({"noise_snr_db": [30.0, 10.0]}, "high to low"),
        ({"time_mask_seconds": -0.1}, "time_mask_seconds"),
    ],
)
def test_an_impossible_augmentation_is_refused_by_name(values: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        TypeAdapter(AugmentationConfig).validate_python(values)


def test_every_whole_hundredth_is_a_speed() -> None:
    speeds = [hundredths / 100 for hundredths in range(50, 201)]
    assert TypeAdapter(AugmentationConfig).validate_python({"speed": speeds}).speed == tuple(speeds)


@pytest.mark.parametrize(
    ("config", "active"),
    [
        (AugmentationConfig(), False),
        (AugmentationConfig(speed=(1.0,)), False),
        (AugmentationConfig(noise_snr_db=(0.0, 5.0)), False),
        (AugmentationConfig(speed=(0.9, 1.0)), True),
        (AugmentationConfig(gain_db=3.0), True),
        (AugmentationConfig(noise_probability=0.1), True),
        (AugmentationConfig(time_mask_seconds=0.1), True),
    ],
)
def test_augmentation_is_active_where_a_clip_may_change(config: AugmentationConfig, active: bool) -> None:
    assert config.active is active
