"""Finding 5. Stock: plaintext is among the default security protocols, so anyone can say that he is anyone."""

from __future__ import annotations

from typing import Any

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.security.insecure.transport import InsecureTransport
from libp2p.security.secio.transport import ID as SECIO
from libp2p.security.secio.transport import Transport as Secio

from p2p.swarm_errors import PeerUnreachable
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, identity, is_alive, running

PLAINTEXT = "/plaintext/2.0.0"


def insecure() -> Any:
    return {PLAINTEXT: InsecureTransport(create_new_key_pair(b"\x64" * 32))}


async def test_stock_takes_a_peer_without_encryption_and_we_do_not() -> None:
    plain, victim, ours = a_stock_host(100, sec_opt=insecure()), a_stock_host(101), a_host(1)
    async with running(ours), stock_running(plain, victim):
        await connect(plain, victim)
        with pytest.raises(Exception, match="unable to connect"):
            await connect(plain, ours)


async def test_secio_is_not_spoken_here() -> None:
    secio, ours, other = a_stock_host(sec_opt={SECIO: Secio(create_new_key_pair(b"\x64" * 32))}), a_host(1), a_host(2)
    async with running(ours, other), stock_running(secio):
        with pytest.raises(Exception, match="unable to connect"):
            await connect(secio, ours)
        assert await is_alive(other, ours, 1)


async def test_a_peer_with_another_key_is_not_the_peer() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        address = other.addresses()[0].rpartition("/p2p/")[0]
        with pytest.raises(PeerUnreachable):
            await one.connect(identity(3).peer_id, (address,))
