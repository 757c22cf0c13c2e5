"""A picture of predicted against measured speeds, as SVG text: log axes, the 1:1 line, a band of 25 % around it.

Pure: points in, text out. Never measures, and never writes a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from statistics import median

import msgspec

WIDTH, HEIGHT = 760, 560
_LEFT, _TOP, _SIDE = 78, 64, 420
_BAND = 0.25
# Radius and opacity of a dot, and from how many on they would hide each other.
_DOT, _SMALL_DOT, _MANY = (3.6, 0.75), (2.2, 0.45), 400
FONTS = "Inter, Helvetica, Arial, sans-serif"
_MAX_GROUPS = 8
_OTHERS = "others"
# Okabe and Ito's colours, which the colour-blind can tell apart; grey for the rest.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#000000")
# Types of weights have theirs for good, so that two pictures can be compared.
_TYPES = ("Q4_K_M", "Q8_0", "F16", "Q5_K_M", "Q6_K", "IQ4_XS", "Q4_0", "Q3_K_M")
_GREY = "#8a8f98"
_INK, _FAINT = "#1f2430", "#d8dce3"


_Place = tuple[float, float]


class _Style(msgspec.Struct, frozen=True):
    size: int = 12
    anchor: str = "start"
    weight: int = 400
    colour: str = _INK


_TITLE, _NOTE, _AXIS = _Style(16, weight=600), _Style(13, colour="#555b66"), _Style(13, "middle")
_UNDER, _BESIDE = _Style(anchor="middle"), _Style(anchor="end")


class Point(msgspec.Struct, frozen=True):
    """One measurement beside what was predicted of it, above zero, in the same unit. group decides its colour;
    is_other: of another model than the picture is about, a square."""

    predicted: float
    measured: float
    group: str
    is_other: bool = False


class Expected(msgspec.Struct, frozen=True):
    """What is predicted and not measured yet, with its 10 and 90 % bounds."""

    predicted: float
    low: float
    high: float
    group: str


def scatter_svg(points: Sequence[Point], *, expected: Sequence[Expected] = (), title: str, unit: str) -> str:
    """The picture. Without anything to show it says so."""
    shown = [p for p in points if p.predicted > 0 and p.measured > 0]
    waiting = [e for e in expected if e.predicted > 0 and e.low > 0]
    values = [v for p in shown for v in (p.predicted, p.measured)] + [v for e in waiting for v in (e.low, e.high)]
    axis = _Axes.around(values or [1.0, 100.0])
    colours = _colours([p.group for p in shown] + [e.group for e in waiting])
    parts = [*_frame(axis, title=title, unit=unit, is_measured=bool(shown)), *_guides(axis)]
    parts += [_bar(e, axis, colour=_colour(e.group, colours)) for e in waiting]
    size = _DOT if len(shown) <= _MANY else _SMALL_DOT
    parts += [_dot(p, axis, colour=_colour(p.group, colours), size=size) for p in shown]
    parts += _legend(shown, waiting, colours=colours)
    parts.append(_text((_LEFT, 44), _summary(shown, waiting), style=_NOTE))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *parts, "</svg>", ""])


class _Axes(msgspec.Struct, frozen=True):
    """Both axes alike: the logs of their ends."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float]) -> _Axes:
        """A little beyond the least and the greatest."""
        low, high = log10(min(values)), log10(max(values))
        room = max(0.08, 0.06 * (high - low))
        return cls(low - room, high + room)

    def x(self, value: float) -> float:
        """Where a prediction lies."""
        return _LEFT + self._place(value)

    def y(self, value: float) -> float:
        """Where a measurement lies."""
        return _TOP + _SIDE - self._place(value)

    def ticks(self) -> list[float]:
        """1, 2 and 5 of each power of ten, or the powers alone where those would crowd."""
        steps = (1, 2, 5) if self.high - self.low < 2.2 else (1,)
        powers = range(floor(self.low), ceil(self.high) + 1)
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.low <= log10(value) <= self.high]

    def _place(self, value: float) -> float:
        share = (log10(value) - self.low) / (self.high - self.low)
        return _SIDE * min(1.0, max(0.0, share))


def _frame(axis: _Axes, *, title: str, unit: str, is_measured: bool) -> list[str]:
    """Title, ticks, their lines, and what the axes are."""
    right, foot = _LEFT + _SIDE, _TOP + _SIDE
    parts = [_text((_LEFT, 24), title, style=_TITLE)]
    for value in axis.ticks():
        x, y = axis.x(value), axis.y(value)
        parts.append(_line((x, _TOP), (x, foot), colour=_FAINT))
        parts.append(_line((_LEFT, y), (right, y), colour=_FAINT))
        parts.append(_text((x, foot + 18), _number(value), style=_UNDER))
        parts.append(_text((_LEFT - 8, y + 4), _number(value), style=_BESIDE))
    box = f'x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"'
    parts.append(f'<rect {box} fill="none" stroke="{_INK}" stroke-width="1"/>')
    parts.append(_text((_LEFT + _SIDE / 2, foot + 42), f"predicted, {unit}", style=_AXIS))
    upright = f"measured, {unit}" if is_measured else f"measured (none yet), {unit}"
    turned = f'<g transform="translate(22 {_TOP + _SIDE / 2:.0f}) rotate(-90)">'
    parts.append(f"{turned}{_text((0, 0), upright, style=_AXIS)}</g>")
    return parts


