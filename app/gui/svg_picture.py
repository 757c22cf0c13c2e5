"""SVG text as a PNG file, drawn by Qt with the application's own fonts; needs no display.

Never shows a window.
"""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import QByteArray
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

from app.gui.fonts import TEXT, load_fonts
from core.metamodel.scatter import FONTS

SCALE = 2


def write_png(svg: str, path: Path) -> None:
    """Twice as many pixels as the SVG has units. Raises OSError when the file cannot be written."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QGuiApplication.instance() or QGuiApplication([])
    load_fonts()
    # Qt takes a list of families for the name of one.
    renderer = QSvgRenderer(QByteArray(svg.replace(FONTS, TEXT).encode()))
    image = QImage(renderer.defaultSize() * SCALE, QImage.Format.Format_ARGB32)
    image.fill(0xFFFFFFFF)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    is_saved = image.save(str(path))
    del app
    if not is_saved:
        raise OSError(0, f"{path.name} cannot be written")
