"""What a peer sells: a public advert for one model (prices, promised speeds, expiry), and the quote for one job.

Signing belongs to p2p (the peer's identity key); these are the words that get signed.
"""

from __future__ import annotations

import msgspec

from core.job import JobId, Price


class Offer(msgspec.Struct, frozen=True):
    """One model at one peer. worker_owner and worker_hot name the escrow party that is paid."""

    peer_id: str
    model: str
    source_sha256: str
    quantization: str
    price: Price
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    slots: int
    context_tokens: int
    worker_owner: str
    worker_hot: str
    issued_at: float
    expires_at: float
    sequence: int = 0


# The longest run ahead of payment that a quote may ask for: what a requester can lose to a provider that stops there.
MAX_WINDOW_TOKENS = 512


class Quote(msgspec.Struct, frozen=True):
    """A price and a time for one job, good until expires_at; window_tokens is how far we run ahead of payment."""

    job_id: JobId
    price: Price
    prompt_tokens: int
    ttft_p90_s: float
    tpot_s: float
    window_tokens: int
    worker_owner: str
    worker_hot: str
    model: str
    quantization: str
    expires_at: float


class Reject(msgspec.Struct, frozen=True):
    """A refusal with its reason; retry_after_s 0 means that asking again is no use."""

    job_id: JobId
    reason: str
    retry_after_s: float = 0.0
