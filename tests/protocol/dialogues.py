"""Whole conversations of the job protocol as golden vectors: who says what, and whose fault ends it, if anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from core.framing import encode_frame
from core.job import JobState, Usage
from core.offer import Reject
from p2p import messages as m
from p2p.job_protocol import JobProvider, JobRequester
from p2p.protocol_error import LocalProtocolError, RemoteProtocolError
from tests.protocol import samples as s

REQUESTER, PROVIDER = "requester", "provider"
Said = tuple[str, m.RequesterMessage | m.ProviderMessage]


def sequence_diagram(name: str) -> str:
    """One conversation as a Mermaid sequence diagram."""
    arrows = {REQUESTER: "requester->>provider", PROVIDER: "provider->>requester"}
    lines = [f"    {arrows[who]}: {message.__struct_config__.tag}" for who, message in conversations()[name]]
    return "\n".join(["```mermaid", "sequenceDiagram", *lines, "```"])


def dialogues() -> list[dict[str, Any]]:
    """Each: its name, what is said in order (frames in hex), and either the states at the end or the fault: the number
    of the message that must be refused, and why."""
    return [_told(name, said) for name, said in conversations().items()]


def _told(name: str, said: Sequence[Said]) -> dict[str, Any]:
    frames = [{"says": who, "frame": encode_frame(message).hex()} for who, message in said]
    return {"name": name, "said": frames, **judged(said)}


def judged(said: Sequence[Said]) -> dict[str, Any]:
    """Let both ends hear all of it; what one end says wrongly is put on the line all the same."""
    requester, provider = JobRequester(), JobProvider()
    for number, (who, message) in enumerate(said):
        speaker, listener = (requester, provider) if who == REQUESTER else (provider, requester)
        try:
            speaker.send(message)  # type: ignore[arg-type]
        except LocalProtocolError:
            pass
        try:
            listener.receive_data(encode_frame(message))
            listener.next_event()
        except RemoteProtocolError as error:
            return {"refused": number, "fault": str(error)}
    return {"requester": requester.phase.value, "provider": provider.phase.value}


def conversations() -> dict[str, list[Said]]:
    """Each by its name: who says what, rightly or wrongly."""
    samples = {type(message).__name__: message for message in s.samples()["job"]}
    ask: Said = (REQUESTER, samples["Propose"])  # type: ignore[assignment]
    quote: Said = (PROVIDER, samples["Quoted"])  # type: ignore[assignment]
    pay: Said = (REQUESTER, samples["Pay"])  # type: ignore[assignment]
    cancel: Said = (REQUESTER, m.Cancel())
    first: Said = (PROVIDER, m.Chunk(0, s.TEXT, 4))
    done: Said = (PROVIDER, samples["Finished"])  # type: ignore[assignment]
    stopped: Said = (PROVIDER, m.Failed(JobState.CANCELLED, "The requester cancelled.", Usage(), 0))
    due: Said = (PROVIDER, m.AmountDue(s.COST))
    whole = sha256(s.TEXT.encode()).hexdigest()
    return {
        "a paid answer": [ask, quote, pay, first, due, pay, done, pay],
        "a refusal": [ask, (PROVIDER, m.Rejected(Reject(s.TERMS.job_id, "No place.", 2.0)))],
        "a cancel that crosses the quote": [ask, cancel, quote, stopped],
        "a cancel while the answer comes": [ask, quote, pay, first, cancel, (PROVIDER, m.Keep()), done, pay],
        "a cancel that crosses the end": [ask, quote, pay, first, done, cancel],
        "an answer before it is paid for": [ask, quote, first],
        "a payment before a quote": [ask, pay],
        "a second proposal": [ask, ask],
        "a chunk that is missing": [ask, quote, pay, (PROVIDER, m.Chunk(1, s.TEXT, 4))],
        "tokens that go back": [ask, quote, pay, first, (PROVIDER, m.Chunk(1, "x", 3))],
        "more tokens than were asked for": [ask, quote, pay, (PROVIDER, m.Chunk(0, "x", 65))],
        "more tokens than text came": [ask, quote, pay, (PROVIDER, m.Chunk(0, "", 64))],
        "more asked than delivered": [ask, quote, pay, (PROVIDER, m.AmountDue(10**9))],
        "a digest of something else": [ask, quote, pay, first, (PROVIDER, m.Finished(s.USAGE, "stop", 0, "00" * 32))],
        "an amount above the price": [ask, quote, pay, first, (PROVIDER, m.Finished(s.USAGE, "stop", 999, whole))],
        "a last word after the last word": [ask, quote, pay, first, done, done],
    }
