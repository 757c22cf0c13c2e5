"""The meta-model: predicts every candidate plan on this machine and chooses one, with its reason, in under a second.

Reads one asset when it is opened. Never touches the hardware and never runs a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from pathlib import Path

import msgspec

from core.device import Benchmark, Device, Machine
from core.metamodel import choice as choosing
from core.metamodel.candidates import candidates
from core.metamodel.correction import Observation, nearness, offset, step_offset
from core.metamodel.datasheets import find
from core.metamodel.features import Case, Workload, case, is_of_device, rates
from core.metamodel.fit import Fit, probability_ok
from core.metamodel.goal import Goal
from core.metamodel.own_runs import BENCH_DEPTH, BENCH_PROMPT_TOKENS, batch_slope, decode_case, prefill_case
from core.metamodel.predictor import Phase, Prediction, Predictor, bounds, open_prior
from core.metamodel.quantizations import kl_divergence
from core.metamodel.roofline import constants_for, step_slope
from core.model_card import ModelCard
from core.plan import Choice, Estimate, Plan


class Bounded(msgspec.Struct, frozen=True):
    """A corrected speed in tokens per second, and the log factors to its 10 and 90 % bounds."""

    tokens_per_s: float
    low: float
    high: float


class Speeds(msgspec.Struct, frozen=True):
    """What is predicted of one plan: tokens per second, and what one more sequence adds to a step."""

    prefill: float
    decode: Bounded
    slope: float


class MetaModel:
    """Owns the trained predictor and the memory of what did not fit."""

    def __init__(self, predictor: Predictor, fit: Fit) -> None:
        self._predictor = predictor
        self.fit = fit

    @classmethod
    def open(cls, path: Path, *, fit: Fit | None = None) -> MetaModel:
        """From the trained asset (assets/metamodel/prior.json). Raises OSError or msgspec.MsgspecError."""
        return cls(Predictor(open_prior(path)), fit or Fit())

    def predict(
        self, plan: Plan, device: Device, *, card: ModelCard, benchmark: Benchmark | None = None
    ) -> Estimate:
        """What this plan would do on this device, corrected by the device's own benchmark if there is one.

        Speeds are of one sequence with a shallow cache, as benchmarks measure them; a deeper cache costs more.
        """
        return self._estimates([plan], device, card=card, benchmark=benchmark)[0]

    def choose(
        self,
        card: ModelCard,
        machine: Machine,
        *,
        benchmark: Benchmark | None,
        goal: Goal,
        measured: Sequence[Benchmark] = (),
    ) -> Choice | choosing.NoPlan:
        """The best plan over all devices of this machine, or why there is none. measured: what devices did with made-up
        models; it speaks for those that benchmark does not."""
        estimates: list[tuple[Plan, Estimate]] = []
        for device in machine.devices:
            plans = candidates(card, device, machine=machine, limits=goal.limits, fit=self.fit)
            own = _own(device, (*filter(None, (benchmark,)), *measured))
            found = self._estimates(plans, device, card=card, benchmark=own)
            estimates.extend(zip(plans, found, strict=True))
        chosen = choosing.choose(estimates, goal=goal)
        if isinstance(chosen, Choice) and _is_measured(chosen.plan, card, machine=machine, benchmark=benchmark):
            speed = benchmark.decode_tokens_per_s if benchmark is not None else 0.0
            return msgspec.structs.replace(chosen, measured_decode_tokens_per_s=speed)
        return chosen

    def _estimates(
        self, plans: Sequence[Plan], device: Device, *, card: ModelCard, benchmark: Benchmark | None
    ) -> list[Estimate]:
        own = _own(device, (*filter(None, (benchmark,)),))
        able = rates(device, own, nominal=find(device, self._predictor.prior.datasheets))
        decoding = [case(p, device, card=card, able=able, workload=Workload(depth=BENCH_DEPTH)) for p in plans]
        prompt = Workload(prompt_tokens=BENCH_PROMPT_TOKENS)
        reading = [case(p, device, card=card, able=able, workload=prompt) for p in plans]
        decode = self._corrected(Phase.DECODE, decoding, own=own, card=card)
        prefill = self._corrected(Phase.PREFILL, reading, own=own, card=card)
        return [
            self._estimate(plan, device, card=card, speeds=Speeds(p.tokens_per_s, d, self._slope(c, own)))
            for plan, d, p, c in zip(plans, decode, prefill, decoding, strict=True)
        ]

    def _estimate(self, plan: Plan, device: Device, *, card: ModelCard, speeds: Speeds) -> Estimate:
        here = self.fit.needed_bytes(plan, card, device=device)
        needed = self.fit.total_bytes(plan, card, device=device)
        return Estimate(
            prefill_tokens_per_s=speeds.prefill,
            decode_tokens_per_s=speeds.decode.tokens_per_s,
            decode_low_tokens_per_s=speeds.decode.tokens_per_s * exp(speeds.decode.low),
            decode_high_tokens_per_s=speeds.decode.tokens_per_s * exp(speeds.decode.high),
            step_slope=speeds.slope,
            memory_bytes=needed,
            fits=self.fit.fits(here, device),
            kl_divergence=kl_divergence(plan.quantization, source=card.source_quantization, kv=plan.kv_type),
            probability_ok=probability_ok(here, device.free_bytes),
        )

    def _corrected(self, phase: Phase, cases: list[Case], *, own: Benchmark | None, card: ModelCard) -> list[Bounded]:
        seen = self._observations(phase, own, card=card)
        spread = self._predictor.side(phase).spread
        found = []
        for c, cold in zip(cases, self._predictor.predict(phase, cases), strict=True):
            near = max((nearness(c, o.case) for o in seen), default=None)
            speed = cold.tokens_per_s * exp(_offset(phase, c, cold=cold, seen=seen))
            found.append(Bounded(speed, *bounds(spread, near)))
        return found

    def _observations(self, phase: Phase, own: Benchmark | None, *, card: ModelCard) -> tuple[Observation, ...]:
        if own is None:
            return ()
        measured = own.decode_tokens_per_s if phase is Phase.DECODE else own.prefill_tokens_per_s
        if measured <= 0:
            return ()
        seen = decode_case(own, card) if phase is Phase.DECODE else prefill_case(own, card)
        said: Prediction = self._predictor.predict(phase, [seen])[0]
        return (Observation(seen, measured, said.tokens_per_s),)

    def _slope(self, c: Case, own: Benchmark | None) -> float:
        measured = batch_slope(own) if own is not None else None
        if measured is not None:
            return measured
        return step_slope(c, constants_for(c.backend, self._predictor.prior.constants))


def _own(device: Device, benchmarks: Sequence[Benchmark]) -> Benchmark | None:
    return next((benchmark for benchmark in benchmarks if is_of_device(benchmark, device)), None)


def _offset(phase: Phase, c: Case, *, cold: Prediction, seen: tuple[Observation, ...]) -> float:
    match phase:
        case Phase.DECODE:
            return step_offset(c, seen, predicted=cold.tokens_per_s, outside=cold.outside)
        case Phase.PREFILL:
            return offset(c, seen, outside=cold.outside)


def _is_measured(plan: Plan, card: ModelCard, *, machine: Machine, benchmark: Benchmark | None) -> bool:
    device = next((d for d in machine.devices if d.device_id == plan.device_id), None)
    return (
        benchmark is not None
        and device is not None
        and is_of_device(benchmark, device)
        and (benchmark.model, benchmark.quantization) == (card.model, plan.quantization)
    )
