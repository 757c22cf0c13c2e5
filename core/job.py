"""What a job is, in the field's words: request, terms, sampling, state, usage, finish reason.

Never holds a decision. The prompt lives in JobRequest only; a JobRequest is never stored, logged or put into an event.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NewType

import msgspec

JobId = NewType("JobId", str)
PeerId = NewType("PeerId", str)

MAX_JOB_TOKENS = 1 << 20
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class PriorityClass(StrEnum):
    """The three classes of scheduling.md, most urgent first."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


class QualityClass(StrEnum):
    """A budget of KL divergence from the unquantized model (metamodel.md): premium .006, standard .032, economy .11."""

    PREMIUM = "premium"
    STANDARD = "standard"
    ECONOMY = "economy"


class JobState(StrEnum):
    """A job goes QUEUED, LOADING, PREFILL, DECODING, then to exactly one of the last four."""

    QUEUED = "queued"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODING = "decoding"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DECLINED = "declined"

    @property
    def is_over(self) -> bool:
        """True in the four states that no job leaves."""
        return self in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED, JobState.DECLINED)


class FinishReason(StrEnum):
    """Why generation ended: the model's own end or a stop string, or the token limit."""

    STOP = "stop"
    LENGTH = "length"


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the next token is drawn. temperature 0 is greedy; top_k 0 and top_p 1 switch those filters off.

    The penalties are llama.cpp's, over the last penalty_tokens tokens (1 and 0 switch them off). logit_bias adds to the
    logits of token ids; OpenAI's range is -100 to 100. json_schema is a JSON Schema and grammar a GBNF text that the
    answer must obey: one of them at most. top_logprobs: how many alternatives to report beside each token (None: no
    logprobs at all). ignore_eos goes on after the model's own end, up to max_tokens.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int = 0
    stop: tuple[str, ...] = ()
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_tokens: int = 64
    logit_bias: tuple[tuple[int, float], ...] = ()
    json_schema: str = ""
    grammar: str = ""
    top_logprobs: int | None = None
    ignore_eos: bool = False


class TokenLogprob(msgspec.Struct, frozen=True):
    """One drawn token's natural log probability, before any filter, and those of the most likely tokens in its place.

    piece is the token's bytes, which may be part of a character.
    """

    piece: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn of a conversation; role is system, user or assistant."""

    role: str
    content: str


class JobTerms(msgspec.Struct, frozen=True):
    """What everyone in the house may know of a job: all but the words. Prices are smallest units per 1M tokens."""

    job_id: JobId
    model: str
    priority: PriorityClass
    quality: QualityClass = QualityClass.STANDARD
    deadline_s: float = 60.0
    bid_per_mtok: int = 0
    max_tokens: int = 128
    max_total: int = 0
    prompt_bytes: int = 0
    fan_out: int = 1


class JobRequest(msgspec.Struct, frozen=True):
    """A job with its words: held in memory only while the job runs."""

    terms: JobTerms
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()


class Usage(msgspec.Struct, frozen=True):
    """Tokens read and tokens delivered."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Timing(msgspec.Struct, frozen=True):
    """What one job measured in the worker, in seconds; the speeds are the meta-model's training rows.

    cached_tokens of the prompt came from the prefix cache; of drafted_tokens guessed ahead, accepted_tokens were right.
    """

    prefill_s: float = 0.0
    decode_s: float = 0.0
    ttft_s: float = 0.0
    batch: float = 1.0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class Price(msgspec.Struct, frozen=True):
    """Smallest units of the payment token per one million tokens, in and out, and the requester's tip."""

    input_per_mtok: int
    output_per_mtok: int
    tip_bp: int = 0


class Job(msgspec.Struct, frozen=True):
    """One job as the owner sees it; times are seconds since the epoch, amounts are smallest units."""

    terms: JobTerms
    price: Price
    state: JobState
    received_at: float
    payer: str = ""
    peer: str = ""
    usage: Usage = Usage()
    amount: int = 0
    vouchered: int = 0
    prompt_read_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    tokens_per_s: float = 0.0
    batch: float = 1.0
    reason: str = ""
    place: int = 0
    why_here: str = ""


def charge(price: Price, usage: Usage) -> int:
    """What this usage costs, in smallest units: rounded up once over the whole job, never per chunk."""
    parts = price.input_per_mtok * usage.prompt_tokens + price.output_per_mtok * usage.completion_tokens
    return -(-parts * (10_000 + price.tip_bp) // (10_000 * 1_000_000))
