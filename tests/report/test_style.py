from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from abaw_emi.report.charts.comparisons import SHOWN
from abaw_emi.report.charts.data import STRONGEST
from abaw_emi.report.charts.style import DARK, LIGHT, Palette
from tests.report.conftest import Made, Page

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])

TEXT = {"var(--ink)", "var(--muted)", "var(--accent)"}

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear sRGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition of contrast ratio)."""
    dark, light = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (light + 0.05) / (dark + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson 2020: distances are as large as they look."""
    lms = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ rgb.clip(0, 1)
    )
    return np.asarray(
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ lms
    )


def closest(colours: tuple[str, ...], vision: np.ndarray) -> float:
    seen = [oklab(vision @ linear(colour)) for colour in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


@THEMES
def test_text_is_legible_on_every_background(theme: Palette) -> None:
    for background in (theme.paper, theme.raised):
        for text in (theme.ink, theme.muted, theme.accent):
            assert contrast(text, background) >= 4.5


@THEMES
def test_what_is_drawn_stands_out(theme: Palette) -> None:
    for colour in (*theme.emotions.values(), theme.positive, theme.negative, theme.accent, theme.muted):
        assert contrast(colour, theme.paper) >= 3


@THEMES
@pytest.mark.parametrize("vision", VISIONS)
def test_colour_blind_readers_tell_the_emotions_apart(theme: Palette, vision: str) -> None:
    least = min(closest(OKABE_ITO, matrix) for matrix in VISIONS.values())
    assert closest(tuple(theme.emotions.values()), VISIONS[vision]) >= least


@THEMES
def test_text_is_legible_on_the_strongest_cells(theme: Palette) -> None:
    for colour, share in ((theme.positive, STRONGEST), (theme.negative, STRONGEST), (theme.positive, SHOWN)):
        mixed = [
            round(share * int(colour[at : at + 2], 16) + (1 - share) * int(theme.paper[at : at + 2], 16))
            for at in (1, 3, 5)
        ]
        assert contrast("#" + "".join(f"{part:02x}" for part in mixed), theme.ink) >= 4.5


@THEMES
def test_no_two_roles_share_a_colour(theme: Palette) -> None:
    colours = list(theme.variables().values())
    assert len(colours) == len(set(colours))


def test_black_on_white_is_the_largest_contrast() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known near miss


def test_figures_of_the_page_take_every_colour_from_the_theme(made: Made) -> None:
    pictures = re.findall(r"<svg.*?</svg>", made.html, re.DOTALL)
    assert len(pictures) > 20
    for picture in pictures:
        assert re.findall(r"#[0-9a-fA-F]{6}|rgb\(", picture) == []


def test_text_in_figures_has_the_colours_of_text(made: Made) -> None:
    styles = [attrs.get("style", "") for attrs in Page(made.html).all("text")]
    assert len(styles) > 200
    for style in styles:
        (fill,) = re.findall(r"fill: ([^;]+)", style) or ["none given"]
        assert fill in TEXT
        assert "opacity" not in style


def test_dark_and_light_declare_the_same_variables(made: Made) -> None:
    (style,) = Page(made.html).text_of("style")
    declared = set(re.findall(r"(--[a-z-]+):", style))
    used = set(re.findall(r"var\((--[a-z-]+)\)", made.html))
    assert used <= declared | {"--c", "--width"}
    assert set(LIGHT.variables()) == set(DARK.variables())
