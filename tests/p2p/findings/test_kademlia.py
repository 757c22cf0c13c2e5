"""Faults of stock Kademlia beyond the twenty: strangers' values are kept, silence takes all turns, all is unbounded."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.utils.varint import encode_uvarint
from multiaddr import Multiaddr

from p2p.libp2p_adapter import kademlia, provider_records
from p2p.libp2p_adapter.limits import RateLimit
from p2p.libp2p_adapter.provider_records import ProviderRecords
from tests.p2p.findings.stock import a_stock_host, connect, stock_running
from tests.p2p.hosts import a_host, identity, is_alive, joined, running

PUBLIC = "/ipfs/kad/1.0.0"
OURS = "/starling/test/kad/1.0.0"
KEY = b"\x12\x20" + b"k" * 32
SOMEWHERE = Multiaddr("/ip4/192.0.2.1/tcp/1")


async def open_dht(muxed: Any, protocol: str) -> Any:
    stream = await muxed.open_stream()
    line = protocol.encode() + b"\n"
    await stream.write(b"\x13/multistream/1.0.0\n" + encode_uvarint(len(line)) + line)
    heard = b""
    while not heard.endswith(line):
        heard += await stream.read(100)
    return stream


async def answer_to(muxed: Any, protocol: str, question: bytes) -> bytes:
    """What comes back, or b"" when the stream is closed or 3 s have passed."""
    stream = await open_dht(muxed, protocol)
    with trio.move_on_after(3):
        try:
            await stream.write(encode_uvarint(len(question)) + question)
            return bytes(await stream.read(100_000))
        except Exception:  # noqa: BLE001
            return b""
    return b""


def question(kind: Any, key: bytes = KEY, *, value: bytes = b"") -> bytes:
    message = Message(type=kind, key=key)
    if value:
        message.record.key, message.record.value = key, value
    return message.SerializeToString()


def add_provider(peer: Any, key: bytes, addresses: int = 1) -> bytes:
    message = Message(type=Message.MessageType.ADD_PROVIDER, key=key)
    provider = message.providerPeers.add()
    provider.id = peer.to_bytes()
    provider.addrs.extend(Multiaddr(f"/ip4/192.0.2.1/tcp/{port + 1}").to_bytes() for port in range(addresses))
    return message.SerializeToString()


async def test_stock_keeps_values_that_mean_nothing_to_anyone() -> None:
    victim, attacker = a_stock_host(101), a_stock_host(102)
    kad = KadDHT(victim, DHTMode.SERVER)
    async with stock_running(victim, attacker):
        junk = question(Message.MessageType.PUT_VALUE, b"junk", value=bytes(500_000))
        assert await answer_to(await connect(attacker, victim), PUBLIC, junk)
        assert kad.get_value_store_size() == 1


async def test_values_are_neither_kept_nor_asked_for() -> None:
    victim, attacker = a_host(1), a_stock_host()
    async with running(victim), stock_running(attacker):
        muxed = await connect(attacker, victim)
        for junk in (
            question(Message.MessageType.PUT_VALUE, b"junk", value=bytes(500_000)),
            question(Message.MessageType.PUT_VALUE, b"junk", value=b"v"),
            question(Message.MessageType.GET_VALUE, b"junk"),
        ):
            assert await answer_to(muxed, OURS, junk) == b""
        assert victim._dht._kad.get_value_store_size() == 0
        assert victim.metrics().refused_dht_queries == 3


async def test_stock_answers_nobody_while_twelve_streams_are_silent() -> None:
    victim, attacker, honest = a_stock_host(101), a_stock_host(102), a_stock_host(103)
    KadDHT(victim, DHTMode.SERVER)
    async with stock_running(victim, attacker, honest):
        muxed = await connect(attacker, victim)
        held = [await open_dht(muxed, PUBLIC) for _ in range(12)]
        ping = question(Message.MessageType.PING)
        assert await answer_to(await connect(honest, victim), PUBLIC, ping) == b""
        assert len(held) == 12


async def test_silent_streams_leave_others_their_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kademlia, "DHT_READ_S", 0.5)
    victim, attacker, honest = a_host(1), a_stock_host(101), a_stock_host(102)
    async with running(victim), stock_running(attacker, honest):
        muxed = await connect(attacker, victim)
        held = [await open_dht(muxed, OURS) for _ in range(20)]
        ping = question(Message.MessageType.PING)
        assert await answer_to(await connect(honest, victim), OURS, ping)
        with trio.fail_after(5):
            while victim.metrics().refused_dht_queries < len(held):
                await trio.sleep(0.02)


async def test_malformed_questions_end_their_stream_only() -> None:
    victim, attacker, other = a_host(1), a_stock_host(), a_host(2)
    async with running(victim, other), stock_running(attacker):
        muxed = await connect(attacker, victim)
        for junk in (b"\xff" * 40, b"", question(Message.MessageType.FIND_NODE, b"x" * 200), bytes(100_000)):
            assert await answer_to(muxed, OURS, junk) == b""
        assert await is_alive(other, victim, 1)
        assert await other.provide(KEY)


async def test_a_provider_speaks_for_itself_alone_with_few_addresses() -> None:
    victim, attacker = a_host(1), a_stock_host()
    async with running(victim), stock_running(attacker):
        muxed = await connect(attacker, victim)
        assert await answer_to(muxed, OURS, add_provider(attacker.get_id(), KEY, addresses=100))
        await answer_to(muxed, OURS, add_provider(ID.from_base58(identity(9).peer_id), KEY))
        (record,) = victim._dht._kad.provider_store.get_providers(KEY)
        assert record.peer_id == attacker.get_id()
        assert len(record.addrs) == 8


def a_provider(number: int) -> PeerInfo:
    return PeerInfo(ID(b"\x00\x24" + number.to_bytes(36)), [SOMEWHERE])


async def test_stock_keeps_every_key_that_anyone_names() -> None:
    store = ProviderStore(a_stock_host())
    for number in range(5_000):
        store.add_provider(b"key" + number.to_bytes(4), a_provider(1))
    assert store.size() == 5_000


async def test_records_are_few_for_each_provider_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_records, "MAX_PROVIDER_KEYS", 100)
    store = ProviderRecords(a_stock_host(), None)
    for number in range(1_000):
        store.add_provider(b"key" + number.to_bytes(4), a_provider(1))
    assert store.size() == 64
    for number in range(1_000):
        store.add_provider(b"other" + number.to_bytes(4), a_provider(number))
    assert store.size() == 100
    store.add_provider(b"x" * 81, a_provider(2))
    assert store.get_providers(b"x" * 81) == []


async def test_records_end_after_an_hour_and_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ProviderRecords(a_stock_host(), None)
    for number in range(64):
        store.add_provider(b"key" + number.to_bytes(4), a_provider(1))
    later = time.time() + 3_601
    monkeypatch.setattr(time, "time", lambda: later)
    store.add_provider(b"new", a_provider(1))
    assert store.size() == 1
    assert store.get_providers(b"key" + bytes(4)) == []


def test_a_peer_that_asks_too_often_is_not_answered_in_that_second() -> None:
    rate = RateLimit(2)
    assert [rate.admits("a", now=1.0) for _ in range(3)] == [True, True, False]
    assert rate.admits("b", now=1.5)
    assert rate.admits("a", now=2.0)


async def test_questions_of_a_flood_are_refused_and_counted() -> None:
    victim, attacker, other = a_host(1), a_stock_host(), a_host(2)
    async with running(victim, other), stock_running(attacker):
        muxed = await connect(attacker, victim)
        stream = await open_dht(muxed, OURS)
        ping = question(Message.MessageType.PING)
        for _ in range(60):
            await stream.write(encode_uvarint(len(ping)) + ping)
        with trio.fail_after(5):
            while not victim.metrics().refused_dht_queries:
                await trio.sleep(0.02)
        await joined(other, victim, 1)
        assert await other.provide(KEY)
