"""What peers say to find out whether strangers can dial one of them: the reach protocol's messages and limits. Pure.

The asker tells one peer its ports; that one asks a third peer, who isn't connected to the asker, to dial it once and to
say a nonce; the asker believes only the nonce that it hears.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

REACH_PROTOCOL = "/starling/reach/1.0.0"
VERSION = 1
MAX_FRAME_BYTES = 2_048
MAX_ADDRESSES = 4

Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Address = Annotated[str, msgspec.Meta(max_length=256)]
Addresses = Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]


class CheckReach(msgspec.Struct, frozen=True, tag="check_reach"):
    """Can a stranger dial me? ports: where I listen, the likeliest first; none: only say where you see me. Answered by
    Checked."""

    nonce: Nonce
    ports: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=65_535)], ...], msgspec.Meta(max_length=MAX_ADDRESSES)]
    version: int = VERSION


class DialBack(msgspec.Struct, frozen=True, tag="dial_back"):
    """Dial this peer at one of these addresses, and tell it the nonce. Answered by Dialled."""

    peer_id: Annotated[str, msgspec.Meta(max_length=128)]
    addresses: Addresses
    nonce: Nonce


class Reached(msgspec.Struct, frozen=True, tag="reached"):
    """I am a stranger, and I have dialled you at this address. No answer."""

    nonce: Nonce
    address: Address


class Dialled(msgspec.Struct, frozen=True, tag="dialled"):
    """How the dial went: the address that led to the peer, or fault, in a few words. was_tried: it was dialled."""

    was_tried: bool
    address: Address = ""
    fault: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Checked(msgspec.Struct, frozen=True, tag="checked"):
    """Where I see you (an IP address and a port), and whether a stranger has dialled you without reaching you."""

    ip: Annotated[str, msgspec.Meta(max_length=64)]
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    was_tried: bool


ReachQuestion = CheckReach | DialBack | Reached
