"""The colours of page and figures, in two themes, and how they are judged.

The six emotions keep Okabe and Ito's families of hues (blue, orange, green, purple, vermillion, sky blue), in
lightnesses that stand out from the background by 3:1 (WCAG 2.2, 1.4.11) and that colour-blind readers tell
apart at least as well as the original palette; tests hold both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from abaw_emi.core.constants import EMOTIONS

_LINEAR = 0.04045
"""Where sRGB's curve begins (IEC 61966-2-1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of one theme, as #rrggbb; no two roles share one.

    Attributes:
        paper: the background.
        raised: the background of controls, and of rows that the pointer is on.
        ink: text.
        muted: text of less weight, and what is drawn for comparison.
        rule: hairlines.
        accent: links, and what a figure is about where it is about no emotion.
        positive: correlations and differences above zero.
        negative: those below.
        emotions: by name.
    """

    paper: str
    raised: str
    ink: str
    muted: str
    rule: str
    accent: str
    positive: str
    negative: str
    emotions: Mapping[str, str]

    def variables(self) -> dict[str, str]:
        """Every colour by its CSS variable."""
        roles = ("paper", "raised", "ink", "muted", "rule", "accent", "positive", "negative")
        named = {f"--{role}": getattr(self, role) for role in roles}
        return named | {f"--{slug(emotion)}": colour for emotion, colour in self.emotions.items()}


def slug(name: str) -> str:
    """The name as CSS and file names have it.

    >>> slug("Empathic Pain")
    'empathic-pain'
    """
    return name.lower().replace(" ", "-")


def _emotions(*colours: str) -> dict[str, str]:
    return dict(zip(EMOTIONS, colours, strict=True))


LIGHT = Palette(
    paper="#ffffff",
    raised="#f4f5f7",
    ink="#1b1d22",
    muted="#5d6370",
    rule="#dcdfe5",
    accent="#0f5f8f",
    positive="#1f6fb2",
    negative="#b5461e",
    emotions=_emotions("#3b4cc0", "#a8860f", "#15807a", "#6e1d6b", "#9c2f0b", "#1597da"),
)

DARK = Palette(
    paper="#15171b",
    raised="#1f2228",
    ink="#e8e9ec",
    muted="#a2a8b4",
    rule="#343841",
    accent="#7fc4ee",
    positive="#6fb6ee",
    negative="#ee9468",
    emotions=_emotions("#4f80f2", "#f2ce4a", "#7de3d3", "#c07a9c", "#e5873a", "#66c0ed"),
)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition of contrast ratio).

    >>> round(contrast("#000000", "#ffffff"), 6)
    21.0
    """
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= _LINEAR else float(((value + 0.055) / 1.055) ** 2.4)
