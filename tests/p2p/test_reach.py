"""Strangers dial us back before we say that strangers can; whoever we dial for others is the one that asks."""

from __future__ import annotations

import pytest
import trio

from core.framing import encode_frame
from core.job import PeerId
from p2p.byte_stream import StreamBroken
from p2p.identity import Identity
from p2p.one_message import receive_message
from p2p.reach import (
    CHECKS_A_MINUTE_AND_PEER,
    DIALS_A_MINUTE_AND_IP,
    TRIES_FOR_PRIVATE,
    DialBackLimit,
    Reachability,
    Standing,
    address_fault,
    after_failed,
    after_reached,
    after_seen,
    dial_back_addresses,
    needs_relay,
    recheck_after_s,
    third_peers,
)
from p2p.reach_messages import REACH_PROTOCOL, Checked, CheckReach, DialBack, Dialled, Reached
from p2p.relay_book import RelayBook, RelayLimits
from p2p.relay_seats import keep_reachable
from p2p.swarm import Swarm
from tests.p2p.swarms import until

NONCE = "ab" * 16
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
MINE = Standing(Reachability.PUBLIC, ("/ip4/45.0.0.1/tcp/4001",), (("45.0.0.1", 4001),))


def test_a_stranger_that_reached_us_makes_us_public_at_that_address() -> None:
    assert after_reached(after_seen(Standing(), ip="45.0.0.1", port=4001), "/ip4/45.0.0.1/tcp/4001") == MINE


def test_only_several_failures_in_a_row_make_us_private() -> None:
    standing = MINE
    for _ in range(TRIES_FOR_PRIVATE - 1):
        standing = after_failed(standing)
        assert standing.reachability is Reachability.PUBLIC
    assert after_failed(standing).reachability is Reachability.PRIVATE
    assert after_failed(after_reached(standing, MINE.addresses[0])).reachability is Reachability.PUBLIC


def test_another_network_voids_what_was_known_and_another_port_does_not() -> None:
    assert after_seen(MINE, ip="46.0.0.1", port=1).reachability is Reachability.UNKNOWN
    assert after_seen(MINE, ip="45.0.0.1", port=9).reachability is Reachability.PUBLIC


def test_who_is_private_or_unknown_without_a_public_address_needs_a_relay() -> None:
    private = after_failed(after_failed(Standing()))
    assert [needs_relay(s, ["192.168.1.2"]) for s in (MINE, private, Standing())] == [False, True, True]
    assert not needs_relay(Standing(), ["192.168.1.2", "45.0.0.1"])


