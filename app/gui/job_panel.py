"""The details of one job: how far it is, its timeline, its terms, why it waits where it waits, and Cancel.

Never shows a prompt or an answer, and says so.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout

from app.gui.bar import BarView
from app.gui.button import Button
from app.gui.card import Card, heading, line
from app.gui.fonts import display_font, mono_font, text_font
from app.gui.label import IconView, Label
from app.gui.pill import Pill
from app.gui.steps import Steps
from app.gui.theme import Theme
from app.gui.views import JobDetails
from core.commands import CancelJob
from core.job import JobId

FACTS = 7
PRIVACY = (
    "This app never shows or saves the prompt or the answer. They are held in memory only while the job runs."
)


class JobPanel(Card):
    """`command_given` carries a CancelJob; `closed` asks to hide the panel."""

    command_given = Signal(object)
    closed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__(margins=(18, 12, 18, 16), spacing=8)
        self._theme = theme
        self._job_id = ""
        self._pill = Pill(theme)
        self._id = Label(font=mono_font(12), tone="text2", is_elided=True)
        self._id.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._tokens = Label(font=display_font(34))
        self._of = Label(font=text_font(13, 500), tone="text2", is_elided=True)
        self._bar = BarView(theme)
        self._speed = Label(font=text_font(13, 600))
        self._to_go = Label(font=text_font(12), tone="text2")
        self._steps = Steps(theme, across=False)
        self._facts = [(Label(tone="text2"), Label(font=text_font(13, 500), is_elided=True)) for _ in range(FACTS)]
        self._why = Label(font=text_font(12), tone="text2")
        self._why.setWordWrap(True)
        self._cancel = Button(theme, "Cancel job", kind="danger").named("cancel_job")
        self._cancel.clicked.connect(self._give_cancel)
        self.setFixedWidth(300)
        self._lay_out()

    def show_details(self, view: JobDetails) -> None:
        """Another job, or the same further on."""
        self._job_id = view.job_id
        self._pill.show_pill(view.pill)
        self._id.show_text(view.short_id)
        self._id.setToolTip(view.job_id)
        self._tokens.show_text(view.tokens)
        self._of.show_text(view.of_tokens)
        self._bar.show_fraction(view.fraction)
        self._speed.show_text(view.speed)
        self._to_go.show_text(view.to_go)
        self._steps.show_steps(view.steps)
        for (name, value), fact in zip(self._facts, view.facts, strict=True):
            name.show_text(fact[0])
            value.show_text(fact[1])
        self._why.show_text(view.why)
        self._why_box.setVisible(bool(view.why))
        self._cancel.setVisible(view.can_cancel)

    def _lay_out(self) -> None:
        close = Button(self._theme, icon="x", kind="icon").named("close_details", "Close details")
        close.clicked.connect(self.closed)
        self._row(heading("Job details"), None, close)
        self._row(self._pill, self._id)
        figure = QHBoxLayout()
        figure.setSpacing(7)
        figure.addWidget(self._tokens)
        figure.addWidget(self._of, 1, Qt.AlignmentFlag.AlignBottom)
        self._of.setContentsMargins(0, 0, 0, 6)
        self.column.addLayout(figure)
        self.column.addWidget(self._bar)
        self._row(self._speed, None, self._to_go)
        self.column.addWidget(line())
        self.column.addWidget(self._steps)
        self.column.addWidget(line())
        for name, value in self._facts:
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self._row(name, value)
        self._why_box = self._box("clock", self._why)
        self.column.addWidget(self._why_box)
        self.column.addStretch(1)
        self.column.addWidget(self._cancel)
        privacy = Label(PRIVACY, font=text_font(11), tone="text2")
        privacy.setWordWrap(True)
        self.column.addWidget(self._box("lock", privacy))

    def _row(self, *widgets: Label | Pill | Button | None) -> None:
        layout = QHBoxLayout()
        layout.setSpacing(8)
        for widget in widgets:
            if widget is None:
                layout.addStretch(1)
            else:
                layout.addWidget(widget, 1 if isinstance(widget, Label) and widget in self._elastic() else 0)
        self.column.addLayout(layout)

    def _elastic(self) -> list[Label]:
        return [self._id, *(value for _, value in self._facts)]

    def _box(self, icon: str, text: Label) -> QFrame:
        box = QFrame()
        box.setProperty("card", "inset")
        layout = QHBoxLayout(box)
        layout.setContentsMargins(12, 10, 12, 10)
        layout.setSpacing(10)
        mark = QVBoxLayout()
        mark.addWidget(IconView(self._theme, icon, size=15, role="text2"))
        mark.addStretch(1)
        layout.addLayout(mark)
        layout.addWidget(text, 1)
        return box

    def _give_cancel(self) -> None:
        self.command_given.emit(CancelJob(JobId(self._job_id)))
