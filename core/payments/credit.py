"""How far a job may run on what its payer has signed: lane credit, and the tokens that an amount pays for.

Pure. A lane's cumulative pays for all jobs of one payer; each job takes its part when a voucher raises it.
"""

from __future__ import annotations

from core.job import Price

SCALE = 10_000 * 1_000_000


def lane_credit(cumulative: int, billed: int, *, held: int) -> int:
    """What is signed and not yet used: billed is for ended jobs, held is what live jobs have taken already."""
    return max(0, cumulative - billed - held)


def allowance(price: Price, prompt_tokens: int, *, paid: int, window_tokens: int) -> int:
    """How many completion tokens a job may have made: those paid for, and one window ahead (payments.md, rule 3)."""
    return paid_tokens(price, prompt_tokens, paid=paid) + window_tokens


def paid_tokens(price: Price, prompt_tokens: int, *, paid: int) -> int:
    """Completion tokens that this amount pays for once the prompt is paid."""
    left = paid * SCALE // (10_000 + price.tip_bp) - price.input_per_mtok * prompt_tokens
    if left <= 0:
        return 0
    return left // price.output_per_mtok if price.output_per_mtok else 1 << 30
