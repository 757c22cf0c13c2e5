"""A peer that others meet through: no model, no wallet, only the swarm. `python -m p2p.bootstrap_node --home DIR`.

Prints one JSON line when it listens, then runs until SIGTERM, Ctrl-C or (with --stdin-eof) the end of its input.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from pathlib import Path

import trio

from core.trouble import first_of
from p2p.book_file import BookFile
from p2p.discovery import Discovery, DiscoveryPorts
from p2p.identity import Identity, IdentityUnusable
from p2p.offer_exchange import OfferExchange
from p2p.swarm import Swarm
from p2p.swarm_errors import SwarmError

log = logging.getLogger(__name__)


def main() -> int:
    """0 after a clean stop; 1 and one sentence on stderr when it cannot run."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        trio.run(_run, _arguments())
    except (SwarmError, IdentityUnusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bootstrap_node", description="A peer that others meet through.")
    parser.add_argument("--home", type=Path, required=True, help="where its identity lives")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument("--network", default="devnet", help="the network's swarm id: `starling network info` says it")
    parser.add_argument("--listen-ip", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--bootstrap", action="append", default=[], help="another bootstrap peer's address")
    parser.add_argument("--find-on-lan", action="store_true", help="be found by peers on the LAN, by multicast DNS")
    parser.add_argument("--stdin-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    identity = Identity.open(arguments.home / "keys" / "peer.key")
    swarm = Swarm(
        identity,
        port=arguments.port,
        bootstrap=tuple(arguments.bootstrap),
        network=arguments.network,
        listen_ip=arguments.listen_ip,
    )
    swarm.is_meeting_point = True
    OfferExchange(identity, swarm, network=arguments.network)
    discovery = _discovery(swarm, arguments)
    await discovery.load()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, nursery.cancel_scope)
            await nursery.start(swarm.run)
            nursery.start_soon(discovery.run)
            sys.stdout.write(json.dumps({"addresses": swarm.addresses(), "peer_id": swarm.peer_id}) + "\n")
            sys.stdout.flush()
            if arguments.stdin_eof:
                nursery.start_soon(_stop_on_eof, nursery.cancel_scope)
    except* SwarmError as group:
        raise first_of(group) from None


def _discovery(swarm: Swarm, arguments: argparse.Namespace) -> Discovery:
    book = BookFile(arguments.home / "peers.json")
    ports = DiscoveryPorts(load=book.load, save=book.save, warn=log.warning)
    return Discovery(swarm, network=arguments.network, ports=ports, finds_on_lan=arguments.find_on_lan)


async def _stop_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return


async def _stop_on_eof(scope: trio.CancelScope) -> None:
    await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
    scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
