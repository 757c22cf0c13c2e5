"""The adapter's own laws. Those that answer a fault of libp2p 0.8.1 are in tests/p2p/findings/, beside the fault."""

from __future__ import annotations

import inspect

import pytest
import trio
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from p2p.libp2p_adapter import self_test
from p2p.libp2p_adapter.duplicates import doomed_of
from p2p.libp2p_adapter.kademlia import Kademlia
from p2p.libp2p_adapter.muxer import Muxer, Muxers
from p2p.libp2p_adapter.network import Host, KnownPeers, Network, NoAutoConnector
from p2p.libp2p_adapter.peer_host import PeerHost
from p2p.libp2p_adapter.provider_records import ProviderRecords
from p2p.libp2p_adapter.supervision import supervise
from p2p.libp2p_adapter.tcp import Tcp, WholeWrites
from p2p.libp2p_adapter.traffic import Traffic
from p2p.libp2p_adapter.turns import Turns
from p2p.swarm_errors import LibraryChanged, PeerUnreachable
from tests.p2p.hosts import ECHO, a_host, identity, is_alive, joined, running, says

OURS = (Network, Host, Muxer, Muxers, Tcp, WholeWrites, NoAutoConnector, KnownPeers, Kademlia, ProviderRecords)


def test_another_library_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    self_test.check_library()
    monkeypatch.setattr(self_test, "VERSION", "9.9.9")
    with pytest.raises(LibraryChanged, match=r"needs libp2p 9\.9\.9"):
        self_test.check_library()
    monkeypatch.undo()
    monkeypatch.setattr(self_test, "REPLACED", ((PeerHost, ("gone",)),))
    with pytest.raises(LibraryChanged, match=r"PeerHost\.gone"):
        self_test.check_library()


@pytest.mark.parametrize("ours", OURS, ids=lambda ours: ours.__name__)
def test_whatever_is_replaced_is_looked_for_at_the_start(ours: type) -> None:
    stock = ours.__mro__[1]
    replaced = {name for name, _ in inspect.getmembers(ours, inspect.isfunction) if name in vars(ours)}
    replaced = {name for name in replaced if hasattr(stock, name) and not name.startswith("__")}
    checked = {name for owner, names in self_test.REPLACED if issubclass(stock, owner) for name in names}
    assert replaced - checked == set()


def test_a_lost_method_of_stock_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(KadDHT, "handle_stream")
    with pytest.raises(LibraryChanged, match=r"KadDHT\.handle_stream"):
        a_host(1)


async def test_counters_say_what_was_carried_and_refused() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        stream = await one.open_stream(await joined(one, other, 2), ECHO)
        assert await says(stream, b"x" * 1_000) == b"x" * 1_000
        mine, theirs = one.metrics(), other.metrics()
        assert (mine.connections, mine.connections_in, mine.connections_out) == (1, 0, 1)
        assert (theirs.connections, theirs.connections_in, theirs.connections_out) == (1, 1, 0)
        assert mine.bytes_out > 1_000 < mine.bytes_in
        assert mine.streams_out >= 1 <= theirs.streams_in
        assert mine.dials == 1 == theirs.dials + 1


async def test_a_failing_service_starts_again_after_growing_pauses(autojump_clock: object) -> None:
    traffic, began = Traffic(), []

    async def fail() -> None:
        began.append(trio.current_time())
        raise ZeroDivisionError

    with trio.move_on_after(200):
        await supervise("test", fail, traffic=traffic)
    pauses = [round(b - a, 2) for a, b in zip(began, began[1:], strict=False)]
    assert pauses[:8] == [0.25, 0.5, 1, 2, 4, 8, 16, 30]
    assert traffic.service_restarts == len(began)


async def test_a_dht_that_fails_does_not_end_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = a_host(1), a_host(2)

    async def fail(self: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Kademlia, "run", fail)
        async with running(one, other):
            with trio.fail_after(5):
                while not one.metrics().service_restarts:
                    await trio.sleep(0.01)
            assert await is_alive(one, other, 2)


async def test_who_comes_second_waits_for_the_first() -> None:
    turns, order = Turns(), []

    async def take(name: str) -> None:
        async with turns.of("peer"):
            order.append(name)
            await trio.lowlevel.checkpoint()
            order.append(name)

    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(take, name)
    assert order in (list("aabb"), list("bbaa"))
    assert not turns._locks


class Connection:
    """As much of a connection as the choice looks at."""

    def __init__(self, direction: object, kind: object) -> None:
        self.direction = direction
        self._kind = kind

    def get_connection_type(self) -> object:
        return self._kind


def test_both_ends_of_two_connections_spare_the_same_one() -> None:
    from libp2p.abc import ConnectionType
    from libp2p.rcmgr.metrics import Direction

    mine, theirs = (Connection(way, ConnectionType.DIRECT) for way in (Direction.OUTBOUND, Direction.INBOUND))
    mine_there, theirs_there = (
        Connection(way, ConnectionType.DIRECT) for way in (Direction.INBOUND, Direction.OUTBOUND)
    )
    here = doomed_of(mine, theirs, own_id="a", peer_id="b")
    assert here is theirs
    assert doomed_of(theirs, mine, own_id="a", peer_id="b") is theirs
    assert doomed_of(mine_there, theirs_there, own_id="b", peer_id="a") is theirs_there
    relayed = Connection(Direction.INBOUND, ConnectionType.RELAYED)
    assert doomed_of(relayed, mine, own_id="b", peer_id="a") is relayed
    assert doomed_of(mine, relayed, own_id="b", peer_id="a") is relayed


async def test_peers_who_dial_each_other_at_once_end_with_one_connection() -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(joined, one, other, 2)
            nursery.start_soon(joined, other, one, 1)
        with trio.fail_after(5):
            while one.metrics().connections != 1 or other.metrics().connections != 1:
                await trio.sleep(0.01)
        await trio.sleep(0.2)
        assert await is_alive(one, other, 2)
        assert await is_alive(other, one, 1)


def test_a_peer_cannot_fill_the_store_with_addresses() -> None:
    store, peer = KnownPeers(), ID.from_base58(identity(1).peer_id)
    for number in range(200):
        store.add_addrs(peer, [Multiaddr(f"/ip4/192.0.2.{number}/tcp/1")], 100)
    store.add_protocols(peer, [f"/p/{number}" for number in range(1_000)])
    assert len(store.addrs(peer)) == 16
    assert str(store.addrs(peer)[-1]) == "/ip4/192.0.2.199/tcp/1"
    assert len(store.get_protocols(peer)) == 128


async def test_a_stream_that_opens_while_its_swarm_is_left_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = a_host(1), a_host(2)
    async with running(one, other) as nursery:
        peer = await joined(one, other, 2)
        opens = one._host.new_stream

        async def slowly(*wanted: object) -> object:
            opened = await opens(*wanted)
            nursery.cancel_scope.cancel()
            monkeypatch.setattr(one, "_nursery", None)
            return opened

        monkeypatch.setattr(one._host, "new_stream", slowly)
        with pytest.raises(PeerUnreachable, match="left"):
            await one.open_stream(peer, ECHO)
