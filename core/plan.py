"""A Plan is one candidate way to serve a model on this machine; an Estimate is what it is predicted to do.

Plain values: core.metamodel decides over them, core.runtimes carries them out, and neither knows the other.
"""

from __future__ import annotations

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """How to serve: gpu_layers -1 is never used, the count is always explicit; slots are parallel sequences.

    slot_context_tokens is the context of each slot; prefill_chunk is the most prompt tokens taken into one step (0: no
    chunking, a whole prompt at once). continuous_batching off: a new batch starts when the one before has ended.
    prefix_cache keeps the KV of prompts for later ones that begin alike. draft_tokens is how many tokens prompt lookup
    guesses ahead (0: none). steady: an F16 or F32 answer on a CPU has the same bits alone, in company, after a cached
    prefix or a preemption; a lone sequence pays for it with up to two thirds of its speed. more_devices: further GPUs
    that the layers are split over, by layer_split (empty: by memory).
    """

    model: str
    runtime: str
    quantization: str
    slots: int
    slot_context_tokens: int
    gpu_layers: int = 0
    threads: int = 1
    prefill_chunk: int = 128
    kv_type: str = "F16"
    flash_attention: bool = True
    unified_kv: bool = False
    prefix_cache: bool = False
    device_id: str = ""
    continuous_batching: bool = True
    draft_tokens: int = 0
    steady: bool = False
    more_devices: tuple[str, ...] = ()
    layer_split: tuple[float, ...] = ()


class Estimate(msgspec.Struct, frozen=True):
    """Predicted speeds of a plan in tokens per second; low is the 10 % lower bound, which is what we promise.
    power_w is what serving is expected to draw in watts (0: not known). depth_s is what a row of a step costs more for
    each token before it, copy_s what a token of a kept prefix costs that another slot takes over."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_low_tokens_per_s: float
    decode_high_tokens_per_s: float
    step_slope: float
    memory_bytes: int
    fits: bool
    reward_per_hour: float = 0.0
    kl_divergence: float = 0.0
    probability_ok: float = 1.0
    power_w: float = 0.0
    depth_s: float = 0.0
    copy_s: float = 0.0


class NoPlan(msgspec.Struct, frozen=True):
    """Nothing can be served here, and why."""

    reason: str


class Choice(msgspec.Struct, frozen=True):
    """The plan to serve, why in one sentence, and the runner-up. basis names what it was made from: while that stays
    the same, so does the choice."""

    plan: Plan
    estimate: Estimate
    reason: str
    runner_up: Plan | None = None
    candidates: int = 0
    measured_decode_tokens_per_s: float = 0.0
    basis: str = ""


def plan_words(plan: Plan) -> str:
    """The plan as an owner would call it: "Q4_K_M with 4 slots", and what is unusual about it."""
    odd = [] if plan.runtime == "llama.cpp" else [f"on {plan.runtime}"]
    odd += [] if plan.kv_type == "F16" else [f"a {plan.kv_type} cache"]
    odd += [f"{plan.draft_tokens} tokens guessed ahead"] if plan.draft_tokens else []
    named = f"{plan.quantization} with {'1 slot' if plan.slots == 1 else f'{plan.slots} slots'}"
    return f"{named} and {' and '.join(odd)}" if odd else named
