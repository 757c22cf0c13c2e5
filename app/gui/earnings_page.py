"""The earnings page: one truth about money in five states, by day and by model, and every transaction.

Sends commands as values. Never moves money by itself and never converts it.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from app.gui.bar_chart import BarChart
from app.gui.button import Button
from app.gui.card import Card, Empty, heading
from app.gui.fonts import text_font
from app.gui.label import Label
from app.gui.model_shares import ModelShares
from app.gui.row_list import RowList
from app.gui.segmented import Segmented
from app.gui.sum_card import SumCard
from app.gui.theme import Theme
from app.gui.transaction_painter import TransactionPainter
from app.gui.views import EarningsPage as EarningsView
from core.commands import WithdrawEarnings

SUMS = 3


class EarningsPage(QWidget):
    """`export_wanted` asks for the CSV; `told` carries a sentence for the owner."""

    command_given = Signal(object)
    export_wanted = Signal()
    told = Signal(str)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setProperty("ground", "app")
        self._view: EarningsView | None = None
        self._withdraw = Button(theme, "Withdraw", icon="arrow-up-right", kind="primary").make_large().named("withdraw")
        self._withdraw.clicked.connect(lambda: self.command_given.emit(WithdrawEarnings()))
        self._withdrawable = SumCard(theme, figure=34, action=self._withdraw)
        self._sums = [SumCard(theme, figure=24) for _ in range(SUMS)]
        self._ranges = Segmented(theme, ["7 days", "30 days", "12 months"], index=1)
        self._ranges.chosen.connect(self._show_bars)
        self._unit = Label(font=text_font(12), tone="text2")
        self._note = Label(font=text_font(12), tone="text2", is_elided=True)
        self._chart = BarChart(theme)
        self._no_bars = Empty(theme, "chart-column")
        self._no_bars.show_words("Nothing earned yet", "Each finished job adds to its day here.", icon="chart-column")
        self._models = ModelShares(theme)
        self._transactions = RowList(theme, TransactionPainter(theme))
        self._transactions.setObjectName("transactions")
        self._transactions.picked.connect(self._copy)
        self._no_transactions = Empty(theme, "layers")
        text = "Payments arrive here when signed promises are cashed, and withdrawals when you make them."
        self._no_transactions.show_words("No transactions yet", text, icon="layers")
        self._export = Button(theme, "Export CSV", icon="download", kind="ghost").named("export_csv")
        self._export.clicked.connect(self.export_wanted)
        self._lay_out()

    def show_earnings(self, view: EarningsView) -> None:
        """Other sums, or a later second."""
        self._view = view
        self._withdrawable.show_sum(view.withdrawable)
        self._withdraw.setEnabled(view.can_withdraw)
        self._withdraw.setToolTip("" if view.can_withdraw else view.withdraw_reason)
        for card, shown in zip(self._sums, view.sums, strict=True):
            card.show_sum(shown)
        self._unit.show_text(view.withdrawable.unit)
        self._models.show_models(view.by_model, view.by_model_note)
        self._transactions.show_rows(view.transactions)
        has_any = bool(view.transactions)
        self._list_stack.setCurrentWidget(self._transactions if has_any else self._no_transactions)
        self._export.setEnabled(has_any)
        self._show_bars()

    def _show_bars(self) -> None:
        if self._view is None:
            return
        names = list(self._view.bars)
        bars = self._view.bars[names[self._ranges.index]]
        has_any = any(bar.total for bar in bars.bars)
        self._note.show_text(bars.note)
        self._chart.show_bars(bars)
        self._bar_stack.setCurrentWidget(self._chart if has_any else self._no_bars)

    def _copy(self, transaction: str) -> None:
        if transaction:
            QGuiApplication.clipboard().setText(transaction)
            self.told.emit("Transaction hash copied.")

    def _lay_out(self) -> None:
        sums = QHBoxLayout()
        sums.setSpacing(14)
        sums.addWidget(self._withdrawable, 40)
        for card in self._sums:
            sums.addWidget(card, 22)
        grid = QGridLayout()
        grid.setSpacing(14)
        grid.addWidget(self._bars_card(), 0, 0)
        grid.addWidget(self._models, 0, 1)
        grid.addWidget(self._transactions_card(), 1, 0, 1, 2)
        grid.setColumnStretch(0, 694)
        grid.setColumnStretch(1, 316)
        grid.setColumnMinimumWidth(1, 240)
        grid.setRowStretch(0, 324)
        grid.setRowStretch(1, 254)
        grid.setRowMinimumHeight(0, 230)
        grid.setRowMinimumHeight(1, 220)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 0, 24, 20)
        column.setSpacing(14)
        column.addLayout(sums)
        column.addLayout(grid, 1)

    def _bars_card(self) -> Card:
        card = Card(margins=(18, 12, 14, 8), spacing=6)
        head = QHBoxLayout()
        head.setSpacing(10)
        head.addWidget(heading("Earnings by day"))
        head.addWidget(self._unit)
        head.addSpacing(6)
        head.addWidget(self._note, 1)
        head.addWidget(self._ranges, 0, Qt.AlignmentFlag.AlignRight)
        card.column.addLayout(head)
        self._bar_stack = QStackedLayout()
        self._bar_stack.addWidget(self._chart)
        self._bar_stack.addWidget(self._no_bars)
        card.column.addLayout(self._bar_stack, 1)
        return card

    def _transactions_card(self) -> Card:
        card = Card(margins=(0, 10, 0, 0), spacing=2)
        head = QHBoxLayout()
        head.setContentsMargins(18, 0, 10, 0)
        head.addWidget(heading("Transactions"))
        head.addStretch(1)
        head.addWidget(self._export)
        card.column.addLayout(head)
        self._list_stack = QStackedLayout()
        self._list_stack.addWidget(self._transactions)
        self._list_stack.addWidget(self._no_transactions)
        card.column.addLayout(self._list_stack, 1)
        return card
