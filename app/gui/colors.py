"""The colour tokens, light and dark: the only place where a colour is written down.

Plain values, no Qt. Every text pair has a contrast of at least 4.5 to 1.
"""

from __future__ import annotations

import msgspec


class Colors(msgspec.Struct, frozen=True, kw_only=True):
    """One look. Names say what a colour is for, not what it is; the chart colours are in the order they are used."""

    is_dark: bool
    app: str
    sidebar: str
    surface: str
    inset: str
    raised: str
    hover: str
    selected: str
    border: str
    strong: str
    text: str
    text2: str
    text3: str
    neutral_soft: str
    grid: str
    accent_text: str
    accent: str
    accent_hover: str
    on_accent: str
    accent_soft: str
    info: str
    info_soft: str
    warn: str
    warn_soft: str
    danger: str
    danger_soft: str
    charts: tuple[str, ...]


LIGHT = Colors(
    is_dark=False,
    app="#F6F6F4",
    sidebar="#EFEFEC",
    surface="#FFFFFF",
    inset="#F4F4F2",
    raised="#FFFFFF",
    hover="#F0F0ED",
    selected="#EEF6F2",
    border="#E4E4E0",
    strong="#D2D2CD",
    text="#1A1B1E",
    text2="#55585F",
    text3="#666972",
    neutral_soft="#ECECE9",
    grid="#ECECE8",
    accent_text="#0A7459",
    accent="#0B7F61",
    accent_hover="#096B52",
    on_accent="#FFFFFF",
    accent_soft="#E2F3EC",
    info="#2B62D9",
    info_soft="#E6EDFC",
    warn="#8F5A06",
    warn_soft="#FBF0DC",
    danger="#C2352F",
    danger_soft="#FBE8E6",
    charts=("#0E9A75", "#4A7BEA", "#8A6BEB", "#D89A2B", "#9A9DA6"),
)

DARK = Colors(
    is_dark=True,
    app="#0E0F11",
    sidebar="#121316",
    surface="#17191D",
    inset="#1D2025",
    raised="#2C3037",
    hover="#20232A",
    selected="#16211F",
    border="#262930",
    strong="#363A43",
    text="#ECEDEF",
    text2="#A6AAB4",
    text3="#868B96",
    neutral_soft="#25282E",
    grid="#22252B",
    accent_text="#3DD6A6",
    accent="#23B98B",
    accent_hover="#37C99B",
    on_accent="#06251B",
    accent_soft="#12302A",
    info="#7FA8FF",
    info_soft="#1A2742",
    warn="#F0B54C",
    warn_soft="#33290F",
    danger="#FF8078",
    danger_soft="#3A1E1D",
    charts=("#2FCB9B", "#6E97FF", "#A78BFA", "#E8B04B", "#7C818C"),
)
