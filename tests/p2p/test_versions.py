"""Peers of different ages speak the newest version that both know; each version is served by its own code."""

from __future__ import annotations

import pytest

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import ByteStream
from p2p.messages import QUERY_PROTOCOL, Ping, Pong, Query, QueryAnswer
from p2p.one_message import receive_message
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.swarms import Member, a_member, running

OLDER = QUERY_PROTOCOL
NEWER = "/starling/query/1.1.0"


async def answer_newer(stream: ByteStream, peer: PeerId) -> None:
    """A made-up next version: it answers every ping with one more."""
    ping = await receive_message(stream, Query, most=1_024, within_s=5)
    await stream.write(encode_frame(Pong(ping.number + 1)))
    await stream.close()
    await stream.read()


async def asked(asker: Member, answerer: Member, *versions: str) -> tuple[str, int]:
    version, stream = await asker.swarm.open_newest(
        answerer.peer_id, versions, addresses=answerer.swarm.addresses()
    )
    await stream.write(encode_frame(Ping(5)))
    await stream.close()
    answer = await receive_message(stream, QueryAnswer, most=1_024, within_s=5)
    await stream.reset()
    return version, answer.number


async def test_two_new_peers_speak_the_newest_and_a_new_one_speaks_old_with_an_old_one() -> None:
    new, old, asker = a_member(1), a_member(2), a_member(3)
    new.swarm.serve(NEWER, answer_newer)
    async with running(new, old, asker):
        assert await asked(asker, new, NEWER, OLDER) == (NEWER, 6)
        assert await asked(asker, old, NEWER, OLDER) == (OLDER, 5)
        assert await asked(asker, new, OLDER) == (OLDER, 5)


async def test_peers_without_a_common_version_do_not_speak() -> None:
    old, asker = a_member(1), a_member(2)
    async with running(old, asker):
        with pytest.raises(PeerUnreachable):
            await asked(asker, old, NEWER, "/starling/query/2.0.0")
