"""What a plan delivers under a workload: tokens per second, the wait for the first text, the longest silence.

A timetable says which work is done when, speeds say what it costs here. Pure and cheap: hundreds of plans in a few
milliseconds. Never predicts a speed, never decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.goal import JobMix
from core.metamodel.timetable import Clients, Switches, Timetable, Workload, timetable

# A chunk of whole prompts is as long as the benchmark's.
REFERENCE_CHUNK = 256.0
# Reading a token costs at least this share of what it takes with the weights' bytes.
_LEAST_READ_SHARE = 0.05
_UNIFORM = sqrt(3)
_ROUNDS = 3


class Speeds(msgspec.Struct, frozen=True):
    """Seconds that each kind of work costs one plan on one device, in the order of timetable.COSTS.

    step_s: what the engine does around a step; pass_s: one pass over the weights; reshape_s: one of another width than
    the one before; row_s: a row of a narrow pass more, odd_s: what one costs beside that if it is left over from fours;
    read_s: a row of a wide pass; read_depth_s and drawn_depth_s: a row of a long run of a prompt, or of a short one or
    an answer, for each token before it; draw_s: a token of an answer; job_s: a job; look_up_s: one whose beginning is
    sought in the cache; copy_s: a token of a prefix taken over.
    """

    step_s: float = 0.0
    pass_s: float = 0.0
    reshape_s: float = 0.0
    row_s: float = 0.0
    odd_s: float = 0.0
    read_s: float = 0.0
    read_depth_s: float = 0.0
    drawn_depth_s: float = 0.0
    draw_s: float = 0.0
    job_s: float = 0.0
    look_up_s: float = 0.0
    copy_s: float = 0.0

    @property
    def costs(self) -> tuple[float, ...]:
        """As a vector."""
        return msgspec.structs.astuple(self)


class Service(msgspec.Struct, frozen=True):
    """What the clients see: answer tokens per second over all of them, the median wait for a first text, the longest
    silence within an answer. job_s: seconds of the machine for one job."""

    tokens_per_s: float
    ttft_s: float
    stall_s: float
    job_s: float


class Timetables:
    """Timetables by workload and switches, the last few hundred: plans of all quantizations and devices share them."""

    def __init__(self, room: int = 512) -> None:
        self._room = room
        self._known: dict[tuple[Workload, Switches], Timetable] = {}

    def of(self, workload: Workload, switches: Switches) -> Timetable:
        """Worked out once."""
        key = (workload, switches)
        if key not in self._known:
            if len(self._known) >= self._room:
                del self._known[next(iter(self._known))]
            self._known[key] = timetable(workload, switches)
        return self._known[key]


def workload_of(mix: JobMix) -> Workload:
    """The typical jobs of a goal as clients that each ask again when they have their answer."""
    shared = min(mix.shared_prefix_tokens, max(0, mix.prompt_tokens - 1))
    return (
        Clients(
            count=max(1, round(mix.concurrent)),
            prompt_tokens=mix.prompt_tokens,
            output_tokens=mix.output_tokens,
            shared_tokens=shared,
            spread=min(1.0, _UNIFORM * mix.output_spread),
            rounds=_ROUNDS,
        ),
    )


def speeds_of(
    prefill_tokens_per_s: float,
    decode_tokens_per_s: float,
    *,
    step_slope: float,
    chunk_tokens: float,
    depth_s: float = 0.0,
) -> Speeds:
    """From what is predicted and measured of a plan: reading prompts in chunks (0: whole), writing one answer alone,
    and alpha of step(b) = t0 (1 + alpha b)."""
    alone_s = 1 / max(decode_tokens_per_s, 1e-9)
    pass_s = alone_s / (1 + step_slope)
    token_s = 1 / max(prefill_tokens_per_s, 1e-9)
    read_s = token_s - pass_s / (chunk_tokens or REFERENCE_CHUNK)
    return Speeds(
        pass_s=pass_s,
        row_s=pass_s * step_slope,
        read_s=max(read_s, _LEAST_READ_SHARE * token_s),
        read_depth_s=depth_s,
        drawn_depth_s=depth_s,
    )


def services(
    plans: Sequence[tuple[Switches, Speeds]], workload: Workload, *, timetables: Timetables | None = None
) -> list[Service]:
    """One service for each plan, in order. timetables: those of earlier calls, which need not be made again."""
    tables = timetables or Timetables()
    places: dict[Switches, list[int]] = {}
    for place, (switches, _) in enumerate(plans):
        places.setdefault(switches, []).append(place)
    found: dict[int, Service] = {}
    for switches, together in places.items():
        costs = np.array([plans[place][1].costs for place in together])
        found.update(zip(together, served(tables.of(workload, switches), costs), strict=True))
    return [found[place] for place in range(len(plans))]


def job_seconds(
    plans: Sequence[tuple[Switches, Speeds]], workload: Workload, *, timetables: Timetables | None = None
) -> list[float]:
    """Service.job_s of each plan, in order, and nothing else: all that choosing among hundreds of them needs."""
    if not plans:
        return []
    tables = timetables or Timetables()
    work: dict[Switches, NDArray[np.float64]] = {}
    for switches in dict.fromkeys(switches for switches, _ in plans):
        table = tables.of(workload, switches)
        work[switches] = table.counts.sum(axis=0) / len(table.asked)
    costs = np.array([speeds.costs for _, speeds in plans])
    seconds: list[float] = (costs * np.array([work[switches] for switches, _ in plans])).sum(axis=1).tolist()
    return seconds


def served(table: Timetable, costs: NDArray[np.float64]) -> list[Service]:
    """What one timetable means at these costs: a row of seconds, in the order of COSTS, for each plan."""
    spans = table.counts @ costs.T
    ends = np.vstack([np.zeros(len(costs)), np.cumsum(spans, axis=0)])
    total = np.maximum(ends[-1], 1e-12)
    ttft = np.median(ends[table.first + 1] - ends[table.asked], axis=0)
    watched = (spans / table.steps[:, None])[table.watched]
    stall = watched.max(axis=0) if len(watched) else np.zeros(len(costs))
    jobs = len(table.asked)
    return [
        Service(table.tokens / float(t), float(first), float(silence), float(t) / jobs)
        for t, first, silence in zip(total, ttft, stall, strict=True)
    ]
