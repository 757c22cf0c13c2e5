"""The meta-model: predicts every candidate plan on this machine and chooses one, with its reason, in under a second.

Reads one asset when it is opened. Never touches the hardware and never runs a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from pathlib import Path

import msgspec

from core.device import Benchmark, Device, DeviceKind, Machine
from core.metamodel import choice as choosing
from core.metamodel.abilities import abilities_of
from core.metamodel.candidates import candidates
from core.metamodel.correction import Observation, nearness, offset, step_offset
from core.metamodel.datasheets import find
from core.metamodel.features import HOST_BANDWIDTH_GBS, Case, Rates, Workload, case, is_of_device, rates
from core.metamodel.fit import Fit, kv_bytes_per_token, probability_ok
from core.metamodel.goal import Goal
from core.metamodel.own_runs import BENCH_DEPTH, BENCH_PROMPT_TOKENS, batch_slope, decode_case, prefill_case
from core.metamodel.predictor import Phase, Prediction, Predictor, bounds, open_prior
from core.metamodel.quantizations import kl_divergence
from core.metamodel.roofline import constants_for, step_slope
from core.metamodel.service import Timetables
from core.model_card import ModelCard
from core.plan import Choice, Estimate, NoPlan, Plan, plan_words

# Of what a device may draw, while it serves: reading weights keeps no GPU at its limit. Assumed, as are the watts of
# devices that do not say, which count only beside one that does.
POWER_SHARE = 0.75
# A kept prefix goes to another slot through the host's memory, out and in again.
_COPY_GBS = 8.0
_REACHED = 0.8
_NOMINAL_W = {DeviceKind.GPU: 220.0, DeviceKind.INTEGRATED_GPU: 30.0, DeviceKind.CPU: 65.0}


class Bounded(msgspec.Struct, frozen=True):
    """A corrected speed in tokens per second, and the log factors to its 10 and 90 % bounds."""

    tokens_per_s: float
    low: float
    high: float


class Speeds(msgspec.Struct, frozen=True):
    """What is predicted of one plan: tokens per second, what one more sequence adds to a step, and seconds that a row
    takes longer for each token before it."""

    prefill: float
    decode: Bounded
    slope: float
    depth_s: float


class MetaModel:
    """Owns the trained predictor and the memory of what did not fit. nominal: rates of devices that were described
    instead of measured, by device id."""

    def __init__(self, predictor: Predictor, fit: Fit) -> None:
        self._predictor = predictor
        self.fit = fit
        self.nominal: dict[str, Rates] = {}
        self.timetables = Timetables()

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
    ) -> Choice | NoPlan:
        """The best plan over all devices of this machine, or why there is none. measured: what devices did with made-up
        models; it speaks for those that benchmark does not."""
        estimates = self.estimates(card, machine, benchmark=benchmark, goal=goal, measured=measured)
        chosen = choosing.choose(estimates, goal=goal, timetables=self.timetables)
        if isinstance(chosen, Choice):
            speed = measured_speed(chosen.plan, card, machine=machine, benchmark=benchmark)
            return msgspec.structs.replace(chosen, measured_decode_tokens_per_s=speed)
        return chosen

    def rates(self, device: Device, known: Sequence[Benchmark] = ()) -> Rates:
        """What a device can do at most: as measured, described, its datasheet says, or as is usual."""
        nominal = self.nominal.get(device.device_id) or find(device, self._predictor.prior.datasheets)
        return rates(device, _own(device, known), nominal=nominal)

    def cold(self, phase: Phase, cases: Sequence[Case]) -> list[float]:
        """Tokens per second by the prior alone, as if nothing had been measured here."""
        return [found.tokens_per_s for found in self._predictor.predict(phase, cases)]

    def keep(
        self,
        plan: Plan,
        card: ModelCard,
        *,
        machine: Machine,
        benchmark: Benchmark | None,
        measured: Sequence[Benchmark] = (),
    ) -> Choice | NoPlan:
        """The choice of a plan that its owner keeps: not the best by our reckoning, but the one that is wanted."""
        device = next((d for d in machine.devices if d.device_id == plan.device_id), None)
        if device is None:
            return NoPlan("The device of the plan that you keep is not in this computer.")
        own = _own(device, (*filter(None, (benchmark,)), *measured))
        estimate = self.predict(plan, device, card=card, benchmark=own)
        speed = f"about {estimate.decode_tokens_per_s:.0f} tok/s for one job"
        reason = f"You keep {plan_words(plan)}: {speed}, at least {estimate.decode_low_tokens_per_s:.0f}."
        known = measured_speed(plan, card, machine=machine, benchmark=benchmark)
        return Choice(plan, estimate, reason, candidates=1, measured_decode_tokens_per_s=known)

    def estimates(
        self,
        card: ModelCard,
        machine: Machine,
        *,
        benchmark: Benchmark | None,
        goal: Goal,
        measured: Sequence[Benchmark] = (),
    ) -> list[tuple[Plan, Estimate]]:
        """Every candidate of every device, and what it is predicted to do."""
        known = (*filter(None, (benchmark,)), *measured)
        torch = machine.torch or next((own.torch for own in known if own.torch), "")
        machine = msgspec.structs.replace(machine, torch=torch)
        found: list[tuple[Plan, Estimate]] = []
        for device in machine.devices:
            plans = candidates(card, device, machine=machine, goal=goal, fit=self.fit)
            drawn = msgspec.structs.replace(device, power_w=_most_w(device, machine))
            estimates = self._estimates(plans, drawn, card=card, benchmark=_own(device, known))
            found.extend(zip(plans, estimates, strict=True))
        return found

    def _estimates(
        self, plans: Sequence[Plan], device: Device, *, card: ModelCard, benchmark: Benchmark | None
    ) -> list[Estimate]:
        """Plans that differ only in what no speed depends on share one prediction."""
        distinct = {_question(plan): plan for plan in plans}
        found = self._speeds(list(distinct.values()), device, card=card, own=benchmark)
        speeds = dict(zip(distinct, found, strict=True))
        return [self._estimate(plan, device, card=card, speeds=speeds[_question(plan)]) for plan in plans]

    def _speeds(self, plans: Sequence[Plan], device: Device, *, card: ModelCard, own: Benchmark | None) -> list[Speeds]:
        own = _own(device, (*filter(None, (own,)),))
        able = self.rates(device, (*filter(None, (own,)),))
        decoding = [case(p, device, card=card, able=able, workload=Workload(depth=BENCH_DEPTH)) for p in plans]
        prompt = Workload(prompt_tokens=BENCH_PROMPT_TOKENS)
        reading = [case(p, device, card=card, able=able, workload=prompt) for p in plans]
        decode = self._corrected(Phase.DECODE, decoding, own=own, card=card)
        prefill = self._corrected(Phase.PREFILL, reading, own=own, card=card)
        return [
            _launched(Speeds(p.tokens_per_s, d, self._slope(c, own), _depth_s(c)), plan, card=card)
            for plan, d, p, c in zip(plans, decode, prefill, decoding, strict=True)
        ]

    def _estimate(self, plan: Plan, device: Device, *, card: ModelCard, speeds: Speeds) -> Estimate:
        here = self.fit.needed_bytes(plan, card, device=device)
        needed = here if not plan.more_devices else self.fit.total_bytes(plan, card, device=device)
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
            power_w=POWER_SHARE * device.power_w * (1 + len(plan.more_devices)),
            depth_s=speeds.depth_s,
            copy_s=2 * kv_bytes_per_token(card, plan.kv_type) / (_COPY_GBS * 1e9),
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


def measured_speed(plan: Plan, card: ModelCard, *, machine: Machine, benchmark: Benchmark | None) -> float:
    """Tokens per second that the benchmark measured of this model and quantization on the plan's device; else 0."""
    device = next((d for d in machine.devices if d.device_id == plan.device_id), None)
    if benchmark is None or device is None or not is_of_device(benchmark, device):
        return 0.0
    is_same = (benchmark.model, benchmark.quantization) == (card.model, plan.quantization)
    return benchmark.decode_tokens_per_s if is_same else 0.0


