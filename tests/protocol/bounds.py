"""The document's tables of limits, rates and deadlines: each row is a constant of the code, and what it is for."""

from __future__ import annotations

import msgspec

from core import framing
from core.job_desk import QUOTE_S as QUOTE_LIFE_S
from core.payments.voucher import CLAIM_LIFE_S, MAX_CLAIM_LIFE_S
from p2p import chunk_buffer as buffer
from p2p import (
    greeting,
    job_link,
    job_protocol,
    job_request,
    job_sales,
    job_stream,
    messages,
    model_source,
    offer_book,
    offer_exchange,
    peer_exchange,
    peer_record,
    query_stream,
    reach,
    relay_book,
    row_exchange,
    row_messages,
    trust,
)
from p2p.libp2p_adapter import limits
from p2p.token_bucket import Rate


class Bound(msgspec.Struct, frozen=True):
    """One number of the protocol. what: for a reader who has only the document."""

    value: float
    unit: str
    what: str


def _rates(what: str, each: Rate, total: Rate) -> tuple[Bound, ...]:
    return (
        Bound(each.per_s, "a second", f"{what} of one peer in the long run; more are refused, or get no answer"),
        Bound(each.burst, "at once", f"{what} of one peer"),
        Bound(total.per_s, "a second", f"{what} of all peers in the long run"),
        Bound(total.burst, "at once", f"{what} of all peers"),
    )


_CONNECTIONS = limits.ConnectionLimits()
TRANSPORT = (
    Bound(_CONNECTIONS.total, "connections", "inbound at once, from all; more are closed at once"),
    Bound(_CONNECTIONS.per_ip, "connections", "inbound at once from one IP address"),
    Bound(_CONNECTIONS.half_open_per_ip, "connections", "of those whose handshake is not done yet"),
    Bound(limits.STRANGERS.per_s, "a second", "new connections from one IP address in the long run"),
    Bound(limits.STRANGERS.burst, "at once", "new connections from one IP address"),
    Bound(limits.ALL_STRANGERS.per_s, "a second", "new connections from all"),
    Bound(limits.ALL_STRANGERS.burst, "at once", "new connections from all"),
    Bound(1, "connection", "for each pair of peers; of two that crossed, one is closed"),
    Bound(limits.MAX_STREAMS_A_PEER, "streams", "inbound at once from one peer; more are reset"),
    Bound(limits.MAX_NEGOTIATION_BYTES, "bytes", "longest protocol name that is read in a negotiation"),
    Bound(limits.MAX_UNREAD_STREAM_BYTES, "bytes", "kept of a stream that nobody reads; more resets it"),
    Bound(limits.MAX_UNREAD_CONNECTION_BYTES, "bytes", "kept of one peer; more closes the connection"),
    Bound(limits.DIAL_S, "s", "for a TCP connection to one address"),
    Bound(limits.DIAL_STAGGER_S, "s", "between the dials of a peer's addresses"),
    Bound(limits.UPGRADE_S, "s", "for Noise and Yamux (and before them the HTTP request of a WebSocket)"),
    Bound(limits.OPEN_STREAM_S, "s", "for opening a stream and agreeing on its protocol"),
    Bound(limits.WRITE_S, "s", "for the peer to take what is written; then the stream or connection is dropped"),
    Bound(limits.PING_EVERY_S, "s", "without a byte from the peer until it is sent a Yamux ping"),
    Bound(limits.PONG_S, "s", "for the answer to one; a peer that gives none is gone"),
)
FRAMES = (
    Bound(framing.MAX_VARINT_BYTES, "bytes", "longest frame length; one that goes on is malformed"),
    Bound(job_protocol.FRAMES_PER_JOB, "frames", "from one end of a job, and"),
    Bound(job_protocol.FRAMES_PER_TOKEN, "frames", "more for each token of its max_tokens"),
)
JOB = (
    Bound(job_stream.FIRST_FRAME_S, "s", "for the first message on a stream"),
    Bound(job_stream.QUOTE_S, "s", "until the provider has answered a proposal"),
    Bound(QUOTE_LIFE_S, "s", "a quote of ours is good for"),
    Bound(job_stream.PAYMENT_S, "s", "the provider waits for the first Pay, however good the quote is for"),
    Bound(CLAIM_LIFE_S, "s", "a payer's proof is made to be good for"),
    Bound(MAX_CLAIM_LIFE_S, "s", "ahead, at most, a proof may expire"),
    Bound(job_link.KEEP_EVERY_S, "s", "between Keeps of each end, while it has nothing else to say"),
    Bound(job_link.SILENCE_S, "s", "of silence after which the other end is taken for gone"),
    Bound(buffer.FLUSH_S, "s", "the longest that a token waits for others in a chunk; the first one never waits"),
    Bound(buffer.FLUSH_TOKENS, "tokens", "that are sent without waiting longer"),
    Bound(job_request.PAY_S, "s", "until the requester has answered an AmountDue"),
    Bound(job_request.CANCEL_S, "s", "the requester waits for the last word after its Cancel"),
    Bound(job_stream.SETTLE_S, "s", "the provider waits for the last Pay after its last word"),
    Bound(job_link.HANG_UP_S, "s", "for the other end to close, after closing one's own writing"),
    Bound(job_sales.HELD_S, "s", "a job is held for its requester to come back with Resume"),
    Bound(job_sales.MAX_HELD, "jobs", "held at once"),
    *_rates("proposals and resumptions", job_sales.EACH_PEER, job_sales.ALL_PEERS),
)
QUERY = (
    Bound(query_stream.FIRST_FRAME_S, "s", "for the question"),
    Bound(query_stream.QUERY_S, "s", "for the answer"),
    *_rates("questions", query_stream.EACH_PEER, query_stream.ALL_PEERS),
    *_rates("tells", query_stream.TOLD_BY_EACH, query_stream.TOLD_BY_ALL),
    Bound(messages.MAX_OFFERS, "offers", "in one answer"),
    Bound(messages.MAX_OFFERS_A_PEER, "offers", "of one peer that are kept"),
    Bound(offer_book.MAX_KNOWN, "offers", "kept in all"),
    Bound(offer_exchange.PROVIDE_EVERY_S, "s", "between two writings of the same provider record"),
)
HELLO = (
    Bound(greeting.HELLO_S, "s", "for the hello and its answer"),
    Bound(greeting.FOREIGN_S, "s", "a peer of another network is not spoken to again"),
)
PEERS = (
    Bound(peer_exchange.QUESTION_S, "s", "for the question"),
    Bound(peer_exchange.ANSWER_S, "s", "for the answer"),
    Bound(peer_exchange.ANSWERS_A_MINUTE_AND_PEER, "a minute", "answers to one peer"),
    Bound(peer_exchange.ANSWERS_A_MINUTE, "a minute", "answers in all"),
    Bound(peer_record.LIFE_S, "s", "a record is made to be good for"),
    Bound(peer_record.RENEW_S, "s", "after which it is made anew"),
)
REACH = (
    Bound(reach.CHECKS_A_MINUTE_AND_PEER, "a minute", "checks that one peer may ask for"),
    Bound(reach.DIALS_A_MINUTE, "a minute", "dials that a peer makes for others"),
    Bound(reach.DIALS_A_MINUTE_AND_IP, "a minute", "of those to one IP address"),
)
MODEL = (
    Bound(model_source.IDLE_S, "s", "for the next question on a stream"),
    Bound(model_source.MOST_STREAMS, "streams", "served at once"),
    Bound(model_source.MOST_STREAMS_A_PEER, "streams", "of those to one peer"),
)
ROWS = (
    Bound(row_exchange.QUESTION_S, "s", "for the question"),
    Bound(row_exchange.ANSWER_S, "s", "for the answer"),
    Bound(row_exchange.ANSWERS_A_MINUTE, "a minute", "answers in all, one of them to each peer"),
    Bound(row_messages.MAX_SETS, "sets", "in one answer"),
)


