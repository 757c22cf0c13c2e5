"""How long a job waits with all slots of a plan busy: for its first token, and for each further one.

Pure. Never decides whether that is too long: choice does, by the same figures.
"""

from __future__ import annotations

import msgspec

from core.metamodel.choice import step_s
from core.metamodel.goal import JobMix
from core.plan import Estimate, Plan


class ResponseTimes(msgspec.Struct, frozen=True):
    """Seconds until the first token, and the longest pause before a further one."""

    first_s: float
    pause_s: float


def response_times(plan: Plan, estimate: Estimate, *, mix: JobMix) -> ResponseTimes:
    """A prompt is read in chunks between the steps of the others; what a cache keeps of it is not read again."""
    busy_s = step_s(estimate, plan.slots)
    known = min(mix.shared_prefix_tokens, mix.prompt_tokens - 1) if plan.prefix_cache else 0
    read = mix.prompt_tokens - known
    chunk = min(plan.prefill_chunk or read, read)
    speed = max(estimate.prefill_tokens_per_s, 1e-9)
    first_s = read / speed + (-(-read // chunk) + 1) * busy_s
    return ResponseTimes(first_s, busy_s + (chunk / speed if plan.slots > 1 else 0.0))
