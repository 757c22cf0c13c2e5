"""A relayed connection becomes a direct one where both ends can dial; nobody is made to dial a stranger's victim."""

from __future__ import annotations

import pytest
import trio
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr import Multiaddr

from core.job import PeerId
from p2p.byte_stream import StreamBroken
from p2p.libp2p_adapter.circuit_frames import MAX_FRAME_BYTES, CircuitFault, receive_frame, send_frame
from p2p.libp2p_adapter.dialer import DialledIps
from p2p.libp2p_adapter.hole_punch import DCUTR
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.path import Path
from p2p.punch_limit import ANSWERS_A_MINUTE_AND_PEER, MAX_ADDRESSES, PunchLimit, worth_dialling
from p2p.relay_book import RelayBook, RelayLimits
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.fakes import stream_pair
from tests.p2p.hosts import ECHO, a_host, identity, joined, running, says

PRIVATE, RELAY, STRANGER = 1, 2, 3
HOME = "/ip4/45.0.0.1/tcp/4001"


def seen(host: PeerHost) -> list[str]:
    return [address.partition("/p2p/")[0] for address in host.addresses() if "/p2p-circuit" not in address]


async def test_a_relayed_connection_becomes_direct_and_the_stream_on_it_goes_on() -> None:
    private, relay, stranger = a_host(PRIVATE), a_host(RELAY), a_host(STRANGER)
    relay.serve_relay(RelayBook(RelayLimits()))
    async with running(private, relay, stranger):
        await joined(private, relay, RELAY)
        await private.reserve(identity(RELAY).peer_id)
        private.set_seen(seen(private))
        stranger.set_seen(seen(stranger))
        peer = identity(PRIVATE).peer_id
        await stranger.connect(peer, [address for address in private.addresses() if "/p2p-circuit" in address])
        early = await stranger.open_stream(peer, ECHO)
        assert await says(early, b"relayed") == b"relayed"
        while stranger.path_of(peer) is not Path.DIRECT:
            await trio.sleep(0.01)
        assert await says(early, b"still") == b"still"
        assert await says(await stranger.open_stream(peer, ECHO), b"direct") == b"direct"


async def test_a_hole_punch_is_answered_on_a_relayed_connection_only() -> None:
    host, other = a_host(1), a_host(2)
    async with running(host, other):
        peer = await joined(other, host, 1)
        with pytest.raises((StreamBroken, PeerUnreachable)):
            stream = await other.open_stream(peer, DCUTR)
            await send_frame(stream, pb.HolePunch(type=pb.HolePunch.CONNECT, ObsAddrs=[Multiaddr(HOME).to_bytes()]))
            await receive_frame(stream, pb.HolePunch)


def test_only_the_public_addresses_of_one_machine_are_worth_a_punch() -> None:
    told = ["/ip4/192.168.1.2/tcp/4001", HOME, "/ip4/45.0.0.2/tcp/80", "/ip4/45.0.0.1/tcp/9"]
    assert worth_dialling(told, [HOME]) == [HOME, "/ip4/45.0.0.1/tcp/9"]
    assert worth_dialling([f"/ip4/45.0.0.1/tcp/{port}" for port in range(1, 99)], [HOME])[MAX_ADDRESSES:] == []
    assert worth_dialling(["/ip4/127.0.0.1/tcp/22"], [HOME]) == []
    assert worth_dialling(["/ip4/127.0.0.1/tcp/4001"], ["/ip4/127.0.0.1/tcp/4002"]) == ["/ip4/127.0.0.1/tcp/4001"]
    assert worth_dialling([], []) == []


def test_a_peer_is_tried_once_in_a_while_and_answered_a_few_times_a_minute() -> None:
    limit, peer = PunchLimit(), PeerId("a")
    assert [limit.may_try(peer, now=now) for now in (0.0, 1.0, 400.0)] == [True, False, True]
    assert [limit.may_answer(peer, now=0.0) for _ in range(9)].count(True) == ANSWERS_A_MINUTE_AND_PEER
    assert limit.may_answer(peer, now=61.0)


def test_an_address_that_we_have_dialled_is_remembered_as_long_as_a_nat_may() -> None:
    dialled = DialledIps()
    dialled.note(Multiaddr(HOME), now=0.0)
    assert [dialled.has("45.0.0.1", now=now) for now in (1.0, 599.0, 601.0)] == [True, True, False]
    assert not dialled.has("45.0.0.2", now=1.0)


@pytest.mark.parametrize("sent", [b"\xff\xff\x7f", b"\x03\xff\xff\xff", b"\x80\x40" + b"x" * 3 * MAX_FRAME_BYTES])
async def test_bytes_that_are_no_message_are_a_fault_and_no_more(sent: bytes) -> None:
    ours, theirs = stream_pair()
    await theirs.write(sent)
    with pytest.raises(CircuitFault):
        await receive_frame(ours, pb.HolePunch)
