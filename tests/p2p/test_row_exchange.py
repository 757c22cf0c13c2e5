"""Rows between peers: signed, bounded, rate-limited, believed only when checked, and silent unless the owner shares."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from core.device import DeviceKind
from core.framing import FrameDecoder, encode_frame
from core.job import PeerId
from core.metamodel.federation import MAX_ROWS, Heard, SharedRow
from p2p.byte_stream import ByteStream
from p2p.identity import Identity
from p2p.row_book import STALE, RowBook
from p2p.row_exchange import DAY_S, RowExchange, RowPorts
from p2p.row_messages import (
    MAX_AGE_DAYS,
    MAX_ROWS_BYTES,
    MAX_SETS,
    GetRows,
    Rows,
    SignedRows,
    rows_bytes,
    rows_fault,
)
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.fakes import MemoryStream, stream_pair

VECTORS = Path(__file__).parents[1] / "vectors" / "row_messages.json"
TODAY = 20_000
ROW = SharedRow(
    "cuda", DeviceKind.GPU, 8.0, 410.0, 42.0, "llama.cpp", "Q4_K_M", "F16", 7.2e9, 32.0, 4100.0, 2000.0, 4.4e9, 1.0,
    510.0, 1.0, 610.0, 520.0, 1200.0, 67.0,
)  # fmt: skip


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def signed(number: int, *, day: int = TODAY, rows: tuple[SharedRow, ...] = (ROW,)) -> SignedRows:
    unsigned = SignedRows(identity(number).peer_id, day, rows)
    return msgspec.structs.replace(unsigned, signature=identity(number).sign(rows_bytes(unsigned)))


class Peer:
    """One peer's exchange and book, what it keeps, and a clock that stands."""

    def __init__(self, number: int, *, shares: bool = True, own: tuple[SharedRow, ...] = (ROW,)) -> None:
        self.now = float(TODAY * DAY_S)
        self.kept: list[SignedRows] = []
        self.book = RowBook()
        self.identity = identity(number)
        ports = RowPorts(own=lambda: own, kept=self._keep, clock=lambda: self.now)
        self.exchange = RowExchange(self.identity, self.book, ports=ports, shares=shares)

    async def _keep(self, found: SignedRows) -> None:
        self.kept.append(found)


class Wire:
    """The swarm as the asking end sees it: every stream goes to one answering peer, or to what answers instead."""

    def __init__(self, nursery: trio.Nursery, peer: Peer | None = None, *, says: bytes = b"") -> None:
        self._nursery, self._peer, self._says = nursery, peer, says

    def peers(self) -> tuple[PeerId, ...]:
        return (identity(9).peer_id,)

    async def open(self, peer_id: PeerId, protocol: str) -> ByteStream:
        if self._peer is None and not self._says:
            raise PeerUnreachable("Nobody there.")
        ours, theirs = stream_pair()
        if self._peer is not None:
            self._nursery.start_soon(self._peer.exchange.serve, theirs, identity(1).peer_id)
        else:
            self._nursery.start_soon(self._say, theirs)
        return ours

    async def _say(self, theirs: MemoryStream) -> None:
        await theirs.write(self._says)


async def asked(asker: Peer, answerer: Peer | None = None, *, says: bytes = b"") -> int:
    async with trio.open_nursery() as nursery:
        return await asker.exchange.ask(Wire(nursery, answerer, says=says), identity(2).peer_id)


async def test_a_peer_that_shares_tells_its_own_rows_and_hands_on_others(autojump_clock: MockClock) -> None:
    asker, answerer = Peer(1), Peer(2)
    answerer.book.add(signed(3), today=TODAY)
    assert await asked(asker, answerer) == 2
    assert {heard.peer for heard in asker.book.heard()} == {identity(2).peer_id, identity(3).peer_id}
    assert [kept.peer_id for kept in asker.kept] == [identity(2).peer_id, identity(3).peer_id]


async def test_a_peer_that_does_not_share_says_nothing(autojump_clock: MockClock) -> None:
    answerer = Peer(2, shares=False)
    answerer.book.add(signed(3), today=TODAY)
    assert await asked(Peer(1), answerer) == 0


async def test_what_is_known_is_not_kept_again(autojump_clock: MockClock) -> None:
    asker, answerer = Peer(1), Peer(2)
    assert await asked(asker, answerer) == 1
    answerer.now += 60
    assert await asked(asker, answerer) == 0
    assert len(asker.kept) == 1


async def test_our_own_rows_do_not_come_back_to_us(autojump_clock: MockClock) -> None:
    asker, answerer = Peer(1), Peer(2, own=())
    answerer.book.add(signed(1), today=TODAY)
    assert await asked(asker, answerer) == 0


async def test_a_peer_that_asks_twice_in_a_minute_gets_no_answer(autojump_clock: MockClock) -> None:
    asker, answerer = Peer(1), Peer(2)
    assert await asked(asker, answerer) == 1
    answerer.book.add(signed(3), today=TODAY)
    assert await asked(asker, answerer) == 0


