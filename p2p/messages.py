"""What two peers say to each other: the messages of the job and query protocols, their limits, and what gets signed.

Frames are core.framing's: unknown keys are ignored, unknown tags refused. A signed value (Offer, Quote) is signed
whole: a new field there is a new protocol version. Pure; never checks a voucher (core.payments does) or holds a key.
"""

from __future__ import annotations

import msgspec

from core.job import JOB_ID, MAX_JOB_TOKENS, JobId, JobRequest, JobState, PeerId, Usage
from core.model_card import MAX_NAME_CHARACTERS
from core.offer import Offer, Quote, Reject
from core.payments.voucher import MAX_AMOUNT, JobClaim, Party, Signature, Voucher

JOB_PROTOCOL = "/starling/job/1.0.0"
QUERY_PROTOCOL = "/starling/query/1.0.0"
VERSION = 1

MAX_PROMPT_BYTES = 1 << 20
MAX_REQUESTER_FRAME_BYTES = 4 << 20  # JSON may spell one byte of a prompt as several
MAX_PROVIDER_FRAME_BYTES = 256 << 10
MAX_QUERY_FRAME_BYTES = 64 << 10
MAX_ANSWER_FRAME_BYTES = 1 << 20
MAX_OFFERS = 256
MAX_OFFERS_A_PEER = 16
MAX_ADDRESSES = 8
MAX_ADDRESS_CHARS = 200
MAX_TURNS = 1_024
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_FAN_OUT = 16
MAX_DEADLINE_S = 86_400.0

_ROLES = ("system", "user", "assistant")


# job, requester to provider


class PayerProof(msgspec.Struct, frozen=True):
    """The payer's hot key over a JobClaim (EIP-712) of this job at this provider, good until expires (epoch s)."""

    expires: int
    signature: Signature


class Propose(msgspec.Struct, frozen=True, tag="propose"):
    """May this job run at your place? Answered by Quoted or Rejected."""

    request: JobRequest
    payer: Party
    proof: PayerProof
    version: int = VERSION


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Our line broke: go on with this job from this chunk. Only for the peer that proposed it, while the provider holds
    it. Answered by Resumed and all that follows, or Rejected."""

    job_id: JobId
    seq: int
    version: int = VERSION


class Pay(msgspec.Struct, frozen=True, tag="pay"):
    """Money for this job. The first one accepts the quote; each AmountDue is answered by one."""

    voucher: Voucher


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop. Delivered tokens stay owed; the provider still answers with Finished or Failed."""


# job, both ways


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """Still here."""


# job, provider to requester


class Quoted(msgspec.Struct, frozen=True, tag="quoted"):
    """Yes, at this price; signature is the provider's identity key over quote_bytes, in hex."""

    quote: Quote
    signature: str


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """No, and why."""

    reject: Reject


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """Here is the rest, from chunk seq on."""

    seq: int


class AmountDue(msgspec.Struct, frozen=True, tag="amount_due"):
    """What this job has cost so far, in smallest units: sign for it, or the answer stops after one window."""

    amount: int


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """A piece of the answer. seq counts from 0; completion_tokens is the total so far."""

    seq: int
    text: str
    completion_tokens: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The answer is complete. amount is what the whole job costs; digest is the SHA-256 of its text, in hex."""

    usage: Usage
    reason: str
    amount: int
    digest: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The job ended early: state is FAILED or CANCELLED; usage and amount are what was delivered until then."""

    state: JobState
    reason: str
    usage: Usage
    amount: int


RequesterMessage = Propose | Resume | Pay | Cancel | Keep
ProviderMessage = Quoted | Rejected | Resumed | AmountDue | Chunk | Finished | Failed | Keep


# query


class GetOffers(msgspec.Struct, frozen=True, tag="get_offers"):
    """Which offers do you know, for this model or (None) for any? Answered by Offers."""

    model: str | None = None
    version: int = VERSION


