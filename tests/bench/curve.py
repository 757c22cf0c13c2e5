"""Curves as SVG text: one or more panels under each other, each with its points joined by a line. Writes no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10

WIDTH, PANEL, LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 720, 260, 96, 56, 560, 170
FONT = 'font-family="Inter, Helvetica, Arial, sans-serif"'
COLOURS = ("#0072b2", "#d55e00", "#009e73")
INK, FAINT = "#1f2430", "#d8dce3"


@dataclass(frozen=True)
class Curve:
    """One line: its name and its points. is_dashed: a bound rather than something measured."""

    name: str
    points: Sequence[tuple[float, float]]
    is_dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, its axes' names, and whether its x axis is logarithmic."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    is_log: bool = False


def curves_svg(panels: Sequence[Panel]) -> str:
    """All panels, under each other."""
    height = PANEL * len(panels) + 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
    parts = [head, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for place, panel in enumerate(panels):
        parts.append(f'<g transform="translate(0 {place * PANEL})">{_panel(panel)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> str:
    points = [point for curve in panel.curves for point in curve.points]
    scale = _Scale.over(points, is_log=panel.is_log)
    parts = [_text(LEFT, 26, panel.title, size=15, weight=600)]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = TOP + PLOT_HEIGHT * (1 - value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + PLOT_WIDTH}" y2="{y:.1f}" stroke="{FAINT}"/>')
        parts.append(_text(LEFT - 8, y + 4, _number(value * scale.top), anchor="end"))
    for x in sorted({point[0] for point in points})[:: max(1, len(points) // 8)]:
        parts.append(_text(scale.x(x), TOP + PLOT_HEIGHT + 18, _number(x), anchor="middle"))
    parts.append(_text(LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT + 34, panel.x, anchor="end"))
    parts.append(_text(LEFT - 84, TOP - 12, panel.y))
    for place, curve in enumerate(panel.curves):
        parts.append(_curve(curve, scale, colour=COLOURS[place % len(COLOURS)]))
        x = LEFT + 150 + 180 * place
        parts.append(f'<rect x="{x}" y="{TOP - 22}" width="14" height="3" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(_text(x + 20, TOP - 16, curve.name))
    return "".join(parts)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    top: float
    is_log: bool

    @classmethod
    def over(cls, points: Sequence[tuple[float, float]], *, is_log: bool) -> _Scale:
        xs = [log10(x) if is_log else x for x, _ in points]
        return cls(min(xs), max(xs), 1.1 * max(y for _, y in points) or 1.0, is_log)

    def x(self, value: float) -> float:
        place = log10(value) if self.is_log else value
        return LEFT + PLOT_WIDTH * (place - self.low) / ((self.high - self.low) or 1.0)

    def y(self, value: float) -> float:
        return TOP + PLOT_HEIGHT * (1 - value / self.top)


def _curve(curve: Curve, scale: _Scale, *, colour: str) -> str:
    places = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points)
    dash = ' stroke-dasharray="5 4"' if curve.is_dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(x: float, y: float, words: str, *, size: int = 12, weight: int = 400, anchor: str = "start") -> str:
    how = f'{FONT} font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {how}>{escape(words)}</text>'
