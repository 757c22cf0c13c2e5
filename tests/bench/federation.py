"""Do lies about speeds change what peers choose? Many made-up machines choose with the real meta-model, once with
honest rows of their peers and once with a fifth of those rows multiplied by ten.

Each kind of hardware departs from the prediction in its own way, each peer a little from its kind, each row a little
from its peer: what peers agree on is worth knowing, so that a lie could do harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from random import Random
from statistics import mean

import msgspec

from assets import asset_path
from core.device import Device, DeviceKind, Machine
from core.job import PeerId, QualityClass
from core.metamodel.correction import Observation
from core.metamodel.datasheets import Datasheet
from core.metamodel.evidence import Experience, peers_on_decoding, peers_on_reading
from core.metamodel.features import Case, Rates
from core.metamodel.federation import Heard, SharedRow, decode_case_of, is_possible, prefill_case_of, rounded
from core.metamodel.goal import Goal, JobMix
from core.metamodel.meta_model import MetaModel
from core.metamodel.predictor import Phase, Predictor, open_prior
from core.metamodel.quantizations import quantization
from core.model_card import ModelCard
from core.plan import Choice, Plan
from tests.bench.report import Report

SEED = 9
LIE = 10.0
LIARS = 0.2
MOST_CHANGED = 0.02
MACHINES, QUICK_MACHINES = 300, 60
KIND_SPREAD, FORMAT_SPREAD, PEER_SPREAD, ROW_SPREAD = 0.25, 0.08, 0.1, 0.05
GIB = 1 << 30
# parameters, layers, hidden, feed forward, K plus V of a layer
SHAPES = (
    (1.1e9, 22, 2048, 5632, 512), (3.2e9, 28, 3072, 8192, 2048), (7.2e9, 32, 4096, 14336, 2048),
    (8.0e9, 32, 4096, 14336, 2048), (13.0e9, 40, 5120, 13824, 10240), (32.8e9, 64, 5120, 27648, 2048),
)  # fmt: skip
FORMATS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS")
BACKENDS = ("CUDA", "ROCm", "Vulkan")


@dataclass(frozen=True)
class Hardware:
    """A kind of GPU, and by how much (log) it departs from the prediction: by phase, and by format too."""

    device: Device
    able: Rates
    departs: dict[tuple[Phase, str], float]


@dataclass(frozen=True)
class Trial:
    """What one machine chose without its peers' rows, with honest ones, with a fifth of the rows and with all rows of a
    fifth of the peers multiplied by ten, and the most that the lies moved what peers agree on (log)."""

    alone: Plan | None
    honest: Plan | None
    lied: Plan | None
    by_liars: Plan | None
    shift: float
    rows: int


class Swarm:
    """Made-up machines and their peers, all from one chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        prior = open_prior(asset_path("metamodel/prior.json"))
        self._predictor = Predictor(prior)
        self._model = MetaModel.open(asset_path("metamodel/prior.json"))
        self._sheets = sorted((name, s) for name, s in prior.datasheets.items() if 6 <= s.memory_gib <= 80)

    def trial(self) -> Trial:
        hardware = self._hardware(*self._chance.choice(self._sheets))
        honest = [heard for number in range(self._chance.randint(5, 60)) for heard in self._peer(hardware, number)]
        liars = set(self._chance.sample(range(len(honest)), round(LIARS * len(honest))))
        lied = [multiplied(heard) if place in liars else heard for place, heard in enumerate(honest)]
        peers = sorted({heard.peer for heard in honest})
        lying = set(self._chance.sample(peers, round(LIARS * len(peers))))
        by_liars = [multiplied(heard) if heard.peer in lying else heard for heard in honest]
        card, goal = self._card(), self._goal()

        def chosen(heard: Sequence[Heard]) -> Plan | None:
            self._model.nominal = {hardware.device.device_id: hardware.able}
            self._model.experience = Experience(heard=tuple(heard))
            machine = Machine((hardware.device,), 8, 64 * GIB, "llama.cpp")
            found = self._model.choose(card, machine, benchmark=None, goal=goal)
            return found.plan if isinstance(found, Choice) else None

        shift = max(self._shift(honest, lied), self._shift(honest, by_liars))
        return Trial(chosen(()), chosen(honest), chosen(lied), chosen(by_liars), shift, len(honest))

    def _hardware(self, name: str, sheet: Datasheet) -> Hardware:
        gib = round(sheet.memory_gib * GIB)
        device = Device("GPU0", name, DeviceKind.GPU, self._chance.choice(BACKENDS), gib, round(0.94 * gib))
        kinds = {phase: self._chance.gauss(0, KIND_SPREAD) for phase in Phase}
        departs = {
            (phase, name): kinds[phase] + self._chance.gauss(0, FORMAT_SPREAD) for phase in Phase for name in FORMATS
        }
        return Hardware(device, Rates(sheet.bandwidth_gbs, sheet.matrix_tflops), departs)

    def _peer(self, hardware: Hardware, number: int) -> list[Heard]:
        """One to eight rows of one peer, as it would share them."""
        own = {phase: self._chance.gauss(0, PEER_SPREAD) for phase in Phase}
        near = Rates(*(rate * exp(self._chance.gauss(0, 0.03)) for rate in msgspec.structs.astuple(hardware.able)))
        found = []
        for _ in range(self._chance.randint(1, 8)):
            asked = self._asked(hardware.device, near)
            speeds = [self._speed(phase, asked, hardware=hardware, own=own[phase]) for phase in Phase]
            row = msgspec.structs.replace(
                asked, prefill_tokens_per_s=rounded(speeds[0]), decode_tokens_per_s=rounded(speeds[1])
            )
            if is_possible(row) and row.file_bytes < 0.9 * row.memory_gib * GIB:
                found.append(Heard(PeerId(f"peer-{number}"), row))
        return found

    def _speed(self, phase: Phase, asked: SharedRow, *, hardware: Hardware, own: float) -> float:
        case = prefill_case_of(asked) if phase is Phase.PREFILL else decode_case_of(asked)
        said = self._predictor.predict(phase, [case])[0].tokens_per_s
        return said * exp(hardware.departs[phase, asked.quantization] + own + self._chance.gauss(0, ROW_SPREAD))

    def _asked(self, device: Device, able: Rates) -> SharedRow:
        parameters, layers, hidden, _, kv_width = self._chance.choice(SHAPES)
        name = self._chance.choice(FORMATS)
        row = quantization(name)
        assert row is not None
        return SharedRow(
            backend=device.backend.lower(),
            kind=device.kind,
            memory_gib=rounded(device.memory_bytes / GIB),
            bandwidth_gbs=rounded(able.bandwidth_gbs),
            matrix_tflops=rounded(able.matrix_tflops),
            runtime="llama.cpp",
            quantization=name,
            kv_type="F16",
            parameters=rounded(parameters),
            layers=float(layers),
            hidden=rounded(hidden),
            kv_width=rounded(kv_width),
            file_bytes=rounded(parameters * row.bits / 8),
            gpu_share=1.0,
            chunk_tokens=512.0,
            batch=self._chance.choice((1.0, 1.0, 1.0, 2.0, 4.0, 8.0)),
            depth=rounded(self._chance.uniform(64, 2000)),
            prompt_tokens=rounded(self._chance.uniform(100, 2000)),
        )

    def _card(self) -> ModelCard:
        parameters, layers, hidden, feed_forward, kv_width = self._chance.choice(SHAPES)
        return ModelCard(
            model="made-up", title="Made up", architecture="llama", parameters=round(parameters), layers=layers,
            hidden=hidden, feed_forward=feed_forward, heads=32, kv_heads=8, kv_width=kv_width, vocabulary=32_000,
            context_tokens=8192, source_sha256="00", source_quantization="F16",
        )  # fmt: skip

    def _goal(self) -> Goal:
        mix = JobMix(
            prompt_tokens=round(exp(self._chance.uniform(log(64), log(4000)))),
            output_tokens=round(exp(self._chance.uniform(log(32), log(800)))),
            concurrent=exp(self._chance.uniform(0, log(16))),
        )
        return Goal(quality=self._chance.choice(tuple(QualityClass)), mix=mix)

    def _shift(self, honest: Sequence[Heard], lied: Sequence[Heard]) -> float:
        pairs = [
            *zip(peers_on_decoding(honest, self._decoding), peers_on_decoding(lied, self._decoding), strict=True),
            *zip(peers_on_reading(honest, self._reading), peers_on_reading(lied, self._reading), strict=True),
        ]
        return max((abs(residual(one) - residual(other)) for one, other in pairs), default=0.0)

    def _decoding(self, cases: Sequence[Case]) -> list[float]:
        return [said.tokens_per_s for said in self._predictor.predict(Phase.DECODE, cases)]

    def _reading(self, cases: Sequence[Case]) -> list[float]:
        return [said.tokens_per_s for said in self._predictor.predict(Phase.PREFILL, cases)]


