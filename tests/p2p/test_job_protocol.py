"""Dialogues between both ends of a job, in every order that the table allows, and refusals of every other."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.framing import encode_frame
from core.job import JobState, Usage, charge
from core.offer import Reject
from p2p.identity import Identity
from p2p.job_protocol import CROSSING, PROVIDER_SAYS, REQUESTER_SAYS, JobProvider, JobRequester, Phase
from p2p.messages import (
    AmountDue,
    Cancel,
    Chunk,
    Failed,
    Finished,
    Keep,
    Pay,
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    RequesterMessage,
    Resume,
    Resumed,
)
from p2p.protocol_error import LocalProtocolError, RemoteProtocolError
from tests.p2p.fakes import PAYER, PRICE, PROMPT_TOKENS, a_proof, a_quote, a_request, a_voucher

PROVIDER = Identity(b"\x07" * 32).peer_id
REQUEST = a_request()
QUOTE = a_quote(REQUEST)
PROPOSE = Propose(REQUEST, PAYER, a_proof(REQUEST.terms.job_id, PROVIDER))
QUOTED = Quoted(QUOTE, "ab")
PAY = Pay(a_voucher(1))
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def finished(tokens: int, digest: str) -> Finished:
    usage = Usage(PROMPT_TOKENS, tokens)
    return Finished(usage, "stop", charge(PRICE, usage), digest)


FAILED = Failed(JobState.FAILED, "The worker stopped.", Usage(), 0)
FROM_REQUESTER: tuple[RequesterMessage, ...] = (PROPOSE, Resume(REQUEST.terms.job_id, 0), PAY, Cancel(), Keep())
FROM_PROVIDER: tuple[ProviderMessage, ...] = (
    QUOTED,
    Rejected(Reject(REQUEST.terms.job_id, "no")),
    Resumed(0),
    AmountDue(1),
    Chunk(0, "a", 1),
    finished(0, EMPTY),
    FAILED,
    Keep(),
)


class Dialogue:
    """Both ends, with everything said delivered at once."""

    def __init__(self) -> None:
        self.provider = JobProvider()
        self.requester = JobRequester()

    def ask(self, message: RequesterMessage) -> RequesterMessage | None:
        self.provider.receive_data(self.requester.send(message))
        return self.provider.next_event()

    def answer(self, message: ProviderMessage) -> ProviderMessage | None:
        self.requester.receive_data(self.provider.send(message))
        return self.requester.next_event()

    def running(self) -> Dialogue:
        self.ask(PROPOSE)
        self.answer(QUOTED)
        self.ask(PAY)
        return self


def test_a_whole_job_as_a_dialogue() -> None:
    talk = Dialogue()
    assert talk.ask(PROPOSE) == PROPOSE
    assert talk.answer(QUOTED) == QUOTED
    assert talk.ask(PAY) == PAY
    assert talk.answer(Chunk(0, "Hello", 2)) == Chunk(0, "Hello", 2)
    assert talk.answer(AmountDue(3)) == AmountDue(3)
    assert talk.ask(Pay(a_voucher(3))) == Pay(a_voucher(3))
    last = finished(2, talk.provider.digest())
    assert talk.answer(last) == last
    assert talk.ask(Pay(a_voucher(3))) == Pay(a_voucher(3))
    assert talk.requester.is_over
    assert talk.provider.is_over


def test_a_cancel_that_crosses_the_last_word_is_no_fault() -> None:
    talk = Dialogue().running()
    cancel = talk.requester.send(Cancel())
    talk.answer(finished(0, talk.provider.digest()))
    talk.provider.receive_data(cancel)
    assert talk.provider.next_event() == Cancel()
    assert talk.provider.phase is Phase.ENDED


def test_a_payment_after_cancel_is_taken_until_the_end() -> None:
    talk = Dialogue().running()
    talk.ask(Cancel())
    assert talk.answer(Chunk(0, "late", 1)) == Chunk(0, "late", 1)
    assert talk.ask(PAY) == PAY
    usage = Usage(PROMPT_TOKENS, 1)
    talk.answer(Failed(JobState.CANCELLED, "The requester cancelled.", usage, charge(PRICE, usage)))
    assert talk.ask(PAY) == PAY


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("message", FROM_REQUESTER, ids=lambda m: type(m).__name__)
def test_the_requester_says_what_the_table_allows_and_nothing_else(phase: Phase, message: RequesterMessage) -> None:
    requester, provider = JobRequester(), JobProvider()
    requester.phase = provider.phase = phase
    key = (phase, type(message))
    if key in REQUESTER_SAYS:
        requester.send(message)
        assert requester.phase is REQUESTER_SAYS[key]
    else:
        with pytest.raises(LocalProtocolError):
            requester.send(message)
        assert requester.phase is phase
    provider.receive_data(encode_frame(message))
    if key in REQUESTER_SAYS or key in CROSSING:
        assert provider.next_event() == message
    else:
        with pytest.raises(RemoteProtocolError):
            provider.next_event()


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("message", FROM_PROVIDER, ids=lambda m: type(m).__name__)
def test_the_provider_says_what_the_table_allows_and_nothing_else(phase: Phase, message: ProviderMessage) -> None:
    talk = Dialogue()
    talk.ask(PROPOSE)
    if phase not in (Phase.PROPOSED, Phase.ABANDONED):
        talk.answer(QUOTED)
    talk.provider.phase = talk.requester.phase = phase
    if (phase, type(message)) in PROVIDER_SAYS:
        assert talk.answer(message) == message
        assert talk.provider.phase is talk.requester.phase is PROVIDER_SAYS[phase, type(message)]
        return
    with pytest.raises(LocalProtocolError):
        talk.provider.send(message)
    talk.requester.receive_data(encode_frame(message))
    with pytest.raises(RemoteProtocolError):
        talk.requester.next_event()


def test_every_phase_but_the_last_two_can_be_left() -> None:
    leaving = {phase for (phase, _), after in itertools.chain(REQUESTER_SAYS.items(), PROVIDER_SAYS.items())
               if after is not phase}
    assert set(Phase) - leaving == {Phase.ENDED, Phase.CLOSED}


@pytest.mark.parametrize("phase", [Phase.PROPOSED, Phase.QUOTED, Phase.RUNNING, Phase.CANCELLING, Phase.ABANDONED])
def test_an_end_of_the_stream_without_a_last_word_is_a_failure(phase: Phase) -> None:
    requester, provider = JobRequester(), JobProvider()
    for end in (requester, provider):
        end.phase = phase
        end.receive_data(b"")
        with pytest.raises(RemoteProtocolError):
            end.next_event()


def test_an_end_of_the_stream_after_the_last_word_is_no_fault() -> None:
    talk = Dialogue().running()
    talk.answer(finished(0, talk.provider.digest()))
    talk.requester.receive_data(b"")
    talk.provider.receive_data(b"")
    assert talk.requester.next_event() is None
    assert talk.provider.next_event() is None


WRONG: tuple[ProviderMessage, ...] = (
    Chunk(1, "skipped", 1),
    Chunk(0, "too many", 65),
    Chunk(0, "", 9),
    Chunk(0, "few", 12),
    Chunk(0, "fewer", -1),
    AmountDue(100),
    AmountDue(-1),
    finished(0, "00" * 32),
    Finished(Usage(PROMPT_TOKENS, 9), "stop", 0, EMPTY),
    Finished(Usage(PROMPT_TOKENS, 0), "stop", 2, EMPTY),
    Finished(Usage(PROMPT_TOKENS + 1, 0), "stop", 0, EMPTY),
    Failed(JobState.DECODING, "odd", Usage(), 0),
    Failed(JobState.FAILED, "dear", Usage(), 5),
)


@pytest.mark.parametrize("message", WRONG, ids=repr)
def test_sums_that_do_not_add_up_are_refused_at_both_ends(message: ProviderMessage) -> None:
    talk = Dialogue().running()
    with pytest.raises(LocalProtocolError):
        talk.provider.send(message)
    talk.requester.receive_data(encode_frame(message))
    with pytest.raises(RemoteProtocolError):
        talk.requester.next_event()


@pytest.mark.parametrize(
    "change",
    [{"job_id": "other"}, {"model": "other"}, {"prompt_tokens": -1}, {"window_tokens": -1}, {"window_tokens": 513}],
)
def test_a_quote_for_something_else_is_refused(change: dict[str, object]) -> None:
    talk = Dialogue()
    talk.ask(PROPOSE)
    talk.requester.receive_data(encode_frame(Quoted(msgspec.structs.replace(QUOTE, **change), "ab")))
    with pytest.raises(RemoteProtocolError):
        talk.requester.next_event()


def test_an_amount_asked_never_goes_down() -> None:
    talk = Dialogue().running()
    talk.answer(AmountDue(3))
    with pytest.raises(LocalProtocolError):
        talk.provider.send(AmountDue(2))


def test_a_flood_of_messages_is_cut_off() -> None:
    provider = JobProvider()
    provider.receive_data(encode_frame(PROPOSE))
    provider.next_event()
    flood = encode_frame(Keep()) * 1_000
    with pytest.raises(RemoteProtocolError):
        for _ in range(10):
            provider.receive_data(flood)


def test_a_frame_over_the_limit_is_refused_before_its_body_arrives() -> None:
    with pytest.raises(RemoteProtocolError):
        JobProvider().receive_data(b"\xff\xff\xff\x7f")


@given(st.lists(st.text(max_size=20), min_size=1, max_size=12), st.lists(st.integers(1, 30), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_split_of_the_bytes_gives_the_same_answer(texts: list[str], cuts: list[int]) -> None:
    talk = Dialogue().running()
    said = b"".join(talk.provider.send(Chunk(i, text, i)) for i, text in enumerate(texts))
    said += talk.provider.send(finished(len(texts) - 1, talk.provider.digest()))
    heard, lengths = [], itertools.cycle(cuts)
    while said:
        length = next(lengths)
        talk.requester.receive_data(said[:length])
        said = said[length:]
        while (event := talk.requester.next_event()) is not None:
            heard.append(event)
    assert "".join(event.text for event in heard if isinstance(event, Chunk)) == "".join(texts)
    assert isinstance(heard[-1], Finished)


@given(st.binary(max_size=200), st.sampled_from([JobProvider, JobRequester]))
@settings(max_examples=100, deadline=None)
def test_garbage_is_a_remote_fault_or_waits(garbage: bytes, end: type[JobProvider] | type[JobRequester]) -> None:
    machine = end()
    try:
        machine.receive_data(garbage)
        machine.next_event()
    except RemoteProtocolError:
        return
