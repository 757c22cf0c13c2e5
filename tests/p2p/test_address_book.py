"""Laws of the address book: bounded everywhere, nobody good is pushed out, and what a peer signed outranks hints."""

from __future__ import annotations

from zlib import crc32

import msgspec
import pytest

from core.job import PeerId
from p2p.address_book import GIVEN_UP_AFTER, AddressBook, BookLimits, Heard, KnownPeer, Source
from p2p.identity import Identity
from p2p.peer_address import group_of, ip_of, is_plausible
from p2p.peer_choice import (
    GIVEN_AT_ONCE,
    OUTBOUND_A_GROUP,
    STAY_AT_GIVEN_S,
    STAY_AWAY_S,
    Link,
    next_due,
    next_try,
    overstayed,
    spared,
    unasked_sources,
    worth_dialling,
)
from p2p.peer_record import LIFE_S, OwnRecord, SignedRecord, record_bytes, record_fault

NOW = 1_000_000.0
HOUR_S = 3_600.0
OWN = PeerId("own")
SWARM = "ab" * 16


def at(ip: str, port: int = 4_001) -> tuple[str, ...]:
    return (f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}",)


def heard(name: str, ip: str = "", *, source: Source = Source.EXCHANGE, teller: str = "", port: int = 4_001) -> Heard:
    place = ip or f"{crc32(name.encode()) % 90 + 11}.{len(name)}.{sum(name.encode()) % 250}.7"
    return Heard(PeerId(name), at(place, port), source, teller)


def a_book(**limits: int) -> AddressBook:
    return AddressBook(OWN, limits=BookLimits(**limits))


def reach(book: AddressBook, name: str, *, times: int = 3) -> None:
    for hour in range(times):
        book.succeeded(PeerId(name), now=NOW - (times - hour) * HOUR_S)


def names(book: AddressBook) -> set[str]:
    return {known.peer_id for known in book.peers()}


def test_we_are_not_in_our_own_book() -> None:
    book = a_book()
    assert not book.hear(heard(OWN, "9.9.9.9"), now=NOW)
    assert not book.hear(Heard(PeerId("x"), ("nonsense", "/ip4/0.0.0.0/tcp/1"), Source.DHT), now=NOW)
    assert len(book) == 0


def test_the_book_is_bounded_in_all_per_ip_per_neighbourhood_and_per_teller() -> None:
    book = a_book(total=40, per_ip=2, per_group=4, per_teller=8)
    for number in range(5):
        book.hear(heard(f"ip{number}", "5.5.5.5", port=1 + number), now=NOW)
    assert len(book) == 2
    for number in range(9):
        book.hear(heard(f"near{number}", f"5.5.5.{number + 9}"), now=NOW)
    assert len(book) == 4
    for number in range(20):
        book.hear(heard(f"told{number}", f"6.6.{number}.1", teller="liar"), now=NOW)
    assert len(book) == 4 + 8
    for number in range(99):
        book.hear(heard(f"far{number}", f"7.{number}.1.1", teller=str(number)), now=NOW)
    assert len(book) == 40


def test_a_flood_of_strangers_pushes_out_no_peer_that_was_reached() -> None:
    book = a_book(total=16, per_group=64)
    for number in range(8):
        book.hear(heard(f"good{number}", f"20.{number}.1.1"), now=NOW)
        reach(book, f"good{number}")
    for number in range(500):
        book.hear(heard(f"evil{number}", f"66.{number % 200}.{number % 7}.1", teller=str(number)), now=NOW + number)
    assert {f"good{number}" for number in range(8)} <= names(book)
    assert len(book) == 16


def test_an_attacker_who_serves_well_from_one_neighbourhood_is_pinned_twice_at_most() -> None:
    book = a_book(per_group=64)
    for number in range(30):
        book.hear(heard(f"evil{number}", f"66.6.6.{number}"), now=NOW)
        reach(book, f"evil{number}", times=9)
    book.hear(heard("good", "20.1.1.1"), now=NOW)
    reach(book, "good")
    pinned = [known.peer_id for known in book.pinned(NOW)]
    assert "good" in pinned
    assert len(pinned) == 3


