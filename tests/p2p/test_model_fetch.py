"""A model file goes from peers to a peer: whole, verified, from several at once, whatever some of them do."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from core.job import PeerId
from core.model_trouble import NoSpace
from core.piece_file import PieceFile
from core.piece_manifest import PIECE_BYTES
from core.trouble import innermost
from p2p.byte_stream import ByteStream
from p2p.model_fetch import LONGEST_PROMISE_S, Fetched, FileFetch, NoSources
from p2p.model_messages import ModelHere, OneFile
from p2p.model_search import FoundSource, ModelSearch, file_key
from p2p.model_source import ModelSource
from p2p.swarm_errors import PeerUnreachable
from tests.p2p.fakes import stream_pair
from tests.p2p.model_peers import FakeShelf, a_source, manifest_of, sha256_of, some_bytes
from tests.p2p.swarms import Member, a_member, running, until

BODY = some_bytes(5 * PIECE_BYTES + 123)
SHA256 = sha256_of(BODY)


async def fetched(asker: Member, sources: list[Member], target: Path, shelf: FakeShelf) -> Fetched:
    found = [FoundSource(source.peer_id, source.swarm.addresses(), shelf.here) for source in sources]

    async def find() -> list[FoundSource]:
        return found

    sink = PieceFile(target, SHA256)
    try:
        return await FileFetch(asker.swarm, shelf.here.files[0], sink=sink, on_progress=lambda _: None).run(find)
    finally:
        sink.close()


async def test_a_file_comes_whole_from_three_sources(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    sources = [a_source(seed, shelf) for seed in (2, 3, 4)]
    asker = a_member(1)
    async with running(asker, *sources):
        found = await fetched(asker, sources, tmp_path / "ours.gguf", shelf)
    assert (tmp_path / "ours.gguf").read_bytes() == BODY
    assert found.done_bytes == len(BODY) and sum(found.pieces_of.values()) == 6
    assert {path.name for path in tmp_path.iterdir()} == {"theirs", "ours.gguf"}


async def test_one_that_sends_garbage_and_one_that_stops_do_no_harm(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    garbage = FakeShelf(tmp_path / "garbage", [BODY], lies={SHA256: some_bytes(len(BODY), seed=2)})
    garbage.manifests[SHA256] = manifest_of(BODY)
    sources = [a_source(2, shelf), a_source(3, garbage), a_source(4, shelf, stops_after=PIECE_BYTES // 2)]
    asker = a_member(1)
    async with running(asker, *sources):
        found = await fetched(asker, sources, tmp_path / "ours.gguf", shelf)
    assert (tmp_path / "ours.gguf").read_bytes() == BODY
    assert found.wrong <= {sources[1].peer_id} and sources[1].peer_id not in found.pieces_of


async def test_the_manifest_of_a_lie_condemns_all_who_gave_it(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    lie = FakeShelf(tmp_path / "lie", [BODY], lies={SHA256: BODY[:PIECE_BYTES] + some_bytes(len(BODY) - PIECE_BYTES)})
    liars = [a_source(3, lie), a_source(4, lie)]
    honest = a_source(2, shelf)
    asker = a_member(1)
    async with running(asker, honest, *liars):
        found = await fetched(asker, [*liars, honest], tmp_path / "ours.gguf", shelf)
    assert (tmp_path / "ours.gguf").read_bytes() == BODY
    assert found.wrong in (frozenset(), {liar.peer_id for liar in liars})


async def test_a_fetch_that_was_cut_short_goes_on_from_there(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    source = a_source(2, shelf)
    asker = a_member(1)
    cut = PieceFile(tmp_path / "ours.gguf", SHA256)
    cut.adopt(manifest_of(BODY))
    for index in (0, 1, 2, 3):
        cut.put(index, [BODY[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]])
    async with running(asker, source):
        found = await fetched(asker, [source], tmp_path / "ours.gguf", shelf)
    assert found.pieces_of == {source.peer_id: 2}
    assert (tmp_path / "ours.gguf").read_bytes() == BODY


async def test_a_full_disk_ends_the_fetch_with_its_sentence(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    source, asker = a_source(2, shelf), a_member(1)

    class Full(PieceFile):
        def put(self, index: int, parts: object) -> bool:
            raise NoSpace("There is no space left.")

    async with running(asker, source):
        found = [FoundSource(source.peer_id, source.swarm.addresses(), shelf.here)]

        async def find() -> list[FoundSource]:
            return found

        sink = Full(tmp_path / "ours.gguf", SHA256)
        with pytest.raises(ExceptionGroup) as caught:
            await FileFetch(asker.swarm, shelf.here.files[0], sink=sink, on_progress=lambda _: None).run(find)
    assert isinstance(innermost(caught.value), NoSpace)


async def test_sources_are_found_among_peers_and_in_the_dht(tmp_path: Path) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    meeting = a_member(9)
    async with running(meeting) as nursery:
        source = a_source(2, shelf, meeting.swarm.addresses())
        asker = a_member(1, meeting.swarm.addresses())
        await nursery.start(source.run)
        await nursery.start(asker.run)
        await until(lambda: asker.swarm.peer_count and source.swarm.peer_count)
        search = ModelSearch(asker.swarm, SHA256)
        assert await search.look(deadline_s=2) == ()
        assert await source.swarm.provide(file_key(SHA256))
        with trio.fail_after(5):
            while not await search.look(deadline_s=2):
                await trio.sleep(0.01)
    assert [found.peer for found in search.found] == [source.peer_id] and search.found[0].model == shelf.here


async def test_with_nobody_left_it_gives_up_and_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Nobody:
        async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
            raise PeerUnreachable("The peer does not answer.")

    file = OneFile(SHA256, len(BODY))
    gone = FoundSource(PeerId("gone"), (), ModelHere((file,)))

    async def find() -> list[FoundSource]:
        return [gone]

    sink = PieceFile(tmp_path / "ours.gguf", SHA256)
    with pytest.raises(ExceptionGroup) as caught:
        await FileFetch(Nobody(), file, sink=sink, on_progress=lambda _: None).run(find)
    assert isinstance(innermost(caught.value), NoSources)


async def test_a_source_that_promises_is_waited_for_but_not_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    shelf = FakeShelf(tmp_path / "theirs", [BODY])
    source = ModelSource(shelf, upload_bytes_per_s=0.0, is_open=lambda: False)

    class Wire:
        async def open(self, peer_id: PeerId, protocol: str, *, addresses: tuple[str, ...] = ()) -> ByteStream:
            ours, theirs = stream_pair()
            nursery.start_soon(source.serve, theirs, PeerId("asker"))
            return ours

    async def find() -> list[FoundSource]:
        return [FoundSource(PeerId("paused"), (), shelf.here)]

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        sink = PieceFile(tmp_path / "ours.gguf", SHA256)
        with pytest.raises(ExceptionGroup) as caught:
            await FileFetch(Wire(), shelf.here.files[0], sink=sink, on_progress=lambda _: None).run(find)
        nursery.cancel_scope.cancel()
    assert isinstance(innermost(caught.value), NoSources)
    assert LONGEST_PROMISE_S < trio.current_time() - began < LONGEST_PROMISE_S + 200