async def test_whoever_hands_on_forgeries_is_not_heard_further(autojump_clock: MockClock) -> None:
    forged = msgspec.structs.replace(signed(4), rows=(msgspec.structs.replace(ROW, decode_tokens_per_s=99.0),))
    answer = encode_frame(Rows((signed(3), forged, signed(5))))
    asker = Peer(1)
    assert await asked(asker, says=answer) == 1
    assert {heard.peer for heard in asker.book.heard()} == {identity(3).peer_id}


async def test_an_older_or_forged_set_takes_the_place_of_none(autojump_clock: MockClock) -> None:
    asker = Peer(1)
    asker.book.add(signed(3), today=TODAY)
    stale = signed(3, day=TODAY - 1)
    answer = encode_frame(Rows((stale, msgspec.structs.replace(stale, signature="00" * 64), signed(5))))
    assert await asked(asker, says=answer) == 1
    assert [kept.peer_id for kept in asker.kept] == [identity(5).peer_id]


@pytest.mark.parametrize("says", [b"\xff" * 12, b"\x02{}", encode_frame(GetRows()), b"\x80"], ids=str)
async def test_nonsense_and_silence_are_no_rows_and_no_exception(says: bytes, autojump_clock: MockClock) -> None:
    assert await asked(Peer(1), says=says) == 0


async def test_a_peer_that_cannot_be_reached_is_no_exception(autojump_clock: MockClock) -> None:
    assert await asked(Peer(1)) == 0


async def test_garbage_gets_no_answer_and_no_exception(autojump_clock: MockClock) -> None:
    ours, theirs = stream_pair()
    await ours.write(b"\xff" * 9)
    await ours.close()
    await Peer(2).exchange.serve(theirs, identity(1).peer_id)


async def test_connected_peers_are_asked_by_themselves(autojump_clock: MockClock) -> None:
    asker, answerer = Peer(1), Peer(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.exchange.run, Wire(nursery, answerer))
        with trio.fail_after(120):
            while not len(asker.book):
                await trio.sleep(1)
        nursery.cancel_scope.cancel()


def test_rows_are_their_signers_and_of_their_day() -> None:
    good = signed(2)
    assert rows_fault(good, today=TODAY) is None
    for change in ({"day": TODAY + 1}, {"peer_id": identity(3).peer_id}, {"rows": (ROW, ROW)}, {"signature": "00"}):
        assert rows_fault(msgspec.structs.replace(good, **change), today=TODAY)
    assert rows_fault(signed(2, day=TODAY - MAX_AGE_DAYS - 1), today=TODAY)
    assert rows_fault(signed(2, day=TODAY + 2), today=TODAY)


def test_no_rows_too_many_or_one_out_of_bounds_are_refused() -> None:
    bad = msgspec.structs.replace(ROW, batch=0.0)
    for rows in ((), (ROW,) * (MAX_ROWS + 1), (ROW, bad)):
        assert rows_fault(signed(2, rows=rows), today=TODAY)


def test_a_peer_has_one_set_the_newest() -> None:
    book = RowBook()
    newer = signed(2, rows=(ROW, ROW))
    assert book.add(signed(2, day=TODAY - 3), today=TODAY) is book.add(newer, today=TODAY) is None
    assert book.add(signed(2, day=TODAY - 1), today=TODAY) == STALE
    forged = msgspec.structs.replace(newer, day=TODAY - 2, signature="00" * 64)
    assert book.add(forged, today=TODAY) == STALE
    assert book.newest(9) == (newer,)
    assert book.heard() == (Heard(identity(2).peer_id, ROW),) * 2
    assert book.heard(without=identity(2).peer_id) == ()


def test_a_full_book_lets_the_oldest_go_and_forgets_what_is_old() -> None:
    book = RowBook(max_peers=2)
    for number, day in ((2, TODAY - 5), (3, TODAY - 1), (4, TODAY)):
        book.add(signed(number, day=day), today=TODAY)
    assert [kept.peer_id for kept in book.newest(9)] == [identity(3).peer_id, identity(4).peer_id]
    assert book.add(signed(6, day=TODAY - 3), today=TODAY) == STALE
    assert [kept.peer_id for kept in book.newest(9)] == [identity(3).peer_id, identity(4).peer_id]
    book.add(signed(5, day=TODAY + 31), today=TODAY + 31)
    assert [kept.peer_id for kept in book.newest(9)] == [identity(5).peer_id]


def test_the_largest_answer_fits_its_frame() -> None:
    long = msgspec.structs.replace(ROW, backend="vulkan", kind=DeviceKind.INTEGRATED_GPU)
    answer = Rows((signed(2, rows=(long,) * MAX_ROWS),) * MAX_SETS)
    assert len(encode_frame(answer)) < MAX_ROWS_BYTES


def test_golden_bytes_both_ways() -> None:
    said = {"get_rows": GetRows(), "rows": Rows((signed(2),))}
    vectors = json.loads(VECTORS.read_text())
    assert set(said) == set(vectors)
    for name, message in said.items():
        golden = bytes.fromhex(vectors[name])
        assert encode_frame(message) == golden
        assert FrameDecoder(GetRows | Rows, max_frame_bytes=1 << 20).feed(golden) == [message]
