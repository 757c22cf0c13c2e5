"""Round numbers for a chart's axis, and a curve through points that never overshoots them.

Pure geometry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF
from PySide6.QtGui import QFontMetricsF, QPainterPath

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
LEAST_AXIS = 36.0
AXIS_GAP = 10.0


def round_steps(highest: float, most: int = 4) -> list[float]:
    """0 and up to `most` further round values, the last of them at or above highest."""
    if highest <= 0:
        return [0.0, 1.0]
    power = 10 ** math.floor(math.log10(highest / most))
    step = next((s * power for s in STEPS if s * power * most >= highest), 10 * power)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def step_text(value: float) -> str:
    """0, 50, 1.5, 0.002."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.6f}".rstrip("0")


def axis_width(steps: Sequence[float], metrics: QFontMetricsF) -> float:
    """Room for the widest number at the left of the plot, in pixels."""
    return max(LEAST_AXIS, max(metrics.horizontalAdvance(step_text(value)) for value in steps) + AXIS_GAP)


def smooth_path(points: Sequence[QPointF]) -> QPainterPath:
    """A monotone cubic (Fritsch and Carlson 1980) through points of rising x."""
    path = QPainterPath()
    if not points:
        return path
    path.moveTo(points[0])
    slopes = _slopes(points)
    for left, right, at_left, at_right in zip(points, points[1:], slopes, slopes[1:], strict=False):
        third = (right.x() - left.x()) / 3
        path.cubicTo(
            QPointF(left.x() + third, left.y() + at_left * third),
            QPointF(right.x() - third, right.y() - at_right * third),
            right,
        )
    return path


def _slopes(points: Sequence[QPointF]) -> list[float]:
    chords = [_chord(left, right) for left, right in zip(points, points[1:], strict=False)]
    if not chords:
        return [0.0]
    inner = [_between(before, after) for before, after in zip(chords, chords[1:], strict=False)]
    return [chords[0], *inner, chords[-1]]


def _chord(left: QPointF, right: QPointF) -> float:
    width = right.x() - left.x()
    return (right.y() - left.y()) / width if width > 0 else 0.0


def _between(before: float, after: float) -> float:
    """Flat at a peak, else the harmonic mean, which keeps the curve between its points."""
    return 0.0 if before * after <= 0 else 2 * before * after / (before + after)
