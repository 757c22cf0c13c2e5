"""One job while it is with us: its words, what it has cost, what was paid for it, and the channel to its requester.

The words are in memory only, and are dropped when the job ends. Never decides and never waits.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
import trio

from core.job import JobId, JobRequest, PeerId, Price, Timing, Usage, charge
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.payments.credit import allowance
from core.payments.voucher import Party
from core.worker import messages as w

OUTPUT_BACKLOG = 4_096


class Source(msgspec.Struct, frozen=True):
    """Who sent a job and who pays for it."""

    peer: PeerId
    payer: Party


class LiveJob:
    """Owned by the job desk. paid is what vouchers cover of this job; due is the most we have asked for."""

    def __init__(self, request: JobRequest, source: Source, *, price: Price, prompt_tokens: int, now: float) -> None:
        payer = source.payer
        self.peer = source.peer
        self.request = request
        self.terms = request.terms
        self.payer = payer
        self.payer_id = payer.id
        self.price = price
        self.usage = Usage(prompt_tokens, 0)
        self.timing = Timing()
        self.quoted_at = now
        self.moved_at = now
        self.told_at = 0.0
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.paid = 0
        self.due = charge(price, self.usage)
        self.is_taken = False
        self.is_running = False
        self.is_retried = False
        self.is_over = False
        self.cancel_reason = ""
        self._send, self.output = trio.open_memory_channel[JobOutput](OUTPUT_BACKLOG)

    @property
    def job_id(self) -> JobId:
        """The requester's id for it."""
        return self.terms.job_id

    @property
    def is_prompt_paid(self) -> bool:
        """Whether the first payment is there: the job may be queued."""
        return self.paid >= min(self.due, charge(self.price, Usage(self.usage.prompt_tokens, 0)))

    @property
    def amount(self) -> int:
        """What the delivered tokens cost."""
        is_read = self.started_at is not None or self.usage.completion_tokens > 0
        return charge(self.price, self.usage) if is_read else 0

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens per second since the first one."""
        if self.first_token_at is None or self.moved_at <= self.first_token_at:
            return 0.0
        return (self.usage.completion_tokens - 1) / (self.moved_at - self.first_token_at)

    def allowance(self, window_tokens: int) -> int:
        """How many completion tokens the worker may make for what is paid."""
        return allowance(self.price, self.usage.prompt_tokens, paid=self.paid, window_tokens=window_tokens)

    def generate(self, window_tokens: int, *, salt: bytes) -> w.Generate:
        """What the worker is told. Prefixes are cached for each payer apart; salt keeps from the worker who that is."""
        scope = blake2b(self.payer_id.encode(), digest_size=8, key=salt).hexdigest()
        request, allowed = self.request, self.allowance(window_tokens)
        return w.Generate(self.job_id, request.messages, request.sampling, allowed, cache_scope=scope)

    def believe(self, completion_tokens: int, window_tokens: int) -> None:
        """Take a worker's word for what it has made, within what it can have: no fewer tokens than before, no more than
        it was allowed. It runs a stranger's file, and the bill is made from this."""
        most = min(completion_tokens, self.allowance(window_tokens))
        self.usage = Usage(self.usage.prompt_tokens, max(self.usage.completion_tokens, most))

    def deliver(self, chunk: w.Chunk, *, now: float) -> bool:
        """Hand text on; False when the requester does not take it, and the job must stop."""
        self.first_token_at = self.first_token_at or now
        self.moved_at = now
        return self._offer(OutputChunk(chunk.text, self.usage.completion_tokens, chunk.logprobs))

    def ask(self, amount: int) -> bool:
        """Tell the requester what is due; False when it does not listen."""
        self.due = max(self.due, amount)
        return self._offer(OutputDue(amount))

    def end(self, ended: OutputEnded) -> None:
        """The last word; the channel closes behind it, and the prompt is let go."""
        self.request = JobRequest(self.terms, ())
        self._offer(ended)
        self._send.close()

    def _offer(self, output: JobOutput) -> bool:
        try:
            self._send.send_nowait(output)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True
