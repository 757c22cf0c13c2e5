"""A network of one's own on this computer: the embedded chain, the contracts, a bootstrap peer, and its network file.

Its money is worth nothing. Never listens beyond the loopback interface.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import msgspec

from app.child import Child, ChildFailed, end_on_signals
from core.network import Network, NetworkError, dump_network, load_network
from core.payments.chain_values import ChainError
from core.payments.devnet_deploy import deploy

NAME = "devnet"
CHAIN_ID = 31_337

Tell = Callable[[str], None]


class Devnet:
    """Started on entering, stopped on leaving. Kept in its folder: a second start goes on where the first stopped."""

    def __init__(self, folder: Path, *, tell: Tell, chain_port: int = 0, bootstrap_port: int = 0) -> None:
        self._folder = folder
        self._tell = tell
        self._ports = (chain_port, bootstrap_port)
        self._stack = ExitStack()
        self.backend = ""
        self.network: Network | None = None

    @property
    def network_file(self) -> Path:
        """What peers are given to join."""
        return self._folder / "network.toml"

    def __enter__(self) -> Devnet:
        with ExitStack() as starting:
            self._start(starting)
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        chain_port, bootstrap_port = self._ports
        self._tell("Starting the embedded chain")
        words = ["app.devnet_chain", "--home", str(self._folder / "chain"), "--port", str(chain_port)]
        chain = stack.enter_context(Child("chain", words, log=self._folder / "logs" / "chain.log"))
        ready = chain.line()
        self.backend = str(ready["backend"])
        known = self._known(int(ready["chain_id"]))
        if known is None:
            self._tell(f"Deploying token and escrow on {self.backend}")
            made = deploy(ready["rpc"])
            known = Network(
                name=NAME,
                chain_id=made.chain_id,
                rpc=ready["rpc"],
                escrow=made.escrow,
                token=made.token,
                symbol=made.symbol,
                decimals=made.decimals,
                is_devnet=True,
            )
        self._tell("Starting the bootstrap peer")
        words = ["p2p.bootstrap_node", "--home", str(self._folder / "bootstrap"), "--port", str(bootstrap_port)]
        words += ["--network", known.swarm_id, "--stdin-eof"]
        node = Child("bootstrap peer", words, log=self._folder / "logs" / "bootstrap.log")
        addresses = tuple(stack.enter_context(node).line()["addresses"])
        self.network = msgspec.structs.replace(known, rpc=ready["rpc"], bootstrap=addresses)
        self.network_file.write_bytes(dump_network(self.network))

    def _known(self, chain_id: int) -> Network | None:
        """The contracts of an earlier start, if they are of this chain."""
        if not self.network_file.exists():
            return None
        found = load_network(self.network_file.read_bytes(), source=str(self.network_file))
        return found if found.chain_id == chain_id else None


def run_devnet(folder: Path, *, chain_port: int, bootstrap_port: int) -> int:
    """`starling devnet`: up until Ctrl-C; 1 with one sentence when it cannot start."""

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    end_on_signals()
    try:
        with Devnet(folder, tell=tell, chain_port=chain_port, bootstrap_port=bootstrap_port) as devnet:
            tell(f"Ready. Peers join with: starling --network {devnet.network_file}")
            tell("Ctrl-C stops it.")
            _hold(tell)
    except (ChildFailed, ChainError, NetworkError, OSError) as error:
        tell(str(error))
        return 1
    return 0


def _hold(tell: Tell) -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        tell("Stopping.")