def run(*, is_quick: bool) -> Report:
    swarm = Swarm(Random(SEED))
    trials = [swarm.trial() for _ in range(QUICK_MACHINES if is_quick else MACHINES)]
    changed = mean(trial.honest != trial.lied for trial in trials)
    by_liars = mean(trial.honest != trial.by_liars for trial in trials)
    figures = {
        "choices_changed_share": changed,
        "choices_changed_by_lying_peers_share": by_liars,
        "choices_changed_by_honest_rows_share": mean(trial.honest != trial.alone for trial in trials),
        "largest_shift_percent": 100 * (exp(max(trial.shift for trial in trials)) - 1),
        "mean_shift_percent": 100 * (exp(mean(trial.shift for trial in trials)) - 1),
        "machines": float(len(trials)),
        "rows": float(sum(trial.rows for trial in trials)),
    }
    failure = "" if changed <= MOST_CHANGED else f"Lies changed {100 * changed:.1f} % of choices; 2 % may change."
    return Report(figures, failure=failure)


def multiplied(heard: Heard) -> Heard:
    """The same row with ten times the speeds."""
    row = heard.row
    return Heard(
        heard.peer,
        msgspec.structs.replace(
            row,
            prefill_tokens_per_s=LIE * row.prefill_tokens_per_s,
            decode_tokens_per_s=LIE * row.decode_tokens_per_s,
        ),
    )


def residual(seen: Observation) -> float:
    """Log of measured over predicted."""
    return log(seen.measured / seen.predicted)
