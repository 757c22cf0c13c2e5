"""What jobs this machine is asked for, as one typical job: the next choice of a plan is made for it.

Pure: `now` is an argument. Knows lengths and times only; never a prompt, and never who asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import msgspec

from core.job import JobId, Timing, Usage
from core.metamodel.goal import JobMix

MAX_ASKED = 256
HALF_LIFE_S = 3 * 86_400.0
QUOTE_WEIGHT = 0.25
TRUST_AFTER = 8.0
MAX_CONCURRENT = 64.0


class Asked(msgspec.Struct, frozen=True):
    """One job that somebody asked for. It weighs 1 when it was served to its end, else a part: whoever asks three peers
    asks each of them, and asking costs nothing. ended_at is None while nobody knows; cached_tokens None: nobody looked;
    foretold, the share of guessed tokens that were right, None: nobody guessed.
    """

    job_id: JobId
    at: float
    prompt_tokens: int
    output_tokens: int
    weight: float = QUOTE_WEIGHT
    ended_at: float | None = None
    cached_tokens: int | None = None
    foretold: float | None = None


class Demand(msgspec.Struct, frozen=True):
    """The newest jobs that were asked for, the oldest first; bounded."""

    asked: tuple[Asked, ...] = ()

    def with_quote(self, asked: Asked) -> Demand:
        """One quote more. Asking again for the same job changes nothing."""
        if any(known.job_id == asked.job_id for known in self.asked):
            return self
        return Demand((*self.asked, asked)[-MAX_ASKED:])

    def with_end(self, job_id: JobId, at: float, *, usage: Usage, timing: Timing, caches: bool) -> Demand:
        """A job ran to its end: what it really took, in the place of what was asked. caches: prompts were looked up."""
        known = next((asked for asked in self.asked if asked.job_id == job_id), None)
        others = tuple(asked for asked in self.asked if asked is not known)
        began = known.at if known is not None else at - timing.ttft_s - timing.decode_s
        served = Asked(
            job_id,
            began,
            usage.prompt_tokens,
            usage.completion_tokens,
            weight=1.0,
            ended_at=at,
            cached_tokens=timing.cached_tokens if caches else None,
            foretold=timing.accepted_tokens / timing.drafted_tokens if timing.drafted_tokens else None,
        )
        return Demand((*others, served)[-MAX_ASKED:])


def job_mix(demand: Demand, *, now: float, usual: JobMix | None = None) -> JobMix:
    """The typical job of late: weighted medians, older jobs weighing less. Few jobs leave it near the usual one."""
    usual = usual or JobMix()
    asked = demand.asked
    weights = [a.weight * 0.5 ** (max(0.0, now - a.at) / HALF_LIFE_S) for a in asked]
    trust = sum(weights) / (sum(weights) + TRUST_AFTER)
    if not asked or trust < 1e-3:
        return usual
    prompt = _between(usual.prompt_tokens, median([a.prompt_tokens for a in asked], weights), trust=trust)
    output = _between(usual.output_tokens, median([a.output_tokens for a in asked], weights), trust=trust)
    together = median([float(n) for n in _together(asked)], weights)
    return msgspec.structs.replace(
        usual,
        prompt_tokens=max(1, round(prompt)),
        output_tokens=max(1, round(output)),
        concurrent=min(MAX_CONCURRENT, _between(usual.concurrent, together, trust=trust)),
        shared_prefix_tokens=min(round(prompt) - 1, _shared(asked, weights, usual=usual.shared_prefix_tokens)),
        output_spread=_spread(asked, weights, usual=usual.output_spread),
        foretold=_foretold(asked, weights, usual=usual.foretold),
    )


def median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted median: half of the weight lies at or below it. values must not be empty."""
    ordered = sorted(zip(values, weights, strict=True))
    half, passed = sum(weights) / 2, 0.0
    for value, weight in ordered:
        passed += weight
        if passed >= half:
            return value
    return ordered[-1][0]


def mix_key(mix: JobMix) -> str:
    """What of a mix is worth a new choice: its sizes by factors of two, and what is foretold by quarters."""
    sizes = (mix.prompt_tokens, mix.output_tokens, mix.concurrent, 64 + mix.shared_prefix_tokens)
    return "/".join([*(str(round(log(max(1.0, size), 2))) for size in sizes), str(round(4 * mix.foretold))])


def _between(usual: float, seen: float, *, trust: float) -> float:
    return exp((1 - trust) * log(max(1.0, usual)) + trust * log(max(1.0, seen)))


def _together(asked: Sequence[Asked]) -> list[int]:
    """With how many each job was under way at its beginning, itself included. One whose end nobody knows took as long
    as those that ended usually did; no such one: a moment."""
    took = sorted(a.ended_at - a.at for a in asked if a.ended_at is not None)
    usual_s = took[len(took) // 2] if took else 0.0
    spans = [(a.at, a.ended_at if a.ended_at is not None else a.at + usual_s) for a in asked]
    return [max(1, sum(began <= at < ended for began, ended in spans)) for at, _ in spans]


def _shared(asked: Sequence[Asked], weights: Sequence[float], *, usual: int) -> int:
    """The median of what was cached of a prompt, among jobs whose prompts were looked up."""
    known = [(float(a.cached_tokens), w) for a, w in zip(asked, weights, strict=True) if a.cached_tokens is not None]
    if not known:
        return usual
    trust = sum(w for _, w in known) / (sum(w for _, w in known) + TRUST_AFTER)
    return round((1 - trust) * usual + trust * median([v for v, _ in known], [w for _, w in known]))


def _foretold(asked: Sequence[Asked], weights: Sequence[float], *, usual: float) -> float:
    """The mean share of guesses that were right, among jobs whose tokens were guessed ahead."""
    known = [(a.foretold, w) for a, w in zip(asked, weights, strict=True) if a.foretold is not None]
    total = sum(w for _, w in known)
    mean = sum(v * w for v, w in known) / total if total > 0 else usual
    trust = total / (total + TRUST_AFTER)
    return min(1.0, max(0.0, (1 - trust) * usual + trust * mean))


def _spread(asked: Sequence[Asked], weights: Sequence[float], *, usual: float) -> float:
    """Standard deviation of served answers' lengths over their mean."""
    known = [(a.output_tokens, w) for a, w in zip(asked, weights, strict=True) if a.ended_at is not None]
    total = sum(w for _, w in known)
    if len(known) < TRUST_AFTER or total <= 0:
        return usual
    mean = sum(v * w for v, w in known) / total
    variance = sum(w * (v - mean) ** 2 for v, w in known) / total
    return sqrt(variance) / mean if mean > 0 else usual
