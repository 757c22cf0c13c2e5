"""Does each bootstrap peer of a network answer, and is it of that network? Asked once, by a peer that goes at once.

Never joins anything, and never raises for what a peer does.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from functools import partial

import trio

from core.job import PeerId
from core.network import Network
from p2p.identity import Identity
from p2p.swarm import Swarm
from p2p.swarm_errors import OtherNetwork, PeerUnreachable

ANSWER_S = 6.0


class Answer(StrEnum):
    """How a bootstrap peer stands."""

    ANSWERS = "answers"
    SILENT = "does not answer"
    FOREIGN = "belongs to another network"


async def bootstrap_answers(network: Network) -> dict[str, Answer]:
    """One answer for each bootstrap address. Raises SwarmError when this computer cannot be a peer at all."""
    answers = dict.fromkeys(network.bootstrap, Answer.SILENT)
    swarm = Swarm(Identity(secrets.token_bytes(32)), port=0, bootstrap=(), network=network.swarm_id)
    swarm.is_passing, swarm.target_outbound = True, 0
    async with trio.open_nursery() as nursery:
        await nursery.start(swarm.run)
        async with trio.open_nursery() as asking:
            for address in network.bootstrap:
                asking.start_soon(partial(_ask, swarm, address, answers=answers))
        nursery.cancel_scope.cancel()
    return answers


async def _ask(swarm: Swarm, address: str, *, answers: dict[str, Answer]) -> None:
    with trio.move_on_after(ANSWER_S):
        try:
            await swarm.reach(PeerId(address.rpartition("/p2p/")[2]), (address,))
            answers[address] = Answer.ANSWERS
        except OtherNetwork:
            answers[address] = Answer.FOREIGN
        except PeerUnreachable:
            return
