"""A network file made from words, each checked, with one sentence for what is wrong.

Pure: makes a Network, never a file.
"""

from __future__ import annotations

import re

import msgspec

from core.network import Network, NetworkError, dump_network, load_network

_BOOTSTRAP = re.compile(r"/ip[46]/[0-9a-fA-F:.]+/tcp/[1-9][0-9]{0,4}/p2p/[1-9A-HJ-NP-Za-km-z]{46,60}")

WRONG = {
    "name": "a name is 1 to 32 small letters, digits and dashes, a letter or digit first",
    "chain_id": "a chain id is a number from 1",
    "rpc": "the chain's RPC is a URL that begins with http:// or https://",
    "escrow": "a contract's address is 0x and 40 hexadecimal digits",
    "token": "a contract's address is 0x and 40 hexadecimal digits",
    "symbol": "a symbol has 1 to 12 letters",
    "decimals": "a token has 0 to 30 decimals",
    "confirmations": "confirmations are a number from 1 to 200",
}


def made_network(words: dict[str, object]) -> Network:
    """The network that these words describe, one for each field. Raises NetworkError with what to write instead."""
    for field, sentence in WRONG.items():
        alone = {**_SOUND, field: words[field]} if field in words else _SOUND
        try:
            msgspec.convert(alone, Network)
        except msgspec.ValidationError as error:
            raise NetworkError(f"{words[field]} cannot be the {field.replace('_', ' ')}: {sentence}.") from error
    network = msgspec.convert(words, Network)
    for address in network.bootstrap:
        if not _BOOTSTRAP.fullmatch(address):
            raise NetworkError(
                f"{address} is no bootstrap peer: write /ip4/ADDRESS/tcp/PORT/p2p/PEER, as `starling peers` shows it."
            )
    return load_network(dump_network(network), source=network.name)


_SOUND: dict[str, object] = {
    "name": "n",
    "chain_id": 1,
    "rpc": "http://n",
    "escrow": "0x" + "1" * 40,
    "token": "0x" + "1" * 40,
    "symbol": "N",
    "decimals": 0,
}
