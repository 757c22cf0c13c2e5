"""The chain of a development network, as a process of its own: `python -m app.devnet_chain --home DIR`.

Prints one JSON line {"rpc", "chain_id", "backend"} on stdout when ready, and runs until SIGTERM, SIGINT, or the end of
stdin where stdin is a pipe. What can't work is one sentence on stderr and exit code 1. Its money is worth nothing;
it must never listen beyond the loopback interface.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import msgspec

from app.devnet_anvil import AnvilFailed, run_anvil
from app.devnet_evm import EvmChain, WrongChainId
from app.devnet_methods import Methods
from app.devnet_rpc import RpcServer
from app.devnet_store import ChainInUse

CHAIN_ID = 31_337
CONFIRMATIONS = 12  # as deep as empty blocks bury a transaction; then the chain rests until the next one
PY_EVM, ANVIL = "py-evm", "anvil"
_CHAIN_FILE = "chain.sqlite"
_ANVIL_FILE = "anvil.json"


class Ready(msgspec.Struct, frozen=True):
    """What is printed when the chain answers."""

    rpc: str
    chain_id: int
    backend: str


class Request(msgspec.Struct, frozen=True):
    """What the command line asked for. block_time_s is between empty blocks; 0: blocks come with transactions only."""

    home: Path
    port: int
    chain_id: int
    backend: str
    block_time_s: float


class Unable(Exception):
    """The chain can't run; the message is one sentence for whoever started it."""


def main() -> int:
    """Run until told to stop; the process's exit code."""
    request = _request(sys.argv[1:])
    stop = Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    _watch_stdin(stop)
    try:
        run(request, stop, announce=_print_ready)
    except Unable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def run(request: Request, stop: Event, *, announce: Callable[[Ready], None]) -> None:
    """Serve until `stop` is set; `announce` hears once that the chain answers. Raises Unable."""
    request.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _backend(request) == ANVIL:
        try:
            run_anvil(
                ["--port", str(request.port), "--chain-id", str(request.chain_id), *_anvil_blocks(request)],
                state=request.home / _ANVIL_FILE,
                stop=stop,
                announce=lambda rpc: announce(Ready(rpc, request.chain_id, ANVIL)),
            )
        except AnvilFailed as error:
            raise Unable(f"The development chain could not start: {error}.") from error
    else:
        _run_py_evm(request, stop, announce=announce)


def _run_py_evm(request: Request, stop: Event, *, announce: Callable[[Ready], None]) -> None:
    chain = _open_chain(request)
    methods = Methods(chain)
    try:
        server = RpcServer(methods, request.port)
    except OSError as error:
        raise Unable(f"The development chain could not start: port {request.port} is in use.") from error
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    announce(Ready(server.url, request.chain_id, PY_EVM))
    while not stop.wait(request.block_time_s or None):
        methods.confirm(CONFIRMATIONS)
    server.shutdown()
    server.server_close()
    methods.close()


def _open_chain(request: Request) -> EvmChain:
    path = request.home / _CHAIN_FILE
    try:
        return EvmChain(path, request.chain_id)
    except ChainInUse as error:
        raise Unable(f"The development chain in {request.home} is already running.") from error
    except WrongChainId as error:
        raise Unable(f"The development chain in {request.home} can't be used: {error}.") from error


def _anvil_blocks(request: Request) -> list[str]:
    return ["--block-time", str(request.block_time_s), "--mixed-mining"] if request.block_time_s else []


def _backend(request: Request) -> str:
    """The one asked for; else the one that made this home; else anvil where it is installed."""
    if request.backend != "auto":
        return request.backend
    if (request.home / _CHAIN_FILE).exists():
        return PY_EVM
    is_anvil_home = (request.home / _ANVIL_FILE).exists()
    return ANVIL if is_anvil_home or shutil.which(ANVIL) else PY_EVM


def _request(words: list[str]) -> Request:
    parser = argparse.ArgumentParser(prog="python -m app.devnet_chain", description="Run a development chain.")
    parser.add_argument("--home", type=Path, required=True, help="folder that keeps the chain")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--backend", choices=["auto", PY_EVM, ANVIL], default="auto")
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds between empty blocks; 0: none")
    asked = parser.parse_args(words)
    return Request(asked.home, asked.port, asked.chain_id, asked.backend, asked.block_time)


def _watch_stdin(stop: Event) -> None:
    """End with the parent, if it holds the other end of our stdin; /dev/null and terminals say nothing."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        Thread(target=_wait_for_end, args=(stop,), daemon=True).start()


def _wait_for_end(stop: Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _print_ready(ready: Ready) -> None:
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
