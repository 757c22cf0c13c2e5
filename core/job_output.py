"""What a running job hands to whoever carries it to its requester: text, what is due, and the one end.

Plain values between the engine and the swarm. The text is in memory only and goes nowhere else.
"""

from __future__ import annotations

import msgspec

from core.job import JobState, TokenLogprob, Usage


class OutputChunk(msgspec.Struct, frozen=True):
    """Text that is ready; completion_tokens is the total so far."""

    text: str
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class OutputDue(msgspec.Struct, frozen=True):
    """What this job has cost so far, in smallest units: the requester should have signed for it by now."""

    amount: int


class OutputEnded(msgspec.Struct, frozen=True):
    """The job's one end. amount is what its delivered tokens cost; reason is for people."""

    state: JobState
    reason: str
    usage: Usage
    amount: int


JobOutput = OutputChunk | OutputDue | OutputEnded
