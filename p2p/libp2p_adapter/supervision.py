"""Keep one service of the adapter running: a fault is logged and counted, and it starts again after a growing pause."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from p2p.libp2p_adapter.traffic import Traffic

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
STEADY_S = 60.0

log = logging.getLogger(__name__)


async def supervise(name: str, run: Callable[[], Awaitable[None]], *, traffic: Traffic) -> None:
    """Run until cancelled. A service that has run for a minute begins with the shortest pause again."""
    backoff_s = FIRST_BACKOFF_S
    while True:
        began = trio.current_time()
        try:
            await run()
            log.warning("the swarm's service %s ended by itself", name)
        except Exception as error:  # noqa: BLE001  one service's fault must not end the host
            log.warning("the swarm's service %s failed: %s", name, type(error).__name__)
        traffic.service_restarts += 1
        if trio.current_time() - began > STEADY_S:
            backoff_s = FIRST_BACKOFF_S
        await trio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
