"""The meta-model: predicts every candidate plan on this machine and chooses one, with its reason, in under a second.

Reads one asset when it is opened. Never touches the hardware and never runs a plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import exp
from pathlib import Path

import msgspec

from core.device import Benchmark, Device, DeviceKind, Machine
from core.metamodel import choice as choosing
from core.metamodel.abilities import abilities_of
from core.metamodel.candidates import EXACT, Placed, placed
from core.metamodel.correction import Observation
from core.metamodel.datasheets import find
from core.metamodel.evidence import Experience, own_observations, peers_on_decoding, peers_on_reading
from core.metamodel.features import HOST_BANDWIDTH_GBS, Case, Rates, Workload, case, is_of_device, rates
from core.metamodel.fit import Fit, kv_bytes_per_token, probability_ok
from core.metamodel.goal import Goal
from core.metamodel.own_runs import BENCH_DEPTH, BENCH_PROMPT_TOKENS, batch_slope, decode_case, prefill_case
from core.metamodel.predictor import Bounded, Phase, Predictor, open_prior
from core.metamodel.quantizations import kl_divergence
from core.metamodel.service import Timetables
from core.model_card import ModelCard
from core.plan import Choice, Estimate, NoPlan, Plan, plan_words

# Of what a device may draw, while it serves: reading weights keeps no GPU at its limit. Assumed, as are the watts of
# devices that do not say, which count only beside one that does.
POWER_SHARE = 0.75
# A kept prefix goes to another slot through the host's memory, out and in again.
_COPY_GBS = 8.0
_REACHED = 0.8
_UNPACKED = 0.75
_NOMINAL_W = {DeviceKind.GPU: 220.0, DeviceKind.INTEGRATED_GPU: 30.0, DeviceKind.CPU: 65.0}


class Speeds(msgspec.Struct, frozen=True):
    """What is predicted of one plan: tokens per second, what one more sequence adds to a step, and seconds that a row
    takes longer for each token before it."""

    prefill: float
    decode: Bounded
    slope: float
    depth_s: float


class MetaModel:
    """Owns the trained predictor and the memory of what did not fit. experience: what own runs and peers say; nominal:
    rates of devices that were described instead of measured, by device id."""

    def __init__(self, predictor: Predictor, fit: Fit) -> None:
        self._predictor = predictor
        self.fit = fit
        self.experience = Experience()
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
        needed = self.fit.needed_bytes(plan, card, device=device)
        here = Placed(plan, needed, self.fit.fits(needed, device))
        return self._estimates([here], device, card=card, benchmark=benchmark)[0]

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
            speed = self.measured(chosen.plan, card, machine=machine, benchmark=benchmark)
            return self.noticed(msgspec.structs.replace(chosen, measured_decode_tokens_per_s=speed))
        return chosen

    def measured(self, plan: Plan, card: ModelCard, *, machine: Machine, benchmark: Benchmark | None) -> float:
        """Tokens per second of one job that runs, or the benchmark, measured of this quantization here; else 0."""
        device = next((d for d in machine.devices if d.device_id == plan.device_id), None)
        if device is None:
            return 0.0
        runs = self.experience.alone(plan, device)
        if runs:
            return runs
        if benchmark is None or not is_of_device(benchmark, device):
            return 0.0
        is_same = (benchmark.model, benchmark.quantization) == (card.model, plan.quantization)
        return benchmark.decode_tokens_per_s if is_same else 0.0

    def noticed(self, chosen: Choice) -> Choice:
        """The choice whose reason says too what is wrong with the way it was predicted, if anything is."""
        notice = self._predictor.notice
        return msgspec.structs.replace(chosen, reason=f"{chosen.reason} {notice}") if notice else chosen

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
        known = self.measured(plan, card, machine=machine, benchmark=benchmark)
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
            fitting = placed(card, device, machine=machine, goal=goal, fit=self.fit)
            drawn = msgspec.structs.replace(device, power_w=_most_w(device, machine))
            estimates = self._estimates(fitting, drawn, card=card, benchmark=_own(device, known))
            found.extend((one.plan, estimate) for one, estimate in zip(fitting, estimates, strict=True))
        return found

    def _estimates(
        self, fitting: Sequence[Placed], device: Device, *, card: ModelCard, benchmark: Benchmark | None
    ) -> list[Estimate]:
        """Plans that differ only in what no speed depends on share one prediction."""
        questions = [_question(one.plan) for one in fitting]
        distinct = {question: one.plan for question, one in zip(questions, fitting, strict=True)}
        found = self._speeds(list(distinct.values()), device, card=card, own=benchmark)
        made = {
            question: _estimate(plan, card, device=device, speeds=speeds)
            for (question, plan), speeds in zip(distinct.items(), found, strict=True)
        }
        return [
            self._in_memory(made[question], one, device=device, card=card)
            for question, one in zip(questions, fitting, strict=True)
        ]

    def _speeds(self, plans: Sequence[Plan], device: Device, *, card: ModelCard, own: Benchmark | None) -> list[Speeds]:
        own = own if own is not None and is_of_device(own, device) else None
        able = self.rates(device, () if own is None else (own,))
        prompt = Workload(prompt_tokens=BENCH_PROMPT_TOKENS)
        reading = [case(p, device, card=card, able=able, workload=prompt) for p in plans]
        writing = Workload(depth=BENCH_DEPTH)
        decoding = [
            msgspec.structs.replace(c, depth=writing.depth, prompt_tokens=writing.prompt_tokens) for c in reading
        ]
        here, exact = _Here(device, able, card, own), kv_bytes_per_token(card, EXACT)
        decode = self._corrected(Phase.DECODE, decoding, here=here)
        prefill = self._corrected(Phase.PREFILL, reading, here=here)
        return [
            _launched(Speeds(p.tokens_per_s, d, alpha, _depth_s(c, exact_bytes=exact)), plan, card=card)
            for plan, d, p, c, alpha in zip(plans, decode, prefill, decoding, self._slopes(decoding, own), strict=True)
        ]

    def _in_memory(self, made: Estimate, fitting: Placed, *, device: Device, card: ModelCard) -> Estimate:
        """The estimate of this plan's speeds with what it takes."""
        plan, here = fitting.plan, fitting.needed_bytes
        needed = here if not plan.more_devices else self.fit.total_bytes(plan, card, device=device)
        likely = probability_ok(here, device.free_bytes)
        return msgspec.structs.replace(made, memory_bytes=needed, fits=fitting.fits, probability_ok=likely)

    def _corrected(self, phase: Phase, cases: list[Case], *, here: _Here) -> list[Bounded]:
        """By what was measured here, which narrows the bounds; else by what peers agree on, which does not."""
        own = self._observations(phase, here)
        if own:
            return self._predictor.corrected(phase, cases, seen=own)
        heard = self.experience.alike(here.device, able=here.able)
        agreed = peers_on_decoding if phase is Phase.DECODE else peers_on_reading
        seen = agreed(heard, partial(self.cold, phase))
        found = self._predictor.corrected(phase, cases, seen=seen)
        spread = self._predictor.side(phase).spread
        return [msgspec.structs.replace(one, low=spread.low, high=spread.high) for one in found] if seen else found

    def _observations(self, phase: Phase, here: _Here) -> tuple[Observation, ...]:
        """Own runs, else the benchmark."""
        look = self.experience.decoded if phase is Phase.DECODE else self.experience.read
        runs = own_observations(look(here.device, able=here.able), partial(self.cold, phase))
        own = here.benchmark
        if runs or own is None:
            return runs
        measured = own.decode_tokens_per_s if phase is Phase.DECODE else own.prefill_tokens_per_s
        if measured <= 0:
            return ()
        seen = decode_case(own, here.card) if phase is Phase.DECODE else prefill_case(own, here.card)
        return (Observation(seen, measured, self.cold(phase, [seen])[0]),)

    def _slopes(self, cases: Sequence[Case], own: Benchmark | None) -> list[float]:
        measured = batch_slope(own) if own is not None else None
        return self._predictor.slopes(cases) if measured is None else [measured] * len(cases)