def test_peers_of_the_network_file_are_never_forgotten() -> None:
    book = a_book(total=2)
    book.hear(heard("given", source=Source.NETWORK_FILE), now=NOW)
    for number in range(GIVEN_UP_AFTER + 30):
        book.failed(PeerId("given"), now=NOW + number)
        book.hear(heard(f"new{number}"), now=NOW + number)
    assert "given" in names(book)


def test_a_stranger_that_never_answers_is_forgotten_and_a_known_one_later() -> None:
    book = a_book()
    for name in ("never", "once"):
        book.hear(heard(name), now=NOW)
    book.succeeded(PeerId("once"), now=NOW)
    for _ in range(GIVEN_UP_AFTER):
        book.failed(PeerId("never"), now=NOW + HOUR_S)
        book.failed(PeerId("once"), now=NOW + HOUR_S)
    assert names(book) == {"once"}
    book.failed(PeerId("once"), now=NOW + 100 * 24 * HOUR_S)
    assert names(book) == set()


def test_what_was_reached_stays_first_and_what_is_signed_replaces_hints() -> None:
    book, identity = a_book(), Identity(b"\x07" * 32)
    peer = identity.peer_id
    book.hear(Heard(peer, at("8.1.1.1"), Source.DHT), now=NOW)
    book.hear(Heard(peer, at("8.1.1.2"), Source.DHT), now=NOW)
    book.succeeded(peer, at("8.1.1.2")[0], now=NOW)
    record = OwnRecord(identity, lambda: at("8.1.1.3"), swarm=SWARM).at(NOW)
    book.hear(Heard(peer, at("8.1.1.3"), Source.EXCHANGE, record=record), now=NOW)
    book.hear(Heard(peer, at("6.6.6.6"), Source.DHT), now=NOW)
    known = book.get(peer)
    assert known is not None
    assert known.addresses == at("8.1.1.2") + at("8.1.1.3")


def test_a_book_survives_on_disk_and_is_read_with_suspicion() -> None:
    book = a_book()
    for number in range(6):
        book.hear(heard(f"p{number}", f"20.{number}.1.1"), now=NOW)
    reach(book, "p1")
    book.failed(PeerId("p2"), now=NOW)
    lines = [msgspec.json.encode(known) for known in book.peers()]
    other = a_book(total=4)
    stored = [msgspec.json.decode(line, type=KnownPeer) for line in lines]
    other.restore([*stored, KnownPeer(OWN, at("1.1.1.1"), ())], now=NOW)
    assert len(other) == 4
    assert "p1" in names(other)
    assert all(next_try(known, NOW) <= NOW for known in other.peers() if not known.failures)


def test_records_are_signed_expiring_and_of_one_swarm() -> None:
    identity = Identity(b"\x08" * 32)
    own = OwnRecord(identity, lambda: at("8.1.1.3"), swarm=SWARM)
    good = own.at(NOW)
    assert own.at(NOW + 60) is good
    assert own.at(NOW + LIFE_S).record.sequence > good.record.sequence
    assert record_fault(good, swarm=SWARM, now=NOW) is None
    assert record_fault(good, swarm="cd" * 16, now=NOW)
    assert record_fault(good, swarm=SWARM, now=NOW + LIFE_S + 1)
    assert record_fault(good, swarm=SWARM, now=NOW - HOUR_S)
    stranger = Identity(b"\x09" * 32).peer_id
    for change in ({"addresses": at("6.6.6.6")}, {"peer_id": stranger}, {"expires_at": NOW + 9e9}):
        forged = SignedRecord(msgspec.structs.replace(good.record, **change), good.signature)
        assert record_fault(forged, swarm=SWARM, now=NOW)
    unsound = msgspec.structs.replace(good.record, addresses=("/ip4/224.0.0.1/tcp/1",))
    assert record_fault(SignedRecord(unsound, identity.sign(record_bytes(unsound))), swarm=SWARM, now=NOW)