def test_the_unknown_is_looked_at_again_soon_and_then_more_rarely() -> None:
    pauses = [recheck_after_s(Standing(), tries) for tries in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 1.0
    assert pauses[-1] <= recheck_after_s(after_failed(after_failed(Standing())), 0) < recheck_after_s(MINE, 0)


@pytest.mark.parametrize(
    ("addresses", "asker_ip", "is_fine"),
    [
        (("/ip4/45.0.0.1/tcp/1", "/ip4/45.0.0.1/tcp/2"), "46.0.0.1", True),
        (("/ip4/45.0.0.1/tcp/1", "/ip4/45.0.0.2/tcp/1"), "46.0.0.1", False),
        (("/ip4/192.168.1.1/tcp/80",), "46.0.0.1", False),
        (("/ip4/127.0.0.1/tcp/80",), "46.0.0.1", False),
        (("/ip4/127.0.0.1/tcp/80",), "127.0.0.1", True),
        (("/ip4/224.0.0.1/tcp/80",), "127.0.0.1", False),
        (("/dns4/example.org/tcp/80",), "46.0.0.1", False),
        (("nonsense",), "46.0.0.1", False),
        ((), "46.0.0.1", False),
    ],
)
def test_nobody_can_make_us_dial_into_our_own_network_or_all_over_the_place(
    addresses: tuple[str, ...], asker_ip: str, is_fine: bool
) -> None:
    assert (address_fault(addresses, asker_ip=asker_ip) is None) is is_fine


def test_the_ports_that_a_peer_claims_are_tried_at_the_address_that_it_is_seen_at() -> None:
    tried = dial_back_addresses("45.0.0.1", (4001, 4001), seen_port=9)
    assert tried == ("/ip4/45.0.0.1/tcp/4001", "/ip4/45.0.0.1/tcp/9")
    assert dial_back_addresses("::1", (1,), seen_port=1) == ("/ip6/::1/tcp/1",)


def test_a_peer_behind_the_askers_own_nat_is_not_asked_to_dial_it() -> None:
    ips = {A: "45.0.0.1", B: "45.0.0.1", C: "46.0.0.1"}
    assert third_peers([A, B, C], ip_of=ips, asker=A) == [C]
    assert third_peers([A, B], ip_of=ips, asker=A) == []
    assert third_peers([A, B], ip_of={A: "127.0.0.1", B: "127.0.0.1"}, asker=A) == [B]


def test_dials_for_others_are_few_a_minute_and_come_back_with_the_minute() -> None:
    limit = DialBackLimit()
    assert [limit.may_dial("45.0.0.1", now=0.0) for _ in range(9)].count(True) == DIALS_A_MINUTE_AND_IP
    assert [limit.may_check(A, now=0.0) for _ in range(9)].count(True) == CHECKS_A_MINUTE_AND_PEER
    assert limit.may_check(B, now=0.0)
    assert limit.may_dial("45.0.0.1", now=61.0)


class Peer:
    """A swarm that looks at its own reachability."""

    def __init__(self, seed: int, bootstrap: tuple[str, ...] = ()) -> None:
        self.swarm = Swarm(Identity(bytes([seed]) * 32), port=0, bootstrap=bootstrap, network="testnet")
        self.reach = keep_reachable(self.swarm)


async def test_a_peer_that_a_stranger_can_dial_learns_that_it_is_public() -> None:
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            middle = Peer(1)
            await nursery.start(middle.swarm.run)
            third, asker = Peer(2, middle.swarm.addresses()), Peer(3, middle.swarm.addresses())
            await nursery.start(third.swarm.run)
            await until(lambda: third.swarm.peer_count)
            await nursery.start(asker.swarm.run)
            # Each is the other's stranger, once: whoever was dialled first stays connected to who dialled.
            peers = (third, asker)
            await until(lambda: any(peer.reach.standing.addresses for peer in peers))
            (reached,) = [peer for peer in peers if peer.reach.standing.addresses]
            assert reached.reach.standing.reachability is Reachability.PUBLIC
            assert reached.reach.standing.addresses[0] in reached.swarm.addresses()[0]
            nursery.cancel_scope.cancel()


async def test_a_nonce_from_who_was_connected_already_is_not_believed() -> None:
    """The middle peer would have us believe that we are public: it brings the nonce itself."""
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            liar = Swarm(Identity(b"\1" * 32), port=0, bootstrap=(), network="testnet")
            lied = trio.Event()

            async def lie(stream, peer) -> None:  # type: ignore[no-untyped-def]
                asked = await receive_message(stream, CheckReach, most=2_048, within_s=5)
                told = await liar.open(peer, REACH_PROTOCOL)
                await told.write(encode_frame(Reached(asked.nonce, "/ip4/127.0.0.1/tcp/1")))
                await told.close()
                await told.read()
                await stream.write(encode_frame(Checked("127.0.0.1", 1, was_tried=True)))
                await stream.close()
                await stream.read()
                lied.set()

            liar.serve(REACH_PROTOCOL, lie)
            await nursery.start(liar.run)
            asker = Peer(2, liar.addresses())
            await nursery.start(asker.swarm.run)
            await lied.wait()
            assert asker.reach.standing.reachability is not Reachability.PUBLIC
            nursery.cancel_scope.cancel()


async def test_who_asks_for_a_dial_somewhere_else_gets_a_refusal() -> None:
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            victim = Peer(1)
            await nursery.start(victim.swarm.run)
            asker = Swarm(Identity(b"\2" * 32), port=0, bootstrap=victim.swarm.addresses(), network="testnet")
            await nursery.start(asker.run)
            await until(lambda: asker.peer_count)
            stream = await asker.open(victim.swarm.peer_id, REACH_PROTOCOL)
            stranger = Identity(b"\3" * 32).peer_id
            await stream.write(encode_frame(DialBack(stranger, ("/ip4/224.0.0.1/tcp/80",), NONCE)))
            answer = await receive_message(stream, Dialled, most=2_048, within_s=5)
            assert (answer.was_tried, answer.fault) == (False, "the address is not one to dial for a stranger")
            await stream.reset()
            with pytest.raises(StreamBroken):
                await receive_message(stream, Dialled, most=2_048, within_s=5)
            nursery.cancel_scope.cancel()


async def test_a_peer_that_needs_a_relay_takes_a_place_and_announces_it() -> None:
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            relay = Peer(1)
            relay.swarm.serve_relay(RelayBook(RelayLimits()))
            await nursery.start(relay.swarm.run)
            private = Peer(2, relay.swarm.addresses())
            await nursery.start(private.swarm.run)
            await until(lambda: any("/p2p-circuit" in address for address in private.swarm.addresses()))
            nursery.cancel_scope.cancel()
