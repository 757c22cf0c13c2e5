"""Golden bytes of every message, and the limits of a proposal."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from core.framing import FrameDecoder, FramingError, encode_frame
from core.job import ChatMessage, JobState, Usage
from core.offer import Reject
from p2p import messages as m
from p2p.identity import Identity, is_signed_by
from tests.p2p.fakes import PAYER, a_proof, a_quote, a_request, a_voucher, an_offer

VECTORS = Path(__file__).parents[1] / "vectors" / "p2p_messages.json"
IDENTITY = Identity(bytes(range(32)))
OFFER = an_offer(IDENTITY.peer_id)
SIGNED = m.SignedOffer(OFFER, IDENTITY.sign(m.offer_bytes(OFFER)), ("/ip4/127.0.0.1/tcp/4001",))
REQUEST = a_request()
QUOTE = a_quote(REQUEST)
PROOF = a_proof(REQUEST.terms.job_id, IDENTITY.peer_id)
SAID = {
    "propose": m.Propose(REQUEST, PAYER, PROOF),
    "resume": m.Resume(REQUEST.terms.job_id, 3),
    "pay": m.Pay(a_voucher(7)),
    "cancel": m.Cancel(),
    "keep": m.Keep(),
    "quoted": m.Quoted(QUOTE, IDENTITY.sign(m.quote_bytes(QUOTE))),
    "rejected": m.Rejected(Reject(REQUEST.terms.job_id, "The queue is full.", 3.0)),
    "resumed": m.Resumed(3),
    "amount_due": m.AmountDue(12),
    "chunk": m.Chunk(0, "Grüße", 2),
    "finished": m.Finished(Usage(10, 2), "stop", 3, "00" * 32),
    "failed": m.Failed(JobState.CANCELLED, "The requester cancelled.", Usage(10, 2), 3),
    "get_offers": m.GetOffers("tiny"),
    "offers": m.Offers((SIGNED,)),
    "tell": m.Tell((SIGNED,)),
    "ping": m.Ping(5),
    "pong": m.Pong(5, ("tiny",)),
}
UNION = m.RequesterMessage | m.ProviderMessage | m.Query | m.QueryAnswer


def test_every_message_has_a_golden_vector() -> None:
    tags = {kind.__struct_config__.tag for kind in UNION.__args__}
    assert tags == set(SAID) == set(json.loads(VECTORS.read_text()))


@pytest.mark.parametrize("name", list(SAID))
def test_golden_bytes_both_ways(name: str) -> None:
    golden = bytes.fromhex(json.loads(VECTORS.read_text())[name]["frame"])
    assert encode_frame(SAID[name]) == golden
    assert FrameDecoder(UNION, max_frame_bytes=1 << 20).feed(golden) == [SAID[name]]


def test_unknown_keys_are_ignored_and_unknown_tags_refused() -> None:
    decoder: FrameDecoder[object] = FrameDecoder(m.Query, max_frame_bytes=100)
    body = b'{"type":"ping","number":1,"mood":"good"}'
    assert decoder.feed(bytes([len(body)]) + body) == [m.Ping(1)]
    with pytest.raises(FramingError):
        decoder.feed(b'\x0f{"type":"shout"}'[:16])


def test_a_signed_offer_is_its_peers_and_nobody_elses() -> None:
    assert is_signed_by(IDENTITY.peer_id, m.offer_bytes(OFFER), signature=SIGNED.signature)
    dearer = msgspec.structs.replace(OFFER, slots=5)
    assert not is_signed_by(IDENTITY.peer_id, m.offer_bytes(dearer), signature=SIGNED.signature)
    assert not is_signed_by(Identity(b"\x01" * 32).peer_id, m.offer_bytes(OFFER), signature=SIGNED.signature)


def test_a_good_proposal_has_no_fault() -> None:
    assert m.proposal_fault(m.Propose(REQUEST, PAYER, PROOF)) is None


TERMS = [{"job_id": "a b"}, {"job_id": ""}, {"max_tokens": 0}, {"max_tokens": 1 << 21}, {"deadline_s": 0.0},
         {"deadline_s": 1e9}, {"fan_out": 0}, {"fan_out": 99}, {"bid_per_mtok": -1}, {"max_total": -1}]
SAMPLING = [{"max_tokens": 65}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 1.5}, {"min_p": -0.1},
            {"top_k": -1}, {"seed": 1 << 32}, {"stop": ("",)}, {"stop": ("x",) * 17}, {"stop": ("x" * 300,)}]


@pytest.mark.parametrize("change", TERMS, ids=repr)
def test_terms_out_of_bounds_are_refused(change: dict[str, object]) -> None:
    request = msgspec.structs.replace(REQUEST, terms=msgspec.structs.replace(REQUEST.terms, **change))
    assert m.proposal_fault(m.Propose(request, PAYER, PROOF))


@pytest.mark.parametrize("change", SAMPLING, ids=repr)
def test_sampling_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    request = msgspec.structs.replace(REQUEST, sampling=msgspec.structs.replace(REQUEST.sampling, **change))
    assert m.proposal_fault(m.Propose(request, PAYER, PROOF))


@pytest.mark.parametrize(
    "messages",
    [(), (ChatMessage("robot", "hi"),), (ChatMessage("user", "x" * (m.MAX_PROMPT_BYTES + 1)),)],
    ids=["none", "role", "long"],
)
def test_words_out_of_bounds_are_refused(messages: tuple[ChatMessage, ...]) -> None:
    assert m.proposal_fault(m.Propose(msgspec.structs.replace(REQUEST, messages=messages), PAYER, PROOF))


def test_another_version_is_refused_in_words() -> None:
    propose = m.Propose(REQUEST, PAYER, PROOF, version=9)
    assert m.proposal_fault(propose) == "This peer speaks version 1 of the job protocol."


def test_the_largest_prompt_fits_its_frame() -> None:
    request = msgspec.structs.replace(REQUEST, messages=(ChatMessage("user", '"' * m.MAX_PROMPT_BYTES),))
    assert len(encode_frame(m.Propose(request, PAYER, PROOF))) < m.MAX_REQUESTER_FRAME_BYTES
