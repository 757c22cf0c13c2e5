"""Who broke a protocol: the peer, or we. Nothing else."""

from __future__ import annotations


class LocalProtocolError(Exception):
    """We tried to say something that is not our turn to say."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol; the stream must be reset."""


class HungUp(RemoteProtocolError):
    """The peer's bytes ended before the conversation did. A broken line looks the same: it is held against nobody."""
