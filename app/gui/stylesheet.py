"""The Qt style sheet, built from the colour tokens.

Pure: text in, text out. It sets colours, borders and paddings; fonts are set on the widgets, because a style sheet
would drop their OpenType features.
"""

from __future__ import annotations

from app.gui.colors import Colors


def stylesheet(c: Colors) -> str:
    """The whole sheet for one look."""
    return "\n".join((_grounds(c), _labels(c), _buttons(c), _fields(c), _menus(c), _scroll_bars(c)))


def _grounds(c: Colors) -> str:
    return f"""
QMainWindow, QDialog, #pages, QWidget[ground="app"] {{ background: {c.app}; }}
QScrollArea, QScrollArea > QWidget > QWidget[ground="app"] {{ background: {c.app}; border: none; }}
#sidebar {{ background: {c.sidebar}; border-right: 1px solid {c.border}; }}
QFrame[card="true"] {{ background: {c.surface}; border: 1px solid {c.border}; border-radius: 12px; }}
QFrame[card="inset"] {{ background: {c.inset}; border: none; border-radius: 10px; }}
QFrame[line="true"] {{ background: {c.border}; border: none; max-height: 1px; min-height: 1px; }}
QFrame[notice="warn"] {{ background: {c.warn_soft}; border: none; border-radius: 10px; }}
QFrame[notice="danger"] {{ background: {c.danger_soft}; border: none; border-radius: 10px; }}
QFrame[notice="accent"] {{ background: {c.accent_soft}; border: none; border-radius: 10px; }}
QFrame[toast="true"] {{ background: {c.text}; border: none; border-radius: 10px; }}
QListView {{ background: transparent; border: none; outline: none; }}
QLabel#qt_msgbox_label {{ font-weight: 600; color: {c.text}; }}
QToolTip {{ background: {c.raised}; color: {c.text}; border: 1px solid {c.strong}; padding: 4px 8px; }}
"""


def _labels(c: Colors) -> str:
    tones = {
        "text": c.text,
        "text2": c.text2,
        "text3": c.text3,
        "neutral": c.text2,
        "accent": c.accent_text,
        "info": c.info,
        "warn": c.warn,
        "danger": c.danger,
        "inverse": c.app,
    }
    rules = [f'QLabel[tone="{name}"] {{ color: {color}; }}' for name, color in tones.items()]
    return "\n".join(("QLabel { background: transparent; border: none; }", *rules))


def _buttons(c: Colors) -> str:
    soft = c.neutral_soft
    return f"""
QPushButton {{ border-radius: 8px; padding: 0 14px; min-height: 32px; border: 1px solid {c.strong};
  background: {c.surface}; color: {c.text}; }}
QPushButton:hover {{ background: {c.hover}; }}
QPushButton:focus {{ border: 1px solid {c.accent}; }}
QPushButton:disabled {{ color: {c.text3}; background: {soft}; border-color: {soft}; }}
QPushButton[scale="large"] {{ border-radius: 10px; padding: 0 18px; min-height: 42px; }}
QPushButton[kind="primary"] {{ background: {c.accent}; color: {c.on_accent}; border: 1px solid {c.accent}; }}
QPushButton[kind="primary"]:hover {{ background: {c.accent_hover}; border-color: {c.accent_hover}; }}
QPushButton[kind="primary"]:focus {{ border: 1px solid {c.text}; }}
QPushButton[kind="primary"]:disabled {{ color: {c.text3}; background: {soft}; border-color: {soft}; }}
QPushButton[kind="ghost"] {{ background: transparent; border: 1px solid transparent; color: {c.text2};
  padding: 0 10px; }}
QPushButton[kind="ghost"]:hover {{ background: {c.hover}; color: {c.text}; }}
QPushButton[kind="ghost"]:focus {{ border: 1px solid {c.accent}; }}
QPushButton[kind="ghost"]:disabled {{ background: transparent; color: {c.text3}; border-color: transparent; }}
QPushButton[kind="danger"] {{ color: {c.danger}; }}
QPushButton[kind="icon"] {{ background: transparent; border: 1px solid transparent; padding: 0; border-radius: 8px;
  min-width: 32px; max-width: 32px; }}
QPushButton[kind="icon"]:hover {{ background: {c.hover}; }}
QPushButton[kind="icon"]:focus {{ border: 1px solid {c.accent}; }}
QPushButton::menu-indicator {{ image: none; width: 0; }}
QCheckBox {{ color: {c.text}; spacing: 8px; }}
"""


def _fields(c: Colors) -> str:
    return f"""
QLineEdit {{ background: {c.surface}; border: 1px solid {c.strong}; border-radius: 8px; padding: 0 10px;
  min-height: 32px; color: {c.text}; selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
QLineEdit:focus {{ border-color: {c.accent}; }}
"""


def _menus(c: Colors) -> str:
    return f"""
QMenu {{ background: {c.raised if c.is_dark else c.surface}; border: 1px solid {c.strong}; border-radius: 8px;
  padding: 6px; color: {c.text}; }}
QMenu::item {{ padding: 7px 28px 7px 12px; border-radius: 6px; }}
QMenu::item:selected {{ background: {c.strong if c.is_dark else c.hover}; }}
QMenu::item:disabled {{ color: {c.text3}; }}
QMenu::separator {{ height: 1px; background: {c.border if not c.is_dark else c.strong}; margin: 6px 4px; }}
"""


def _scroll_bars(c: Colors) -> str:
    return f"""
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 2px; }}
QScrollBar::handle:vertical {{ background: {c.strong}; border-radius: 3px; min-height: 32px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ height: 0; width: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QScrollBar:horizontal {{ height: 0; }}
"""