def test_only_records_of_peers_that_are_alive_are_handed_on() -> None:
    book = a_book()
    for number in (1, 2, 3):
        identity = Identity(bytes([number]) * 32)
        record = OwnRecord(identity, lambda: at("8.1.1.3"), swarm=SWARM).at(NOW)
        book.hear(Heard(identity.peer_id, record.record.addresses, Source.EXCHANGE, record=record), now=NOW)
    one, two, _ = (known.peer_id for known in book.peers())
    book.succeeded(one, now=NOW)
    assert [r.record.peer_id for r in book.records(now=NOW + 5, alive=set())] == [one]
    assert [r.record.peer_id for r in book.records(now=NOW + 5, alive={two})] == [one, two]
    assert book.records(now=NOW + LIFE_S, alive={one, two}) == []


def links(*found: tuple[str, str], is_outbound: bool = True, since: float = 0.0) -> list[Link]:
    return [Link(PeerId(name), at(ip)[0], is_outbound=is_outbound, since=since) for name, ip in found]


def test_enough_are_dialled_and_never_many_of_one_neighbourhood() -> None:
    book = a_book()
    for number in range(20):
        book.hear(heard(f"evil{number}", f"66.6.6.{number}"), now=NOW)
        reach(book, f"evil{number}")
    assert len(worth_dialling(book, (), now=NOW)) == OUTBOUND_A_GROUP
    for number in range(20):
        book.hear(heard(f"p{number}", f"20.{number}.1.1"), now=NOW)
    chosen = worth_dialling(book, (), now=NOW)
    assert len(chosen) == 8
    assert sum(known.peer_id.startswith("evil") for known in chosen) == OUTBOUND_A_GROUP
    there = links(*((f"p{number}", f"20.{number}.1.1") for number in range(7)))
    assert len(worth_dialling(book, there, now=NOW)) == 1
    assert len(worth_dialling(book, links(("p1", "20.1.1.1"), is_outbound=False), now=NOW)) == 8


def test_a_second_source_comes_before_better_peers_of_the_first() -> None:
    book = a_book()
    for number in range(9):
        book.hear(heard(f"told{number}", f"20.{number}.1.1", teller="one"), now=NOW)
        reach(book, f"told{number}")
    book.hear(heard("other", "30.1.1.1", teller="two"), now=NOW)
    assert "other" in [known.peer_id for known in worth_dialling(book, (), now=NOW, target=2)]


def test_back_off_doubles_is_shorter_for_good_peers_and_differs_between_peers() -> None:
    book = a_book()
    for name in ("stranger", "friend"):
        book.hear(heard(name), now=NOW)
    book.succeeded(PeerId("friend"), now=NOW)
    waits = []
    for _ in range(6):
        book.failed(PeerId("stranger"), now=NOW)
        known = book.get(PeerId("stranger"))
        assert known is not None
        waits.append(next_try(known, NOW) - NOW)
    assert all(later > sooner for sooner, later in zip(waits, waits[1:], strict=False))
    for _ in range(20):
        book.failed(PeerId("friend"), now=NOW)
    friend = book.get(PeerId("friend"))
    assert friend is not None
    assert next_try(friend, NOW) - NOW < 40
    assert next_due(book, (), now=NOW) == pytest.approx(min(next_try(k, NOW) for k in book.peers()))
    book.forgive()
    assert next_due(book, (), now=NOW) == 0.0


def test_those_whom_the_network_file_names_are_let_go_once_others_stand() -> None:
    book = a_book()
    book.hear(heard("given", "9.9.9.9", source=Source.NETWORK_FILE), now=NOW)
    there = links(*((f"p{number}", f"20.{number}.1.1") for number in range(8)), ("given", "9.9.9.9"), since=NOW)
    assert spared(book, there, now=NOW + STAY_AT_GIVEN_S + 1) == ["given"]
    assert spared(book, there, now=NOW + 1) == []
    assert spared(book, there[1:], now=NOW + STAY_AT_GIVEN_S + 1) == []


