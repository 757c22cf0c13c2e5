"""`starling relay`: a bootstrap peer and relay for operators, on a machine that everybody can dial.

Says in one sentence why it cannot run. Holds no rule of its own: p2p.relay_node does the work.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys

import trio

from app.lockfile import HomeLocked, try_lock
from app.node import EngineWords, read_network
from core.home import Home
from core.network import NetworkError
from core.still_heap import keep_heap
from core.trouble import Trouble
from p2p.identity import IdentityUnusable
from p2p.libp2p_adapter.interfaces import listen_addresses
from p2p.relay_node import RelayWords, run_relay_node
from p2p.swarm_errors import SwarmError

DEFAULT_PORT = 4_001


def run_relay(arguments: argparse.Namespace, home: Home) -> int:
    """0 after a clean stop; 1 and one sentence on stderr when it cannot run."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with (home.run / "relay.lock").open("a+", encoding="utf-8") as lock:
            if not try_lock(lock):
                raise HomeLocked(f"A relay already runs in {home.folder}. Stop it first, or use another --home.")
            words = _words(arguments, home)
            _warn_of_private(words)
            keep_heap()
            trio.run(run_relay_node, words)
    except (SwarmError, IdentityUnusable, HomeLocked, NetworkError, Trouble) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _words(arguments: argparse.Namespace, home: Home) -> RelayWords:
    network = read_network(EngineWords(home=home, network=arguments.network))
    return RelayWords(
        folder=home.folder / "relay",
        swarm=network.swarm_id,
        port=arguments.port if arguments.port is not None else DEFAULT_PORT,
        listen_ip=arguments.listen_ip,
        bootstrap=network.bootstrap,
        public_ips=tuple(arguments.public_ip),
        figures_every_s=arguments.metrics,
        ws_port=arguments.ws_port,
    )


def _warn_of_private(words: RelayWords) -> None:
    ips = (*words.public_ips, *listen_addresses(words.listen_ip))
    if not any(ipaddress.ip_address(ip).is_global for ip in ips):
        sys.stderr.write(
            "This computer has no public address of its own, so a relay here helps only its own network. "
            "If a router or a cloud forwards the port, name its address with --public-ip.\n"
        )
