"""A public peer for operators: others meet through it (bootstrap and peer exchange), and it carries connections for
those that cannot be dialled. No model, no wallet, no offers of its own.

Prints one JSON line when it listens, then its figures as JSON lines: every so many seconds, and on SIGUSR1. Tells
systemd when it is ready. Stops on SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from core.trouble import first_of
from p2p.book_file import BookFile
from p2p.browser_port import BrowserPort
from p2p.discovery import Discovery, DiscoveryPorts
from p2p.identity import Identity
from p2p.libp2p_adapter.limits import ConnectionLimits
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.offer_exchange import OfferExchange
from p2p.reach_exchange import ReachExchange
from p2p.relay_book import RelayBook, RelayLimits
from p2p.swarm import Swarm
from p2p.swarm_errors import SwarmError

MAX_CONNECTIONS = 4_000
CONNECTIONS_PER_IP = 64

log = logging.getLogger(__name__)


class RelayWords(msgspec.Struct, frozen=True):
    """folder: where its identity and address book live; swarm: the network's swarm id; public_ips: where others reach
    it, when the machine does not know that itself; figures_every_s: 0 prints them on SIGUSR1 alone; ws_port: browsers
    may dial here too (0: they may not)."""

    folder: Path
    swarm: str
    port: int
    listen_ip: str = "0.0.0.0"  # noqa: S104  a relay is there for everybody
    bootstrap: tuple[str, ...] = ()
    public_ips: tuple[str, ...] = ()
    figures_every_s: float = 0.0
    ws_port: int = 0
    limits: RelayLimits = RelayLimits(reservations=2_000, circuits=4_000)


class PublicSwarm(Swarm):
    """A swarm with room for many."""

    limits = ConnectionLimits(total=MAX_CONNECTIONS, per_ip=CONNECTIONS_PER_IP)


async def run_relay_node(words: RelayWords) -> None:
    """Until it is told to stop. Raises SwarmError and IdentityUnusable, each with one sentence."""
    swarm, book = _swarm(words), RelayBook(words.limits)
    swarm.serve_relay(book)
    reach = ReachExchange(swarm)
    shelf = BookFile(words.folder / "relay_peers.json")
    ports = DiscoveryPorts(load=shelf.load, save=shelf.save, warn=log.warning)
    discovery = Discovery(swarm, network=words.swarm, ports=ports, finds_on_lan=False)
    await discovery.load()
    browsers = BrowserPort(words.listen_ip, words.ws_port)
    if words.ws_port:
        swarm.beside(browsers.run)
    figures = partial(_figures, swarm, book, reach=reach, began=trio.current_time())
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_signals, nursery.cancel_scope, figures)
            await nursery.start(swarm.run)
            if words.ws_port:
                await browsers.opened.wait()
            _print({"addresses": swarm.addresses(), "peer_id": swarm.peer_id})
            _tell_systemd("READY=1")
            nursery.start_soon(discovery.run)
            if words.figures_every_s:
                nursery.start_soon(_print_figures, words.figures_every_s, figures)
    except* SwarmError as group:
        raise first_of(group) from None
    finally:
        _tell_systemd("STOPPING=1")


def _swarm(words: RelayWords) -> Swarm:
    identity = Identity.open(words.folder / "keys" / "peer.key")
    swarm = PublicSwarm(
        identity, port=words.port, bootstrap=words.bootstrap, network=words.swarm, listen_ip=words.listen_ip
    )
    OfferExchange(identity, swarm, network=words.swarm)
    if words.public_ips:
        swarm.beside(_published(words))
    return swarm


def _figures(swarm: Swarm, book: RelayBook, *, reach: ReachExchange, began: float) -> dict[str, Any]:
    now = trio.current_time()
    counts = msgspec.to_builtins(book.counts(now))
    up_s, standing = round(now - began, 1), reach.standing.reachability.value
    return {"at": int(time.time()), "up_s": up_s, "reach": standing, "peers": swarm.peer_count, **counts}


def _published(words: RelayWords) -> Callable[[PeerHost], Any]:
    async def publish(host: PeerHost) -> None:
        port = host.listens_at()[0][1]
        host.set_public([f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}" for ip in words.public_ips])
        await trio.sleep_forever()

    return publish


async def _print_figures(every_s: float, figures: Callable[[], dict[str, Any]]) -> None:
    while True:
        await trio.sleep(every_s)
        _print(figures())


async def _obey_signals(
    scope: trio.CancelScope,
    figures: Callable[[], dict[str, Any]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    asked = getattr(signal, "SIGUSR1", signal.SIGINT)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, asked) as signals:
        task_status.started()
        async for received in signals:
            if received in (signal.SIGTERM, signal.SIGINT):
                scope.cancel()
                return
            _print(figures())


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _tell_systemd(state: str) -> None:
    """sd_notify(3): nothing happens where systemd did not ask."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + place[1:] if place.startswith("@") else place)
            notify.send(state.encode())
    except OSError as error:
        log.warning("systemd was not told %s: %s", state, error)
