"""The window's end of the control link, on Qt's own loop: frames in, NodeState out, commands on their way.

Never blocks and never touches a widget. A lost link is opened again with growing pauses; a gap in the events means a
new snapshot; state changes are told at most ten times a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtNetwork import QAbstractSocket, QHostAddress, QLocalSocket, QTcpSocket

from app import control_protocol as link
from app.gui.views import Link, LinkPhase
from app.lockfile import engine_address
from core.commands import AddModel, Command, InstallModel, MeasureMachine, QuantizeModel, Refused, VerifyModels
from core.framing import FrameDecoder, FramingError, encode_frame
from core.home import Home
from core.node_state import NodeState
from core.state import apply

FIRST_RETRY_MS = 250
LAST_RETRY_MS = 5_000
TELL_MS = 100
WELCOME_MS = 5_000
ANSWER_MS = 60_000
LONG_ANSWER_MS = 7 * 86_400_000
LONG_WORK = (AddModel, InstallModel, MeasureMachine, QuantizeModel, VerifyModels)
MAX_WAITING_COMMANDS = 64
SILENT = "The engine did not answer in time. Look at its state before you try again."
LOST = "The link to the engine broke before it answered. Look at the state before you try again."

Socket = QLocalSocket | QTcpSocket


class ControlLink(QObject):
    """`state_changed` carries a NodeState, `link_changed` a Link, `answered` a Command and its Reply.

    Commands of a broken link are refused, never repeated.
    """

    state_changed = Signal(object)
    link_changed = Signal(object)
    answered = Signal(object, object)

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home
        self._socket: Socket | None = None
        self._decoder = _decoder()
        self._state: NodeState | None = None
        self._sequence = 0
        self._number = 0
        self._waiting: dict[int, Command] = {}
        self._is_open = False
        self._retry_ms = FIRST_RETRY_MS
        self._retry = _single_shot(self, self._dial)
        self._tell = _single_shot(self, self._tell_state)
        self._welcome = _single_shot(self, self._drop)

    @property
    def is_connected(self) -> bool:
        """True from the first snapshot until the link breaks."""
        return self._is_open

    def open(self) -> None:
        """Dial now, and again and again until close."""
        self._retry_ms = FIRST_RETRY_MS
        self._dial()

    def close(self) -> None:
        """Let go; the engine runs on."""
        self._retry.stop()
        self._hang_up()

    def execute(self, command: Command) -> None:
        """Send a command; `answered` follows with its one reply."""
        if self._socket is None or not self._is_open or len(self._waiting) >= MAX_WAITING_COMMANDS:
            self.answered.emit(command, Refused("The engine is not connected. Try again in a moment."))
            return
        self._number += 1
        number = self._number
        self._waiting[number] = command
        self._send(link.Execute(number, command))
        patience_ms = LONG_ANSWER_MS if isinstance(command, LONG_WORK) else ANSWER_MS
        QTimer.singleShot(patience_ms, self, lambda: self._give_up(number))

    def _dial(self) -> None:
        self._hang_up()
        address = engine_address(self._home)
        if address is None:
            self._dial_later()
            return
        self._decoder = _decoder()
        self._socket = _connect(self, address)
        self._socket.connected.connect(self._hello)
        self._socket.readyRead.connect(self._read)
        self._socket.disconnected.connect(self._drop)
        self._socket.errorOccurred.connect(self._drop)
        self._welcome.start(WELCOME_MS)
        _start(self._socket, address)

    def _dial_later(self) -> None:
        if not self._retry.isActive():
            self._retry.start(self._retry_ms)
            self._retry_ms = min(LAST_RETRY_MS, 2 * self._retry_ms)

    def _hello(self) -> None:
        try:
            token = self._home.control_token.read_text(encoding="utf-8").strip()
        except OSError:
            self._drop()
            return
        self._send(link.Hello(token))
        self._send(link.Watch())

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            frames = self._decoder.feed(bytes(self._socket.readAll().data()))
        except FramingError:
            self._drop()
            return
        for frame in frames:
            self._take(frame)

    def _take(self, frame: link.EngineFrame) -> None:
        match frame:
            case link.Welcome():
                self._check_version(frame)
            case link.Answer():
                if (command := self._waiting.pop(frame.number, None)) is not None:
                    self.answered.emit(command, frame.reply)
            case link.Snapshot():
                self._take_snapshot(frame)
            case link.Happened():
                self._take_event(frame)
            case link.Goodbye():
                self._drop()
            case _:
                assert_never(frame)

    def _check_version(self, welcome: link.Welcome) -> None:
        if welcome.version == link.VERSION:
            return
        self.close()
        text = "The running engine is of another version. Quit it with `starling quit`, then try again."
        self.link_changed.emit(Link(LinkPhase.FAILED, text))

    def _take_snapshot(self, snapshot: link.Snapshot) -> None:
        self._welcome.stop()
        self._retry_ms = FIRST_RETRY_MS
        self._sequence, self._state = snapshot.sequence, snapshot.state
        if not self._is_open:
            self._is_open = True
            self.link_changed.emit(Link(LinkPhase.CONNECTED))
        self._tell_state()

    def _take_event(self, happened: link.Happened) -> None:
        """A number that is not the next one means that news was missed: dial again for a new snapshot."""
        if self._state is None or happened.sequence <= self._sequence:
            return
        if happened.sequence != self._sequence + 1:
            self._dial()
            return
        self._sequence = happened.sequence
        self._state = apply(self._state, happened.event)
        if not self._tell.isActive():
            self._tell.start(TELL_MS)

    def _tell_state(self) -> None:
        self._tell.stop()
        if self._state is not None:
            self.state_changed.emit(self._state)

    def _drop(self) -> None:
        """The link is gone, or never came up."""
        was_open = self._is_open
        self._hang_up()
        if was_open:
            self._is_open = False
            self.link_changed.emit(Link(LinkPhase.LOST))
        self._dial_later()

    def _hang_up(self) -> None:
        self._welcome.stop()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.blockSignals(True)
            socket.abort()
            socket.deleteLater()
        waiting, self._waiting = self._waiting, {}
        for command in waiting.values():
            self.answered.emit(command, Refused(LOST))

    def _give_up(self, number: int) -> None:
        if (command := self._waiting.pop(number, None)) is not None:
            self.answered.emit(command, Refused(SILENT))

    def _send(self, frame: link.ClientFrame) -> None:
        if self._socket is not None:
            self._socket.write(encode_frame(frame))


def _decoder() -> FrameDecoder[link.EngineFrame]:
    return FrameDecoder(link.EngineFrame, max_frame_bytes=link.MAX_ENGINE_FRAME_BYTES)


def _single_shot(parent: QObject, act: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.timeout.connect(act)
    return timer


def _connect(parent: QObject, address: str) -> Socket:
    return QTcpSocket(parent) if address.startswith("tcp:") else QLocalSocket(parent)


def _start(socket: Socket, address: str) -> None:
    if isinstance(socket, QTcpSocket):
        socket.setSocketOption(QAbstractSocket.SocketOption.LowDelayOption, 1)
        socket.connectToHost(QHostAddress("127.0.0.1"), int(address.rsplit(":", 1)[1]))
    else:
        socket.connectToServer(address)
