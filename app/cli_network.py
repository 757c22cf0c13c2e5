"""`starling network`: what network this home belongs to, files for others, and the choice of one.

Works without an engine. Never changes the network of a home whose money lies in another one.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import trio

from app import network_files
from app.cli_deploy import run_deploy
from app.cli_text import table
from app.lockfile import is_home_locked
from core.home import Home
from core.journal import Journal
from core.network import Network, NetworkError
from core.network_words import made_network
from core.payments.chain_values import ChainError
from core.payments.keystore import WalletLocked
from core.store import Store, StoreError
from core.trouble import Trouble, trouble_of
from p2p.bootstrap_check import Answer, bootstrap_answers
from p2p.swarm_errors import SwarmError

KNOWN = (ChainError, NetworkError, StoreError, SwarmError, WalletLocked, OSError)


def run_network_word(arguments: argparse.Namespace, home: Home) -> int:
    """One deed; 0 when it was done."""
    try:
        match arguments.deed:
            case "info":
                return _tell(arguments, home)
            case "create":
                return _create(arguments, home)
            case "deploy":
                return run_deploy(arguments, home)
            case _:
                return _use(arguments, home)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge: unknown ones are raised again
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def _tell(arguments: argparse.Namespace, home: Home) -> int:
    if not arguments.name and not home.network.is_file():
        names = ", ".join(sorted(network_files.names(home))) or "none yet"
        raise Trouble(f"This computer belongs to no network yet. Choose one with `starling network use`: {names}.")
    path = network_files.network_named(arguments.name, home) if arguments.name else home.network
    network = network_files.read(path)
    answers = trio.run(bootstrap_answers, network)
    if arguments.json:
        print(json.dumps(network_object(network, answers, path=str(path))))
    else:
        print(network_text(network, answers, path=str(path)))
    return 0


def _create(arguments: argparse.Namespace, home: Home) -> int:
    words: dict[str, object] = {
        "name": arguments.name,
        "chain_id": arguments.chain_id,
        "rpc": arguments.rpc,
        "escrow": arguments.escrow,
        "token": arguments.token,
        "symbol": arguments.symbol,
        "decimals": arguments.decimals,
        "confirmations": arguments.confirmations,
        "bootstrap": arguments.bootstrap,
    }
    network = made_network(words)
    path = network_files.keep(network, home)
    if arguments.json:
        print(json.dumps(network_object(network, {}, path=str(path))))
    print(f"{path} is written. Choose it with `starling network use {network.name}`.", file=sys.stderr)
    return 0


def _use(arguments: argparse.Namespace, home: Home) -> int:
    path = network_files.network_named(arguments.name, home)
    network = network_files.read(path)
    _check_money(network, home)
    network_files.use(network, home)
    if arguments.json:
        print(json.dumps(network_object(network, {}, path=str(path))))
    later = " The running engine stays in the old one until it is started again." if is_home_locked(home) else ""
    print(f"This computer belongs to {network.name} now.{later}", file=sys.stderr)
    return 0


def _check_money(network: Network, home: Home) -> None:
    """Vouchers of one escrow are worth nothing in another network: a home stays with its own. Raises Trouble."""
    if not home.database.exists():
        return
    store = Store(home.database)
    try:
        known = Journal(store).state.network
    finally:
        store.close()
    if known is not None and (known.chain_id, known.escrow.lower()) != (network.chain_id, network.escrow.lower()):
        raise Trouble(
            f"{home.folder} belongs to {known.network} (chain {known.chain_id}), and its vouchers are good there only. "
            f"Use another --home for {network.name}."
        )


def network_object(network: Network, answers: dict[str, Answer], *, path: str) -> dict[str, Any]:
    """`starling network info --json`."""
    return {
        "name": network.name,
        "swarm_id": network.swarm_id,
        "file": path,
        "chain_id": network.chain_id,
        "rpc": network.rpc,
        "escrow": network.escrow,
        "token": network.token,
        "symbol": network.symbol,
        "decimals": network.decimals,
        "is_devnet": network.is_devnet,
        "bootstrap": [
            {"address": address, "answer": answers[address].value if address in answers else None}
            for address in network.bootstrap
        ],
    }


def network_text(network: Network, answers: dict[str, Answer], *, path: str) -> str:
    """`starling network info`."""
    rows = [
        ("Network", network.name + (" (its money is worth nothing)" if network.is_devnet else "")),
        ("Swarm id", network.swarm_id),
        ("File", path),
        ("Chain", f"{network.chain_id} at {network.rpc}"),
        ("Escrow", network.escrow),
        ("Token", f"{network.symbol}, {network.decimals} decimals, {network.token}"),
        *(("Bootstrap", f"{address}  {answers.get(address, Answer.SILENT)}") for address in network.bootstrap),
    ]
    if not network.bootstrap:
        rows.append(("Bootstrap", "none: peers are found on the LAN and in the address book alone"))
    return table(rows)