def _own(device: Device, benchmarks: Sequence[Benchmark]) -> Benchmark | None:
    return next((benchmark for benchmark in benchmarks if is_of_device(benchmark, device)), None)


def _question(plan: Plan) -> tuple[object, ...]:
    """All of a plan that its predicted speeds depend on."""
    return (
        plan.runtime, plan.quantization, plan.kv_type, plan.flash_attention, plan.prefill_chunk, plan.gpu_layers,
        plan.more_devices,
    )  # fmt: skip


def _most_w(device: Device, machine: Machine) -> float:
    """What a device may draw: as it says, else as is usual, where another one says so that they can be compared."""
    is_known = any(d.power_w for d in machine.devices)
    return device.power_w or (_NOMINAL_W[device.kind] if is_known else 0.0)


def _launched(speeds: Speeds, plan: Plan, *, card: ModelCard) -> Speeds:
    """The speeds of a runtime that spends more on launching each layer than the roofline's, which are llama.cpp's."""
    extra_s = abilities_of(plan.runtime).launch_s * card.layers
    if not extra_s:
        return speeds
    decode, chunk = speeds.decode, plan.prefill_chunk or plan.slot_context_tokens
    alone_s = 1 / decode.tokens_per_s
    once_s = alone_s / (1 + speeds.slope)
    return Speeds(
        chunk / (chunk / speeds.prefill + extra_s),
        msgspec.structs.replace(decode, tokens_per_s=1 / (alone_s + extra_s)),
        once_s * speeds.slope / (once_s + extra_s),
        speeds.depth_s,
    )


def _depth_s(c: Case) -> float:
    """Seconds to read one token's KV where the layers lie."""
    host, here = c.host_share / HOST_BANDWIDTH_GBS, (1 - c.host_share) / c.bandwidth_gbs
    return c.kv_bytes_per_token * (host + here) / (_REACHED * 1e9)


def _offset(phase: Phase, c: Case, *, cold: Prediction, seen: tuple[Observation, ...]) -> float:
    match phase:
        case Phase.DECODE:
            return step_offset(c, seen, predicted=cold.tokens_per_s, outside=cold.outside)
        case Phase.PREFILL:
            return offset(c, seen, outside=cold.outside)