def _guides(axis: _Axes) -> list[str]:
    """The band, and the line on which a prediction was right."""
    low, high = 10**axis.low, 10**axis.high
    above, below = 1 + _BAND, 1 / (1 + _BAND)
    upper = [(low, low * above), (high / above, high), (high, high)]
    lower = [(high, high * below), (low * above, low), (low, low)]
    corners = " ".join(f"{axis.x(x):.1f},{axis.y(y):.1f}" for x, y in (*upper, *lower))
    return [
        f'<polygon points="{corners}" fill="#0072b2" fill-opacity="0.08"/>',
        _line((axis.x(low), axis.y(low)), (axis.x(high), axis.y(high)), colour=_INK, dash="5 4"),
    ]


def _dot(point: Point, axis: _Axes, *, colour: str, size: tuple[float, float]) -> str:
    return _mark((axis.x(point.predicted), axis.y(point.measured)), colour=colour, size=size, is_square=point.is_other)


def _mark(at: _Place, *, colour: str, size: tuple[float, float], is_square: bool = False) -> str:
    radius, filled = size[0], f'fill="{colour}" fill-opacity="{size[1]}"'
    if not is_square:
        return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" {filled}/>'
    corner = f'x="{at[0] - radius:.1f}" y="{at[1] - radius:.1f}"'
    return f'<rect {corner} width="{2 * radius}" height="{2 * radius}" {filled}/>'


def _bar(expected: Expected, axis: _Axes, *, colour: str) -> str:
    """A hollow mark on the line, and a bar over where eight of ten measurements should fall."""
    x, y = axis.x(expected.predicted), axis.y(expected.predicted)
    bar = _line((x, axis.y(expected.low)), (x, axis.y(expected.high)), colour=colour)
    return f'{bar}<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="#ffffff" stroke="{colour}" stroke-width="1.4"/>'


def _legend(shown: Sequence[Point], waiting: Sequence[Expected], *, colours: dict[str, str]) -> list[str]:
    """A row a group, the guides last."""
    x, y = _LEFT + _SIDE + 24, _TOP + 8.0
    parts = []
    groups = [p.group for p in shown] + [e.group for e in waiting]
    names = [*colours, *([_OTHERS] if any(g not in colours for g in groups) else [])]
    for name in names:
        parts.append(f'<circle cx="{x}" cy="{y:.1f}" r="4" fill="{_colour(name, colours)}"/>')
        parts.append(_text((x + 12, y + 4), _short(name)))
        y += 20
    y += 12
    for mark, words in _marks(shown, waiting, at=x):
        parts.append(f'<g transform="translate(0 {y:.1f})">{mark}{_text((x + 12, 4), words)}</g>')
        y += 20
    parts.append(_line((x - 6, y), (x + 6, y), colour=_INK, dash="5 4"))
    parts.append(_text((x + 12, y + 4), "measured as predicted"))
    parts.append(f'<rect x="{x - 6}" y="{y + 13:.1f}" width="12" height="12" fill="#0072b2" fill-opacity="0.12"/>')
    parts.append(_text((x + 12, y + 24), "within 25 %"))
    return parts


def _marks(shown: Sequence[Point], waiting: Sequence[Expected], *, at: float) -> list[tuple[str, str]]:
    """What dots, squares, hollow marks and bars stand for, of those that are drawn; each at height 0."""
    hollow = f'<circle cx="{at}" cy="0" r="3.6" fill="#ffffff" stroke="{_INK}" stroke-width="1.4"/>'
    others = [p.is_other for p in shown]
    found = []
    if shown and not all(others):
        found.append((f'<circle cx="{at}" cy="0" r="3.6" fill="{_INK}"/>', "measured"))
    if any(others):
        found.append((_mark((at, 0), colour=_INK, size=(3.6, 1), is_square=True), "measured, another model"))
    if waiting:
        found.append((hollow, "predicted, not measured yet"))
        found.append((_line((at, -8), (at, 8), colour=_INK), "8 of 10 runs should be in it"))
    return found


def _summary(shown: Sequence[Point], waiting: Sequence[Expected]) -> str:
    if not shown:
        return "nothing measured yet" if waiting else "nothing to show"
    errors = [abs(p.predicted / p.measured - 1) for p in shown]
    near = sum(1 / (1 + _BAND) <= p.measured / p.predicted <= 1 + _BAND for p in shown)
    runs = "1 measurement" if len(shown) == 1 else f"{len(shown):,} measurements"
    return f"{runs}, median error {100 * median(errors):.0f} %, {100 * near / len(shown):.0f} % within 25 %"


def _colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each of the most frequent groups, or for each type of weights where groups are those."""
    types = {name: colour for name, colour in zip(_TYPES, _COLOURS, strict=True) if name in groups}
    if types:
        return types
    counts = {name: groups.count(name) for name in dict.fromkeys(groups)}
    names = sorted(counts, key=lambda name: (-counts[name], name))[:_MAX_GROUPS]
    return dict(zip(names, _COLOURS, strict=False))


def _colour(group: str, colours: dict[str, str]) -> str:
    return colours.get(group, _GREY)


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _text(at: _Place, words: str, *, style: _Style | None = None) -> str:
    how = style or _Style()
    font = f'font-family="{FONTS}" font-size="{how.size}" font-weight="{how.weight}"'
    place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{how.anchor}"'
    return f'<text {place} {font} fill="{how.colour}">{escape(words)}</text>'


def _line(begin: _Place, end: _Place, *, colour: str, dash: str = "") -> str:
    ends = f'x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line {ends} stroke="{colour}" stroke-width="1"{dashes}/>'
