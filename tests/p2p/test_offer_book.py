"""What an offer book keeps, refuses and forgets."""

from __future__ import annotations

import msgspec
import pytest

from p2p.identity import Identity
from p2p.messages import MAX_OFFERS_A_PEER, SignedOffer, offer_bytes
from p2p.offer_book import OfferBook, freshest, offer_fault
from tests.p2p.fakes import an_offer

NOW = 1_000_000.0


def signed(seed: int, *, model: str = "tiny", expires_in: float = 100.0, sequence: int = 0) -> SignedOffer:
    identity = Identity(bytes([seed]) * 32)
    offer = an_offer(identity.peer_id, model=model, expires_at=NOW + expires_in, sequence=sequence)
    offer = msgspec.structs.replace(offer, issued_at=NOW)
    return SignedOffer(offer, identity.sign(offer_bytes(offer)), (f"/ip4/127.0.0.1/tcp/{seed}",))


def test_an_offer_is_found_by_its_model_until_it_expires() -> None:
    book = OfferBook()
    assert book.add(signed(1), now=NOW) is None
    assert book.find("tiny", now=NOW) == book.find(None, now=NOW) == [signed(1)]
    assert book.find("other", now=NOW) == []
    assert book.find("tiny", now=NOW + 101) == []


def test_a_newer_offer_replaces_and_an_older_one_does_not() -> None:
    book = OfferBook()
    for sequence in (1, 3, 2):
        book.add(signed(1, sequence=sequence), now=NOW)
    assert [s.offer.sequence for s in book.find("tiny", now=NOW)] == [3]


@pytest.mark.parametrize(
    "bad",
    [
        signed(1, expires_in=0),
        signed(1, expires_in=10_000),
        msgspec.structs.replace(signed(1), signature=signed(2).signature),
        msgspec.structs.replace(signed(1), offer=msgspec.structs.replace(signed(1).offer, slots=99)),
        msgspec.structs.replace(signed(1), addresses=("x" * 500,)),
        msgspec.structs.replace(signed(1), addresses=("x",) * 9),
    ],
)
def test_what_is_not_to_be_believed_is_not_kept(bad: SignedOffer) -> None:
    book = OfferBook()
    assert offer_fault(bad, NOW)
    assert book.add(bad, now=NOW)
    assert len(book) == 0


def test_one_peer_cannot_fill_the_book() -> None:
    book = OfferBook()
    faults = [book.add(signed(1, model=f"m{i}"), now=NOW) for i in range(MAX_OFFERS_A_PEER + 1)]
    assert faults[-1] == "The peer has too many offers."
    assert faults[:-1] == [None] * MAX_OFFERS_A_PEER


def test_a_full_book_drops_what_expires_first() -> None:
    book = OfferBook(max_known=2)
    for seed, expires_in in ((1, 50.0), (2, 10.0), (3, 70.0)):
        book.add(signed(seed, expires_in=expires_in), now=NOW)
    assert {s.offer.expires_at - NOW for s in book.find(None, now=NOW)} == {50.0, 70.0}


def test_copies_of_one_offer_become_one_with_all_addresses() -> None:
    old, new = signed(1, sequence=1), msgspec.structs.replace(signed(1, sequence=2), addresses=("/ip4/10.0.0.1/tcp/9",))
    (one,) = freshest([old, new, old])
    assert one.offer.sequence == 2
    assert one.addresses == ("/ip4/10.0.0.1/tcp/9", "/ip4/127.0.0.1/tcp/1")


def test_a_peer_can_be_forgotten() -> None:
    book = OfferBook()
    book.add(signed(1), now=NOW)
    book.add(signed(2), now=NOW)
    book.remove(Identity(b"\x01" * 32).peer_id)
    assert book.find("tiny", now=NOW) == [signed(2)]


def test_an_offer_that_was_taken_back_comes_again_only_when_it_is_newer() -> None:
    book, first = OfferBook(), signed(1, sequence=1)
    book.add(first, now=NOW)
    over = signed(1, sequence=2, expires_in=0.0)
    assert book.end(over, now=NOW) is None
    assert book.find(None, now=NOW) == []
    book.add(first, now=NOW)
    assert book.find(None, now=NOW) == []
    again = signed(1, sequence=3)
    book.add(again, now=NOW)
    assert book.find(None, now=NOW) == [again]
    book.end(over, now=NOW)
    assert book.find(None, now=NOW) == [again]


def test_nobody_ends_anothers_offer_or_one_that_goes_on() -> None:
    book, known = OfferBook(), signed(1, sequence=1)
    book.add(known, now=NOW)
    forged = msgspec.structs.replace(signed(1, sequence=2, expires_in=0.0), signature=known.signature)
    assert book.end(forged, now=NOW)
    assert book.end(signed(1, sequence=2, expires_in=3_000.0), now=NOW)
    assert book.find(None, now=NOW) == [known]