class _Here(msgspec.Struct, frozen=True):
    """Where the plans of one prediction run, of which model, and what the benchmark measured there."""

    device: Device
    able: Rates
    card: ModelCard
    benchmark: Benchmark | None


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


def _estimate(plan: Plan, card: ModelCard, *, device: Device, speeds: Speeds) -> Estimate:
    """All of an estimate but its memory."""
    return Estimate(
        prefill_tokens_per_s=speeds.prefill,
        decode_tokens_per_s=speeds.decode.tokens_per_s,
        decode_low_tokens_per_s=speeds.decode.tokens_per_s * exp(speeds.decode.low),
        decode_high_tokens_per_s=speeds.decode.tokens_per_s * exp(speeds.decode.high),
        step_slope=speeds.slope,
        memory_bytes=0,
        fits=False,
        kl_divergence=kl_divergence(plan.quantization, source=card.source_quantization, kv=plan.kv_type),
        power_w=POWER_SHARE * device.power_w * (1 + len(plan.more_devices)),
        depth_s=speeds.depth_s,
        copy_s=2 * kv_bytes_per_token(card, plan.kv_type) / (_COPY_GBS * 1e9),
    )


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


def _depth_s(c: Case, *, exact_bytes: float) -> float:
    """Seconds to read one token's KV where the layers lie. Unpacking fewer bits costs some of the time that they save
    on a GPU, and all of it on a processor: assumed, not measured on a GPU."""
    host, here = c.host_share / HOST_BANDWIDTH_GBS, (1 - c.host_share) / c.bandwidth_gbs
    least = exact_bytes if c.backend == "cpu" else _UNPACKED * exact_bytes
    read = max(least, c.kv_bytes_per_token)
    return read * (host + here) / (_REACHED * 1e9)