DHT = (
    Bound(limits.DHT_READ_S, "s", "for the next question on a stream"),
    Bound(limits.MAX_DHT_QUERIES_A_SECOND, "a second", "questions of one peer; one more ends the stream"),
    Bound(limits.MAX_DHT_QUERY_BYTES, "bytes", "longest question"),
    Bound(limits.MAX_DHT_ANSWER_BYTES, "bytes", "longest answer that is read"),
    Bound(limits.MAX_DHT_KEY_BYTES, "bytes", "longest key"),
    Bound(limits.PROVIDER_RECORD_S, "s", "a provider record lives"),
    Bound(limits.MAX_PROVIDER_KEYS, "keys", "with provider records that a peer keeps"),
    Bound(limits.MAX_KEYS_A_PROVIDER, "keys", "of those that one provider is kept for"),
)
_RELAY = relay_book.RelayLimits()
RELAY = (
    Bound(_RELAY.reservations, "reservations", "at once, at a relay"),
    Bound(_RELAY.reservations_per_ip, "reservations", "of those from one IP address"),
    Bound(_RELAY.reservation_s, "s", "a reservation lives"),
    Bound(_RELAY.circuits, "circuits", "at once"),
    Bound(_RELAY.circuits_per_peer, "circuits", "of those to or from one peer"),
    Bound(_RELAY.circuit_s, "s", "a circuit lives at most"),
    Bound(_RELAY.circuit_bytes, "bytes", "it carries at most"),
    Bound(_RELAY.bytes_per_s, "bytes a second", "it carries"),
)


def trust_table() -> str:
    """What each fault counts, and what a ban is."""
    points = [f"| `{fault.value}` | {_spelled(trust.POINTS[fault])} |" for fault in trust.Fault]
    at, first, growth, most, half, forgiven = map(
        _spelled,
        (
            trust.BAN_AT,
            trust.FIRST_BAN_S,
            trust.BAN_GROWTH,
            trust.MAX_BAN_S,
            trust.HALF_LIFE_S,
            trust.FORGIVEN_AFTER_S,
        ),
    )
    bans = (
        f"At {at} points a peer is banned: for {first} s, then {growth} times as long each time, at most {most} s. "
        f"Points fade by half every {half} s; a ban counts no longer after {forgiven} s without another."
    )
    return "\n".join(["| fault | points |", "|---|---|", *points, "", bans])


def bounds_table(bounds: tuple[Bound, ...]) -> str:
    """One table of numbers."""
    rows = [f"| {_spelled(bound.value)} | {bound.unit} | {bound.what} |" for bound in bounds]
    return "\n".join(["| | | |", "|---|---|---|", *rows])


def _spelled(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
