"""What the engine and its clients (window, command line) say over the local control link, in frames of core.framing.

Sans-IO. Never carries a key, a seed, a prompt or an answer. A client says Hello first; then it may Execute commands and
Watch. Watching begins with one Snapshot; Happened frames follow with consecutive sequence numbers, and a gap means that
the client must Watch again.
"""

from __future__ import annotations

import msgspec

from core.commands import Command, Reply
from core.events import Event
from core.node_state import NodeState

VERSION = 1
MAX_CLIENT_FRAME_BYTES = 64 << 10
MAX_ENGINE_FRAME_BYTES = 16 << 20
HELLO_TIMEOUT_S = 2.0


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first frame of a client; token is the content of the home's control token file."""

    token: str
    version: int = VERSION


class Execute(msgspec.Struct, frozen=True, tag="execute"):
    """Carry out a command; answered by one Answer with the same number."""

    number: int
    command: Command


class Watch(msgspec.Struct, frozen=True, tag="watch"):
    """Send a Snapshot, then everything that happens."""


ClientFrame = Hello | Execute | Watch


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The token was right."""

    version: int = VERSION
    engine_pid: int = 0


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The one reply to an Execute."""

    number: int
    reply: Reply


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """The whole state as of this sequence number."""

    sequence: int
    state: NodeState


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    """One event; apply it to the state."""

    sequence: int
    event: Event


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """The engine closes the link, and why."""

    reason: str


EngineFrame = Welcome | Answer | Snapshot | Happened | Goodbye
