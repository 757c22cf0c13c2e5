"""The More menu: what is done seldom, as commands.

Asks before it removes anything. Never carries a command out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QWidget

from app.gui.fonts import text_font
from app.gui.theme import Theme
from core.commands import (
    AddModel,
    Command,
    InstallModel,
    MeasureMachine,
    PinPlan,
    QuantizeModel,
    QuitEngine,
    RedeemVouchers,
    RemoveModel,
    ServeModel,
    StopModelWork,
    UnpinPlan,
    VerifyModels,
)
from core.model_card import ModelCard
from core.node_state import NodeState
from core.plan import Plan, plan_words

# What is worth making, most bits first; `starling models quantize` makes every type that llama.cpp knows.
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K")


class MoreMenu(QMenu):
    """`command_given` carries a Command; `motion_chosen` whether motion is reduced."""

    command_given = Signal(object)
    motion_chosen = Signal(bool)

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._models: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
        self.setFont(text_font(13))
        self._item("Measure this computer again", "measure_machine", command=MeasureMachine())
        self._kept = self._named(QAction("Keep this plan", self), "pin_plan")
        self._kept.setCheckable(True)
        self._kept.setEnabled(False)
        self._kept.triggered.connect(self._keep_plan)
        self.addAction(self._kept)
        self._plan: Plan | None = None
        self.addSeparator()
        add = self._named(QAction("Add model…", self), "add_model")
        add.triggered.connect(self._add_model)
        self.addAction(add)
        install = self._named(QAction("Install model from the hub…", self), "install_model")
        install.triggered.connect(self._install_model)
        self.addAction(install)
        self._serve = self._submenu("Serve model", "serve_model")
        self._quantize = self._submenu("Quantize model", "quantize_model")
        self._remove = self._submenu("Remove model", "remove_model")
        self._item("Check the model files", "verify_models", command=VerifyModels())
        self._item("Stop work on models", "stop_model_work", command=StopModelWork())
        self.addSeparator()
        self._item("Cash signed payments now", "redeem_vouchers", command=RedeemVouchers())
        self.addSeparator()
        motion = self._named(QAction("Reduce motion", self), "reduce_motion")
        motion.setCheckable(True)
        motion.setChecked(theme.reduce_motion)
        motion.toggled.connect(self.motion_chosen)
        self.addAction(motion)
        self.addSeparator()
        self._item("Quit Starling", "quit_engine", command=QuitEngine())

    def show_state(self, state: NodeState) -> None:
        """Fill the model menus; unchanged models leave them alone, so that an open menu stays open."""
        self._show_plan(state)
        models = tuple((name, card.title or name, _makeable(card)) for name, card in sorted(state.models.items()))
        if models == self._models:
            return
        self._models = models
        for menu in (self._serve, self._quantize, self._remove):
            menu.clear()
            menu.setEnabled(bool(models))
        for name, title, types in models:
            self._serve.addAction(title).triggered.connect(partial(self._give, ServeModel(name)))
            self._remove.addAction(f"{title}…").triggered.connect(partial(self._ask_removal, (name, title)))
            made = self._quantize.addMenu(title)
            made.setEnabled(bool(types))
            for kind in types:
                made.addAction(kind).triggered.connect(partial(self._give, QuantizeModel(name, kind)))

    def _show_plan(self, state: NodeState) -> None:
        """Whether the plan that is chosen is kept, and which one that is."""
        plan = self._plan = state.choice.plan if state.choice is not None else None
        kept = state.pins.get(plan.model) if plan is not None else None
        shown = kept or plan
        self._kept.setEnabled(plan is not None)
        self._kept.setChecked(kept is not None)
        self._kept.setText("Keep this plan" if shown is None else f"Keep this plan: {plan_words(shown)}")

    def _keep_plan(self, is_kept: bool) -> None:
        if self._plan is not None:
            self._give(PinPlan(self._plan) if is_kept else UnpinPlan(self._plan.model))

    def _item(self, text: str, name: str, *, command: Command) -> None:
        action = self._named(QAction(text, self), name)
        action.triggered.connect(partial(self._give, command))
        self.addAction(action)

    def _submenu(self, text: str, name: str) -> QMenu:
        menu = QMenu(text, self)
        menu.setObjectName(name)
        menu.setFont(self.font())
        menu.setEnabled(False)
        self.addMenu(menu)
        return menu

    def _named(self, action: QAction, name: str) -> QAction:
        action.setObjectName(name)
        return action

    def _give(self, command: Command, _checked: bool = False) -> None:
        self.command_given.emit(command)

    def _add_model(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self.parentWidget(), "Add a model", "", "GGUF models (*.gguf)")
        if path:
            self.command_given.emit(AddModel(str(Path(path))))

    def _install_model(self) -> None:
        label = "Model of the hub, as OWNER/NAME, OWNER/NAME:Q8_0 or OWNER/NAME:FILE.gguf"
        source, is_given = QInputDialog.getText(self.parentWidget(), "Install a model", label)
        if is_given and source.strip():
            self.command_given.emit(InstallModel(source.strip()))

    def _ask_removal(self, model: tuple[str, str], _checked: bool = False) -> None:
        name, title = model
        question = QMessageBox(self.parentWidget())
        question.setWindowTitle("Remove model")
        question.setText(f"Remove {title} from this computer?")
        question.setInformativeText("Its files in Starling’s store are deleted. The file you added it from stays.")
        remove = question.addButton("Remove", QMessageBox.ButtonRole.AcceptRole)
        question.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
        question.exec()
        if question.clickedButton() is remove:
            self.command_given.emit(RemoveModel(name))


def _makeable(card: ModelCard) -> tuple[str, ...]:
    """The types that are not there yet."""
    return tuple(kind for kind in TYPES if card.variant(kind) is None)