@pytest.mark.parametrize(
    ("address", "group", "is_good"),
    [
        ("/ip4/192.0.2.77/tcp/4001/p2p/x", "192.0.2.0/24", True),
        ("/ip6/2001:db8:1:2::9/tcp/4001", "2001:db8:1::/48", True),
        ("/ip6/::ffff:192.0.2.9/tcp/1", "192.0.2.0/24", True),
        ("/ip4/127.0.0.1/tcp/4001", "", True),
        ("/ip4/0.0.0.0/tcp/4001", "0.0.0.0/24", False),
        ("/ip4/192.0.2.7/udp/4001", "192.0.2.0/24", False),
        ("/ip4/192.0.2.7/tcp/0", "192.0.2.0/24", False),
        ("/dns4/example.org/tcp/1", "", False),
        ("\x00", "", False),
        ("/ip4/192.0.2.7/tcp/" + "9" * 300, "192.0.2.0/24", False),
    ],
)
def test_an_address_says_its_neighbourhood_and_whether_it_could_be_dialled(
    address: str, group: str, is_good: bool
) -> None:
    assert group_of(ip_of(address)) == group
    assert is_plausible(address) is is_good


def test_nobody_is_believed_alone_that_there_is_none() -> None:
    book = a_book()
    for number in range(4):
        book.hear(heard(f"a{number}", f"20.{number}.1.1", teller="one"), now=NOW)
    book.hear(heard("b", "30.1.1.1", teller="two"), now=NOW)
    book.hear(heard("c", "30.2.1.1", source=Source.LAN), now=NOW)
    book.succeeded(PeerId("a2"), now=NOW)
    assert {k.peer_id for k in unasked_sources(book, (), heard=())} == {"a2", "b", "c"}
    assert {k.peer_id for k in unasked_sources(book, {"a2"}, heard={"peers one"})} == {"b", "c"}
    assert unasked_sources(book, {"a2", "b"}, heard={"peers one", "peers two"}) == []
    assert unasked_sources(book, {"b", "c"}, heard={"LAN "}) != []
    assert unasked_sources(a_book(), (), heard=()) == []


def test_a_nearly_full_meeting_point_lets_those_go_who_came_first() -> None:
    there = [
        Link(PeerId(f"p{n}"), at("20.1.1.1")[0], is_outbound=n == 0, since=NOW - 100 + n) for n in range(100)
    ]
    gone = overstayed(there, most=100, now=NOW)
    assert gone == [f"p{n}" for n in range(1, 20)]
    assert overstayed(there[:60], most=100, now=NOW) == []
    assert overstayed([msgspec.structs.replace(link, since=NOW) for link in there], most=100, now=NOW) == []


def test_two_of_the_network_file_are_enough_and_all_do_not_dial_the_same() -> None:
    drawn = set()
    for owner in range(12):
        book = AddressBook(PeerId(f"own{owner}"))
        for number in range(6):
            book.hear(heard(f"given{number}", f"40.{number}.1.1", source=Source.NETWORK_FILE), now=NOW)
        chosen = worth_dialling(book, (), now=NOW)
        assert len(chosen) == GIVEN_AT_ONCE
        drawn |= {known.peer_id for known in chosen}
    assert len(drawn) > GIVEN_AT_ONCE


def test_a_bootstrap_peer_is_dialled_again_at_once_only_by_those_who_know_nobody_else() -> None:
    book = a_book()
    book.hear(heard("given", "40.1.1.1", source=Source.NETWORK_FILE), now=NOW)
    for name in ("a", "b"):
        book.hear(heard(name), now=NOW)
    book.succeeded(PeerId("given"), now=NOW)
    assert [known.peer_id for known in worth_dialling(book, links(("a", "20.1.1.1")), now=NOW + 2)][0] == "given"
    two = links(("a", "20.1.1.1"), ("b", "20.2.1.1"))
    assert worth_dialling(book, two, now=NOW + 2) == []
    assert next_due(book, two, now=NOW + 2) is None
    assert len(worth_dialling(book, two, now=NOW + STAY_AWAY_S)) == 1
