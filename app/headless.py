"""The engine's process edge: runs a node and turns what stands in its way into one sentence and an exit code.

stdout stays empty; stderr gets a line when the engine is ready and for what happens to it; the last says why it ended.
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import suppress

import trio

from app.lockfile import HomeLocked
from app.logs import log_to
from app.node import EngineWords, run_node
from core.home import Home
from core.model_trouble import ModelStoreError
from core.network import NetworkError
from core.payments.chain_values import ChainError
from core.payments.keystore import WalletLocked
from core.settings import SettingsError
from core.store import StoreError
from core.trouble import Trouble, trouble_of

KNOWN = (HomeLocked, SettingsError, NetworkError, StoreError, ModelStoreError, ChainError, WalletLocked, OSError)


def run_headless(arguments: argparse.Namespace, home: Home) -> int:
    """Run until told to quit; 0 when that was asked for, 1 when the engine cannot work."""
    words = EngineWords(
        home=home,
        network=arguments.network,
        port=arguments.port,
        model=arguments.model,
        join=arguments.join,
    )
    screen = _Screen()
    try:
        log_to(home, "engine")
        trio.run(run_node, words, screen.tell)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge: unknown ones are raised again
        if (sentence := str(_explained(error))) != screen.last:
            screen.tell(sentence)
        return 1
    screen.tell("Starling has stopped.")
    return 0


class _Screen:
    """stderr, for as long as somebody reads it."""

    def __init__(self) -> None:
        self.last = ""

    def tell(self, line: str) -> None:
        self.last = line
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def _explained(error: BaseException) -> Trouble:
    try:
        return trouble_of(error, known=KNOWN)
    except BaseException:
        logging.getLogger("starling").exception("the engine ended unexpectedly")
        raise
