"""`starling network deploy`: the escrow onto a chain, and the network file that peers use.

Says what it costs and asks first. Never spends before the chain is known to be the one that was named.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path

import msgspec

from app import network_files
from core.home import Home
from core.network import Network
from core.network_words import made_network
from core.payments.chain import EscrowChain
from core.payments.deployment import (
    EXIT_DELAY_S,
    PLAY_CHAINS,
    PLAY_EXIT_DELAY_S,
    Deployed,
    Deploying,
    DeployPlan,
    Estimate,
)
from core.payments.keystore import read_key_file
from core.private_file import write_private
from core.trouble import Trouble

ETHER = 10**18
CHAIN_TIMEOUT_S = 10.0


class DeployFile:
    """What was signed so far, in a file beside the network's. Implements Progress."""

    def __init__(self, path: Path, *, plan: DeployPlan) -> None:
        self._path = path
        self._plan = msgspec.to_builtins(plan)
        self._signed: dict[str, str] = {}
        if path.exists():
            said = msgspec.json.decode(path.read_bytes())
            if said["plan"] != self._plan:
                raise Trouble(f"{path} is of another deployment of that name. Finish that one, or remove the file.")
            self._signed = said["signed"]

    def signed(self, contract: str) -> bytes | None:
        """See Progress."""
        raw = self._signed.get(contract)
        return bytes.fromhex(raw) if raw else None

    def keep(self, contract: str, raw: bytes) -> None:
        """See Progress."""
        self._signed[contract] = raw.hex()
        write_private(self._path, msgspec.json.encode({"plan": self._plan, "signed": self._signed}))

    def done(self) -> None:
        """Nothing is left to go on with."""
        self._path.unlink(missing_ok=True)


def run_deploy(arguments: argparse.Namespace, home: Home) -> int:
    """0 when the contracts are there and the file is written. Raises Trouble, ChainError, NetworkError or
    WalletLocked."""
    plan = DeployPlan(arguments.chain_id, _exit_delay(arguments), arguments.token.lower())
    _network(arguments, Deployed(arguments.token or "0x" + "1" * 40, arguments.token or "0x" + "1" * 40, "T", 6, 0))
    deploying = Deploying(arguments.rpc, plan, tell=lambda words: print(words, file=sys.stderr))
    deploying.check()
    key = read_key_file(arguments.key_file, lambda: getpass.getpass("Passphrase of the key file: "))
    estimate = deploying.estimate(key)
    if not arguments.yes and not _agrees(estimate, arguments):
        print("Nothing was sent.", file=sys.stderr)
        return 1
    progress = DeployFile(home.networks / f"{arguments.name}.deploying.json", plan=plan)
    made = deploying.run(key, progress)
    network = _network(arguments, made)
    EscrowChain.connect(
        network.rpc, chain_id=network.chain_id, escrow=network.escrow, token=network.token, timeout_s=CHAIN_TIMEOUT_S
    )
    path = network_files.keep(network, home)
    progress.done()
    if arguments.json:
        print(json.dumps({"file": str(path), **msgspec.to_builtins(network), **msgspec.to_builtins(made)}))
    print(f"{path} is written. Choose it with `starling network use {network.name}`.", file=sys.stderr)
    return 0


def _exit_delay(arguments: argparse.Namespace) -> int:
    if arguments.exit_delay is not None:
        return int(arguments.exit_delay)
    return PLAY_EXIT_DELAY_S[1] if arguments.chain_id in PLAY_CHAINS else EXIT_DELAY_S[0]


def _agrees(estimate: Estimate, arguments: argparse.Namespace) -> bool:
    print(
        f"{estimate.sender} pays at most {estimate.most_wei / ETHER:.6f} of its {estimate.balance_wei / ETHER:.6f} "
        f"ether on chain {arguments.chain_id}.",
        file=sys.stderr,
    )
    if not sys.stdin.isatty():
        raise Trouble("Nobody is there to ask. Give --yes to go on.")
    return input("Deploy? [y/N] ").strip().lower() in ("y", "yes")


def _network(arguments: argparse.Namespace, made: Deployed) -> Network:
    """Raises NetworkError on a word that no network file may hold."""
    return made_network(
        {
            "name": arguments.name,
            "chain_id": arguments.chain_id,
            "rpc": arguments.rpc,
            "escrow": made.escrow,
            "token": made.token,
            "symbol": made.symbol,
            "decimals": made.decimals,
            "confirmations": arguments.confirmations,
            "bootstrap": arguments.bootstrap,
        }
    )
