"""Whether a proposed job is one that this plan can serve at all, judged by what it says of itself.

Pure. Looks at sizes before anything else is done with a stranger's words. Never says whether it is served now.
"""

from __future__ import annotations

from core.job import JOB_ID, JobRequest
from core.payments.voucher import MAX_AMOUNT
from core.plan import Plan

# No vocabulary averages so many bytes a token: a longer prompt cannot fit, and need not be read to know it.
MAX_BYTES_PER_TOKEN = 128
MAX_MESSAGES = 4_096


def unfit(request: JobRequest, plan: Plan) -> str | None:
    """Why this job can never be served by this plan, in words for its requester; None when it can."""
    terms, context = request.terms, plan.slot_context_tokens
    if not JOB_ID.fullmatch(terms.job_id):
        return "The job id is not usable or already taken."
    if not all(0 <= amount <= MAX_AMOUNT for amount in (terms.bid_per_mtok, terms.max_total, terms.prompt_bytes)):
        return "An amount is out of bounds."
    if terms.model != plan.model:
        return f"This peer serves {plan.model}."
    if not 0 < terms.max_tokens <= context or not request.messages:
        return "The job asks for no tokens, or more than the context holds."
    if len(request.messages) > MAX_MESSAGES or _characters(request) > MAX_BYTES_PER_TOKEN * context:
        return f"The prompt is far longer than the {context} tokens of this model's context."
    return None


def _characters(request: JobRequest) -> int:
    """Counted, not encoded: a hundred megabytes must not become two hundred."""
    return sum(len(message.role) + len(message.content) for message in request.messages)
