"""What can go wrong with the swarm, in types that carry no libp2p."""

from __future__ import annotations


class SwarmError(Exception):
    """The swarm cannot do what was asked; the message is one sentence for people."""


class PortInUse(SwarmError):
    """Another process listens on this port."""

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} is in use by another program. Choose another port in the settings.")
        self.port = port


class PeerUnreachable(SwarmError):
    """The peer could not be reached at any address known for it, or does not speak the protocol."""


class LibraryChanged(SwarmError):
    """The installed libp2p is not the one this adapter was written for."""


class OtherNetwork(PeerUnreachable):
    """The peer belongs to another network, whatever its name."""

    def __init__(self) -> None:
        super().__init__("The peer belongs to another network.")
