"""Our dials may leave from the port that we listen on, and nobody else may listen there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2p.libp2p_adapter.dialer import is_direct, is_relayed
from p2p.swarm_errors import PortInUse
from tests.p2p.hosts import a_host, identity, running

PEER = identity(1).peer_id
BIND = """
import socket, sys
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", int(sys.argv[1])))
        s.listen()
    except OSError:
        sys.exit(3)
"""


async def test_a_dial_from_our_port_is_seen_there() -> None:
    dialling, listening = a_host(1), a_host(2)
    async with running(dialling, listening):
        await dialling.connect(identity(2).peer_id, listening.addresses(), from_port=True)
        assert listening.seen_at(PEER) == dialling.listens_at()[0]


async def test_a_second_dial_from_our_port_falls_back_to_another() -> None:
    dialling, listening = a_host(1), a_host(2)
    async with running(dialling, listening):
        for _ in range(3):
            await dialling.connect(identity(2).peer_id, listening.addresses(), from_port=True)
            await dialling.disconnect(identity(2).peer_id)


async def test_a_port_that_our_dials_share_is_still_ours_alone() -> None:
    host, second = a_host(1), a_host(2)
    async with running(host):
        _, port = host.listens_at()[0]
        with pytest.raises(PortInUse):
            await second.run("127.0.0.1", port)
        other = subprocess.run([sys.executable, "-c", BIND, str(port)], check=False, timeout=10)
        assert other.returncode == 3


@pytest.mark.parametrize(
    ("address", "kinds"),
    [
        ("/ip4/1.2.3.4/tcp/4001", (True, False)),
        (f"/ip6/::1/tcp/4001/p2p/{PEER}", (True, False)),
        (f"/ip4/1.2.3.4/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}", (False, True)),
        (f"/ip4/1.2.3.4/tcp/4001/p2p-circuit/p2p/{PEER}", (False, False)),
        ("/dns4/example.org/tcp/4001", (False, False)),
        ("nonsense", (False, False)),
        ("/ip4/1.2.3.4/tcp/99999", (False, False)),
    ],
)
def test_what_is_dialled_is_plain_tcp_or_a_relay_at_plain_tcp(address: str, kinds: tuple[bool, bool]) -> None:
    assert (is_direct(address), is_relayed(address)) == kinds
