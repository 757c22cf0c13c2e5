"""Hosts of libp2p 0.8.1 as it comes, to show the faults that ours must not have."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.libp2p_adapter.peer_host import PeerHost
from tests.p2p.hosts import ECHO, HOLD

SOMEWHERE = (Multiaddr("/ip4/127.0.0.1/tcp/0"),)


def a_stock_host(number: int = 100, **options: Any) -> Any:
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    host = new_host(key_pair=create_new_key_pair(bytes([number]) * 32), **options)
    host.set_stream_handler(ECHO, echo)
    host.set_stream_handler(HOLD, hold)
    return host


async def echo(stream: Any) -> None:
    try:
        while received := await stream.read(65_536):
            await stream.write(received)
    except Exception:  # noqa: BLE001  a stock handler that raises ends its host, which is another finding
        return


async def hold(stream: Any) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def stock_running(*hosts: Any, within_s: float = 30.0) -> AsyncIterator[None]:
    with trio.fail_after(within_s):
        async with AsyncExitStack() as stack:
            for host in hosts:
                await stack.enter_async_context(host.run(list(SOMEWHERE)))
            yield


def where(host: Any) -> tuple[PeerId, list[str]]:
    """A stock host's id, and the one address it listens on."""
    return PeerId(str(host.get_id())), [str(host.get_addrs()[0])]


def info_of(host: PeerHost | Any) -> PeerInfo:
    """What a stock host needs to connect to a host, ours or not."""
    is_ours = isinstance(host, PeerHost)
    return info_from_p2p_addr(Multiaddr(host.addresses()[0]) if is_ours else host.get_addrs()[0])


async def connect(asker: Any, host: PeerHost | Any) -> Any:
    """Connect a stock host to a host, and give the muxed connection."""
    info = info_of(host)
    await asker.connect(info)
    return asker.get_network().connections[info.peer_id][0].muxed_conn


async def dies(victim: Any, attack: Callable[[], Awaitable[None]], *, within_s: float = 5.0) -> bool:
    """Whether running this attack ends a whole stock host."""
    try:
        with trio.move_on_after(within_s):
            async with victim.run(list(SOMEWHERE)):
                await attack()
                await trio.sleep_forever()
    except BaseExceptionGroup:
        return True
    return False