class SignedOffer(msgspec.Struct, frozen=True):
    """An offer and the hex signature of its peer's identity key over offer_bytes. addresses are where the peer may be
    dialled: hints, not signed, since a dial proves the peer id."""

    offer: Offer
    signature: str
    addresses: tuple[str, ...] = ()


class Offers(msgspec.Struct, frozen=True, tag="offers"):
    """At most MAX_OFFERS; the asker checks every signature and expiry itself."""

    offers: tuple[SignedOffer, ...]


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """Here are my offers. Answered by Pong; offers of others are ignored."""

    offers: tuple[SignedOffer, ...]


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Are you there? Answered by Pong with the same number."""

    number: int = 0


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Here; models are the ones this peer serves now."""

    number: int = 0
    models: tuple[str, ...] = ()


Query = GetOffers | Tell | Ping
QueryAnswer = Offers | Pong


def offer_bytes(offer: Offer) -> bytes:
    """What a peer signs when it advertises."""
    return b"starling-offer-1:" + msgspec.json.encode(offer)


def quote_bytes(quote: Quote) -> bytes:
    """What a provider signs when it quotes."""
    return b"starling-quote-1:" + msgspec.json.encode(quote)


def job_claim(propose: Propose, provider: PeerId) -> JobClaim:
    """What a proposal's proof signs when it is made to this provider. Raises ValueError on a bad address."""
    return JobClaim(propose.payer.id, propose.request.terms.job_id, provider, propose.proof.expires)


def prompt_bytes(request: JobRequest) -> int:
    """The size of the prompt's words, in bytes of UTF-8."""
    return sum(len(message.content.encode("utf-8", "surrogatepass")) for message in request.messages)


def proposal_fault(propose: Propose) -> str | None:
    """Why a peer may not even ask this, or None. The first check of every proposal, before anything is spent on it."""
    request = propose.request
    if propose.version != VERSION:
        return f"This peer speaks version {VERSION} of the job protocol."
    return _terms_fault(request) or _words_fault(request) or _sampling_fault(request)


def _terms_fault(request: JobRequest) -> str | None:
    terms = request.terms
    if not JOB_ID.fullmatch(terms.job_id):
        return "The job id is not 1 to 64 letters, digits, dashes or underscores."
    if not 0 < terms.max_tokens <= MAX_JOB_TOKENS:
        return "The number of tokens asked for is out of bounds."
    if not 0 < terms.deadline_s <= MAX_DEADLINE_S or not 1 <= terms.fan_out <= MAX_FAN_OUT:
        return "The deadline or the fan-out is out of bounds."
    if not (0 <= terms.bid_per_mtok <= MAX_AMOUNT and 0 <= terms.max_total <= MAX_AMOUNT):
        return "An amount is out of bounds."
    if not 0 < len(terms.model) <= MAX_NAME_CHARACTERS or not 0 <= terms.prompt_bytes <= MAX_PROMPT_BYTES:
        return "The model's name or the prompt's size is out of bounds."
    return None


def _words_fault(request: JobRequest) -> str | None:
    if not 1 <= len(request.messages) <= MAX_TURNS:
        return "The prompt has no turns, or too many."
    if any(message.role not in _ROLES for message in request.messages):
        return "A turn is neither system, user nor assistant."
    if prompt_bytes(request) > MAX_PROMPT_BYTES:
        return "The prompt is longer than 1 MiB."
    return None


def _sampling_fault(request: JobRequest) -> str | None:
    sampling = request.sampling
    if not 0 < sampling.max_tokens <= request.terms.max_tokens:
        return "The sampling asks for more tokens than the terms."
    if len(sampling.stop) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in sampling.stop):
        return "There are too many stop strings, or one is empty or too long."
    if not (0 <= sampling.temperature <= 10 and 0 <= sampling.top_p <= 1 and 0 <= sampling.min_p <= 1):
        return "A sampling value is out of bounds."
    if not (0 <= sampling.top_k < 1 << 31 and 0 <= sampling.seed < 1 << 32):
        return "A sampling value is out of bounds."
    return None
