"""How fast one model file is on one device: load, prefill of 256 tokens, decode at batch 1, 4 and 8.

Everything is measured in whole rounds, so that a busy moment shows as two rounds that differ. Never serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from core.device import BenchmarkCell
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.steadiness import Effort, Sampled, drift, joined, steady

PREFILL_TOKENS = 256
BATCHES = (1, 4, 8)
CONTEXT_TOKENS = 512
MAX_STEPS = 400
Tell = Callable[[float, str], None]


class ModelSpeed(msgspec.Struct, frozen=True):
    """load_s, and by round: prefill, and decode by batch, in tokens per second over the whole batch."""

    load_s: float
    prefill: tuple[Sampled, ...]
    decode: dict[int, tuple[Sampled, ...]]

    @property
    def drift(self) -> float:
        """The most that two whole rounds differed by."""
        return max(drift(runs) for runs in (self.prefill, *self.decode.values()))

    def cell(self, quantization: str, model_bytes: int) -> BenchmarkCell:
        """Medians over all rounds."""
        decode = {batch: joined(runs) for batch, runs in self.decode.items()}
        prefill = joined(self.prefill)
        spread = max(s.spread for s in (*self.prefill, *(run for runs in self.decode.values() for run in runs)))
        speeds = {batch: sampled.median for batch, sampled in decode.items()}
        return BenchmarkCell(quantization, model_bytes, self.load_s, prefill.median, speeds, spread)

    def samples(self, prefix: str) -> dict[str, tuple[float, ...]]:
        """Every raw figure."""
        found = {f"{prefix} prefill": joined(self.prefill).samples}
        return found | {f"{prefix} decode {b}": joined(runs).samples for b, runs in self.decode.items()}


def model_speed(path: Path, plan: Plan, *, effort: Effort, tell: Tell) -> ModelSpeed:
    """Measure this file by a plan, decoding with as many sequences as it has slots for. Raises RuntimeFault when it
    does not load there."""
    tell(0.0, f"Loading the {plan.quantization} model")
    began = time.perf_counter()
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(str(path), log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)) as context,
    ):
        load_s = time.perf_counter() - began
        begun = [number / effort.rounds for number in range(effort.rounds)]
        rounds = [_round(context, plan, effort=effort, tell=tell, begun=at) for at in begun]
    prefill = tuple(read for read, _ in rounds)
    return ModelSpeed(load_s, prefill, {batch: tuple(made[batch] for _, made in rounds) for batch in _batches(plan)})


def _batches(plan: Plan) -> tuple[int, ...]:
    return tuple(batch for batch in BATCHES if batch <= plan.slots)


def _round(
    context: LlamaContext, plan: Plan, *, effort: Effort, tell: Tell, begun: float
) -> tuple[Sampled, dict[int, Sampled]]:
    batches = _batches(plan)
    share = 1 / effort.rounds / (1 + len(batches))
    tell(begun, f"Reading prompts, {plan.quantization}")
    prefill = steady(effort, lambda: _prefill_rate(context))
    decode = {}
    for number, batch in enumerate(batches):
        many = f", {batch} at a time" if batch > 1 else ""
        tell(begun + share * (1 + number), f"Generating{many}, {plan.quantization}")
        decode[batch] = steady(effort, _decoder(context, batch, effort=effort))
    return prefill, decode


def _prefill_rate(context: LlamaContext) -> float:
    context.clear()
    began = time.perf_counter()
    context.begin()
    context.put([1] * PREFILL_TOKENS, slot=0, position=0, draws=True)
    context.decode()
    context.logits(1)
    return PREFILL_TOKENS / (time.perf_counter() - began)


def _decoder(context: LlamaContext, batch: int, *, effort: Effort) -> Callable[[], float]:
    """Samples of tokens per second over the whole batch, drawing included, each about sample_s long."""
    slots = list(range(batch))
    state = {"position": 0, "steps": 4}

    def step() -> None:
        if state["position"] >= CONTEXT_TOKENS:
            context.clear()
            state["position"] = 0
        context.begin()
        context.put_each([1] * batch, slots=slots, positions=[state["position"]] * batch)
        context.decode()
        np.argmax(context.logits(batch), axis=1)
        state["position"] += 1

    def sample() -> float:
        began = time.perf_counter()
        for _ in range(state["steps"]):
            step()
        took = time.perf_counter() - began
        rate = state["steps"] * batch / took
        state["steps"] = max(1, min(MAX_STEPS, round(state["steps"] * effort.sample_s / took)))
        return rate

    context.clear()
    return sample
