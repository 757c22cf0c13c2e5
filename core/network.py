"""A network file: which swarm, which chain and which contracts belong together, so that networks never mix.

Never reads a file: bytes in, a Network out, and every field is checked.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

Address = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
SWARM_ID_CHARS = 32
HttpUrl = Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+\Z", max_length=300)]


class NetworkError(Exception):
    """The network file cannot be used; the message names the place."""


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network. is_devnet: its chain has an unlocked account that funds newcomers with test money."""

    name: Name
    chain_id: Annotated[int, msgspec.Meta(ge=1)]
    rpc: HttpUrl
    escrow: Address
    token: Address
    symbol: Annotated[str, msgspec.Meta(min_length=1, max_length=12)]
    decimals: Annotated[int, msgspec.Meta(ge=0, le=30)]
    bootstrap: tuple[str, ...] = ()
    confirmations: Annotated[int, msgspec.Meta(ge=1, le=200)] = 1
    is_devnet: bool = False

    @property
    def swarm_id(self) -> str:
        """What peers of this network call it among themselves: the same only where name, chain and escrow are."""
        identity = f"starling-swarm-1:{self.name}:{self.chain_id}:{self.escrow.lower()}"
        return hashlib.sha256(identity.encode()).hexdigest()[:SWARM_ID_CHARS]


def load_network(text: bytes, *, source: str) -> Network:
    """A Network from the TOML of the file named source. Raises NetworkError."""
    try:
        return msgspec.toml.decode(text, type=Network)
    except msgspec.MsgspecError as error:
        raise NetworkError(f"The network file {source} is not usable: {error}.") from error


def dump_network(network: Network) -> bytes:
    """The TOML of this network."""
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in msgspec.to_builtins(network).items()]
    return ("\n".join(lines) + "\n").encode()
