"""A list whose rows are painted by whoever owns it, with a heading of column names and keyboard selection.

Holds row values only. Never knows what they mean: a RowPainter draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QAbstractItemView,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.gui.columns import Column, Place, places
from app.gui.fonts import text_font
from app.gui.ink import LEFT, RIGHT
from app.gui.theme import Theme

MARGIN = 18
HEAD_HEIGHT = 34
GROUP_HEIGHT = 30
Index = QModelIndex | QPersistentModelIndex


class RowPainter(Protocol):
    """Draws one row and says how it is found again and read aloud. A str row is the heading of a group."""

    columns: tuple[Column, ...]
    height: int

    def paint(self, painter: QPainter, row: Any, rect: QRectF, where: dict[str, Place]) -> None:
        """Draw the row into rect; where has the columns that are shown."""

    def key(self, row: Any) -> str:
        """What stays the same when the row changes."""

    def spoken(self, row: Any) -> str:
        """The row in words."""


class _Rows(QAbstractListModel):
    def __init__(self, painter: RowPainter) -> None:
        super().__init__()
        self._painter = painter
        self.rows: list[Any] = []

    def rowCount(self, parent: Index | None = None) -> int:  # noqa: N802
        """How many rows."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The row in words."""
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return None
        row = self.rows[index.row()]
        return row if isinstance(row, str) else self._painter.spoken(row)

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Group headings cannot be selected."""
        if isinstance(self.rows[index.row()], str):
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable

    def show_rows(self, rows: list[Any]) -> None:
        """Rows that only changed keep selection and scroll position."""
        if len(rows) == len(self.rows):
            self.rows = rows
            if rows:
                self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()


class _Delegate(QStyledItemDelegate):
    def __init__(self, theme: Theme, painter: RowPainter, *, rows: _Rows) -> None:
        super().__init__()
        self._theme = theme
        self._painter = painter
        self._rows = rows

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802
        """Groups are lower than rows."""
        is_group = isinstance(self._rows.rows[index.row()], str)
        return QSize(100, GROUP_HEIGHT if is_group else self._painter.height)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Ground, selection, hairline, then the row."""
        row = self._rows.rows[index.row()]
        rect = QRectF(option.rect)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if isinstance(row, str):
            self._paint_group(painter, row, rect=rect)
        else:
            self._paint_ground(painter, rect, state=option.state)
            whole = option.widget.width() if option.widget is not None else rect.width()  # a scroll bar moves no column
            where = places(self._painter.columns, width=whole, margin=MARGIN)
            self._painter.paint(painter, row, rect, where)
        painter.setPen(QPen(self._theme.color("border"), 1))
        foot = rect.bottom() - 0.5
        painter.drawLine(QPointF(rect.left(), foot), QPointF(rect.right(), foot))
        painter.restore()

    def _paint_group(self, painter: QPainter, name: str, *, rect: QRectF) -> None:
        painter.fillRect(rect, self._theme.color("inset"))
        painter.setPen(self._theme.color("text2"))
        painter.setFont(text_font(12, 600))
        painter.drawText(rect.adjusted(MARGIN, 0, 0, 0), LEFT, name)

    def _paint_ground(self, painter: QPainter, rect: QRectF, *, state: QStyle.StateFlag) -> None:
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, self._theme.color("selected"))
            painter.fillRect(QRectF(rect.left(), rect.top(), 2, rect.height()), self._theme.color("accent"))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, self._theme.color("inset"))


class _Head(QWidget):
    def __init__(self, theme: Theme, columns: tuple[Column, ...]) -> None:
        super().__init__()
        self._theme = theme
        self.columns = columns
        self.setFixedHeight(HEAD_HEIGHT)
        theme.changed.connect(self.update)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """The names of the columns that are shown."""
        painter = QPainter(self)
        painter.setFont(text_font(12, 500))
        painter.setPen(self._theme.color("text2"))
        for column in self.columns:
            place = places(self.columns, width=self.width(), margin=MARGIN).get(column.name)
            if place is not None:
                rect = QRectF(place.left, 0, place.width, self.height() - 1)
                painter.drawText(rect, RIGHT if column.is_right else LEFT, column.name)
        painter.setPen(QPen(self._theme.color("border"), 1))
        painter.drawLine(0, self.height() - 1, self.width(), self.height() - 1)


class _View(QListView):
    def focusInEvent(self, event: QFocusEvent) -> None:  # noqa: N802
        """Qt would select the first row here; nothing is selected unless the owner does it."""
        QWidget.focusInEvent(self, event)
        self.viewport().update()


class RowList(QWidget):
    """Heading and rows. `picked` carries the key of the row that was selected."""

    picked = Signal(str)

    def __init__(self, theme: Theme, painter: RowPainter) -> None:
        super().__init__()
        self._painter = painter
        self._rows = _Rows(painter)
        self._head = _Head(theme, painter.columns)
        self._view = _View()
        self._view.setModel(self._rows)
        self._delegate = _Delegate(theme, painter, rows=self._rows)
        self._view.setItemDelegate(self._delegate)
        self._view.setMouseTracking(True)
        self._view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._view.setUniformItemSizes(False)
        self._view.selectionModel().currentChanged.connect(self._pick)
        column = QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 1)
        column.setSpacing(0)
        column.addWidget(self._head)
        column.addWidget(self._view, 1)
        theme.changed.connect(self._view.viewport().update)

    @property
    def rows(self) -> list[Any]:
        """What is shown."""
        return list(self._rows.rows)

    def show_rows(self, rows: Sequence[Any]) -> None:
        """Other rows; the selected one stays selected where it is still there."""
        kept = self.picked_key()
        before = self._rows.rows
        self._rows.show_rows(list(rows))
        if len(before) != len(rows) or kept != self.picked_key():
            self.pick(kept)

    def show_columns(self, columns: tuple[Column, ...]) -> None:
        """Other column names."""
        if columns != self._head.columns:
            self._painter.columns = columns
            self._head.columns = columns
            self._head.update()
            self._view.viewport().update()

    def picked_key(self) -> str:
        """The key of the selected row, or nothing."""
        index = self._view.currentIndex()
        if not index.isValid() or isinstance(self._rows.rows[index.row()], str):
            return ""
        return self._painter.key(self._rows.rows[index.row()])

    def pick(self, key: str) -> None:
        """Select a row by its key; an unknown one selects nothing."""
        model = self._view.selectionModel()
        model.blockSignals(True)
        for number, row in enumerate(self._rows.rows):
            if not isinstance(row, str) and self._painter.key(row) == key:
                self._view.setCurrentIndex(self._rows.index(number))
                break
        else:
            model.clear()
        model.blockSignals(False)
        self._view.viewport().update()

    def _pick(self, index: QModelIndex) -> None:
        self.picked.emit(self.picked_key() if index.isValid() else "")
