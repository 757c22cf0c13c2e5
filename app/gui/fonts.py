"""The shipped fonts: Inter for text, Inter Display for large figures, JetBrains Mono for ids.

Never falls back without saying so: load_fonts raises when a shipped file is missing or broken.
"""

from __future__ import annotations

from PySide6.QtGui import QFont, QFontDatabase

from assets import asset_path

FILES = (
    "Inter-Regular.ttf",
    "Inter-Medium.ttf",
    "Inter-SemiBold.ttf",
    "InterDisplay-SemiBold.ttf",
    "JetBrainsMono-Regular.ttf",
)
TEXT = "Inter"
DISPLAY = "Inter Display"
MONO = "JetBrains Mono"


class FontMissing(Exception):
    """A shipped font cannot be loaded; the message names the file."""


def load_fonts() -> None:
    """Make the shipped fonts known to Qt. Raises FontMissing."""
    for name in FILES:
        path = asset_path(f"fonts/{name}")
        if QFontDatabase.addApplicationFont(str(path)) < 0:
            raise FontMissing(f"The font {path.name} could not be loaded. Install Starling again.")


def text_font(pixels: int = 13, weight: int = 400) -> QFont:
    """Inter; 500 is for labels that carry, 600 for titles."""
    return _font(TEXT, pixels, weight=weight)


def display_font(pixels: int) -> QFont:
    """Inter Display 600, a little tighter, for titles and figures from 20 pixels on."""
    font = _font(DISPLAY, pixels, weight=600)
    font.setLetterSpacing(QFont.SpacingType.AbsoluteSpacing, -0.015 * pixels)
    return font


def mono_font(pixels: int = 12) -> QFont:
    """JetBrains Mono, for ids."""
    return _font(MONO, pixels, weight=400)


def _font(family: str, pixels: int, *, weight: int) -> QFont:
    """Contextual alternates would draw 0x7a with a multiplication sign; tabular digits keep live figures still."""
    font = QFont(family)
    font.setPixelSize(pixels)
    font.setWeight(QFont.Weight(weight))
    font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
    font.setFeature(QFont.Tag("calt"), 0)
    font.setFeature(QFont.Tag("tnum"), 1)
    return font
