"""Laws of `starling network` and `starling peers`: files are checked, money stays where it is, peers are told."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest
import trio

from app.__main__ import main
from app.cli_peers_text import peers_object, peers_text
from app.network_files import shipped
from app.peer_keeper import BookShelf, peers_seen
from core import events as e
from core.home import Home
from core.journal import Journal
from core.network import Network, load_network
from core.node_state import NodeState
from core.peer_seen import MAX_LISTED, PeerSeen, PeersSeen
from core.state import apply
from core.store import Store
from p2p.address_book import AddressBook, Heard, Source
from p2p.bootstrap_check import Answer, bootstrap_answers
from p2p.identity import Identity
from tests.p2p.swarms import a_member, running, until

ESCROW, TOKEN = "0x" + "ab" * 20, "0x" + "cd" * 20
PEER = Identity(b"\x01" * 32).peer_id
NET = Network("n", 1, "http://x", ESCROW, TOKEN, "T", 6)
BOOTSTRAP = f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}"


def create(home: Path, *more: str, name: str = "mine", chain: str = "84532", escrow: str = ESCROW) -> int:
    words = ["network", "create", name, "--chain-id", chain, "--rpc", "https://rpc.example", "--escrow", escrow]
    return main([*words, "--token", TOKEN, "--symbol", "USDC", *more, "--home", str(home)])


def test_a_network_file_is_made_of_words_and_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(tmp_path, "--bootstrap", BOOTSTRAP, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["bootstrap"] == [{"address": BOOTSTRAP, "answer": None}]
    assert main(["network", "use", "mine", "--home", str(tmp_path)]) == 0
    used = load_network(Home(tmp_path).network.read_bytes(), source="used")
    assert (used.name, used.swarm_id, used.bootstrap) == ("mine", made["swarm_id"], (BOOTSTRAP,))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"name": "Not Good"}, "Not Good cannot be the name"),
        ({"chain": "0"}, "0 cannot be the chain id"),
        ({"escrow": "0x12"}, "0x12 cannot be the escrow"),
    ],
)
def test_wrong_words_are_named(
    words: dict[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(tmp_path, **words) == 1
    assert sentence in capsys.readouterr().err
    assert not Home(tmp_path).networks.exists()


def test_a_bootstrap_peer_needs_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(tmp_path, "--bootstrap", "/ip4/192.0.2.1/tcp/4001") == 1
    assert "is no bootstrap peer" in capsys.readouterr().err


def test_a_name_is_not_given_to_two_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(tmp_path) == create(tmp_path) == 0
    assert create(tmp_path, chain="1") == 1
    assert "another network of that name" in capsys.readouterr().err


def test_a_network_that_is_nowhere_is_said_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create(tmp_path)
    assert main(["network", "use", "other", "--home", str(tmp_path)]) == 1
    assert "mine" in capsys.readouterr().err
    assert main(["network", "info", "--home", str(tmp_path)]) == 1
    assert "starling network use" in capsys.readouterr().err


async def test_a_home_that_has_vouchers_stays_in_their_network(tmp_path: Path) -> None:
    home = Home(tmp_path)
    store = Store(home.database)
    await Journal(store).record(e.NetworkNamed(1.0, "mine", 84532, ESCROW, TOKEN, "USDC", 6, "o", "h"))
    store.close()
    create(tmp_path)
    create(tmp_path, name="other", chain="1")
    assert await trio.to_thread.run_sync(main, ["network", "use", "other", "--home", str(tmp_path)]) == 1
    assert await trio.to_thread.run_sync(main, ["network", "use", "mine", "--home", str(tmp_path)]) == 0


def test_a_network_is_its_name_chain_and_escrow() -> None:
    for change in ({"name": "m"}, {"chain_id": 2}, {"escrow": TOKEN}):
        assert msgspec.structs.replace(NET, **change).swarm_id != NET.swarm_id
    for change in ({"rpc": "http://y"}, {"bootstrap": (BOOTSTRAP,)}, {"escrow": ESCROW.upper().replace("X", "x")}):
        assert msgspec.structs.replace(NET, **change).swarm_id == NET.swarm_id


def test_every_network_file_that_ships_is_sound() -> None:
    for path in shipped().glob("*.toml"):
        assert load_network(path.read_bytes(), source=path.name).name == path.stem


async def test_each_bootstrap_peer_answers_or_not_or_is_of_another_network() -> None:
    ours, theirs = a_member(1, network=NET.swarm_id), a_member(2, network="other")
    gone = f"/ip4/127.0.0.1/tcp/1/p2p/{Identity(bytes([3]) * 32).peer_id}"
    async with running(ours, theirs):
        addresses = (ours.swarm.addresses()[0], theirs.swarm.addresses()[0], gone)
        answers = await bootstrap_answers(msgspec.structs.replace(NET, bootstrap=addresses))
        assert list(answers.values()) == [Answer.ANSWERS, Answer.FOREIGN, Answer.SILENT]


async def test_the_owner_sees_who_is_connected_and_who_else_is_known(tmp_path: Path) -> None:
    meeting = a_member(1)
    async with running(meeting) as nursery:
        joiner = a_member(2, meeting.swarm.addresses())
        await nursery.start(joiner.run)
        await until(lambda: joiner.swarm.peer_count and meeting.swarm.peer_count)
        for number in range(3, 90):
            peer = Identity(bytes([number]) * 32).peer_id
            joiner.swarm.book.hear(Heard(peer, (f"/ip4/20.{number}.1.1/tcp/1",), Source.LAN), now=time.time())
        seen = peers_seen(joiner.swarm, score=lambda peer_id: None)
        state = apply(NodeState(), e.PeersListed(seen))
        told = peers_object(state)
        assert (told["connected"], told["known"], len(told["peers"])) == (1, 88, MAX_LISTED)
        first = told["peers"][0]
        assert (first["peer_id"], first["is_outbound"], first["is_relayed"]) == (meeting.peer_id, True, False)
        assert first["sources"][0] == "network file"
        assert "1 connected, 88 known." in peers_text(state)


def test_peers_are_written_for_people() -> None:
    now = time.time()
    known = PeerSeen("12D3KooWabcdefghijkl", "/ip4/192.0.2.1/tcp/1", ("DHT",), seen_at=now - 7_200, score=1.25)
    met = msgspec.structs.replace(known, since=now - 61, is_relayed=True, rtt_ms=84)
    text = peers_text(NodeState(peers_seen=PeersSeen(70, (met, known))))
    assert "relayed, in" in text
    assert "84 ms" in text
    assert "1 min" in text
    assert "2 h ago" in text
    assert "68 more are known." in text
    assert "no peer is known yet" in peers_text(NodeState())


async def test_an_address_book_comes_back_from_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    book = AddressBook(PEER)
    book.hear(Heard(Identity(b"\x05" * 32).peer_id, ("/ip4/20.1.1.1/tcp/1",), Source.DHT), now=1.0)
    shelf = BookShelf(store, "net")
    await shelf.save(book.peers())
    assert await shelf.load() == book.peers()
    store.keep_known_peers("net", {"x": "not json"})
    assert await shelf.load() == ()
    assert await BookShelf(None, "net").load() == ()
    store.close()
