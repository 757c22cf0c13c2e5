"""What speaks for a prediction's error on one device: own runs, else its benchmark, else what peers with such hardware
agree on.

Never mixes them: one own run says more of this machine than a hundred others, and peers' words narrow no promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp

import msgspec

from core.device import Device
from core.metamodel.correction import Observation
from core.metamodel.features import Case, Rates
from core.metamodel.federation import (
    Heard,
    Vote,
    agreed,
    decode_case_of,
    is_alike,
    is_possible,
    prefill_case_of,
)
from core.metamodel.own_measurements import ALONE, Seen, decode_seen, place_of, prefill_seen
from core.plan import Plan
from core.speed_record import SpeedRecord, Thermal

Foretell = Callable[[Sequence[Case]], Sequence[float]]


class Experience(msgspec.Struct, frozen=True):
    """Everything that was measured: here, under this runtime and at this heat, and by peers."""

    speeds: SpeedRecord = SpeedRecord()
    runtime: str = ""
    thermal: Thermal = Thermal.UNKNOWN
    heard: tuple[Heard, ...] = ()

    def decoded(self, device: Device, *, able: Rates) -> tuple[Seen, ...]:
        """How fast answers were written on this device."""
        place = place_of(device, self.runtime, thermal=self.thermal)
        return decode_seen(self.speeds, device, place=place, able=able)

    def read(self, device: Device, *, able: Rates) -> tuple[Seen, ...]:
        """How fast prompts were read on this device."""
        place = place_of(device, self.runtime, thermal=self.thermal)
        return prefill_seen(self.speeds, device, place=place, able=able)

    def alone(self, plan: Plan, device: Device) -> float:
        """Tokens per second of answers by this plan's model, quantization and layers that ran alone here, by the newest
        such cell; 0: none did."""
        asked = (plan.model, plan.quantization, plan.gpu_layers)
        cells = self.speeds.at(place_of(device, self.runtime, thermal=self.thermal))
        runs = [cell.run for cell in cells if cell.decodes and cell.run.batch <= ALONE]
        alike = [r for r in runs if (r.plan.model, r.plan.quantization, r.plan.gpu_layers) == asked]
        return alike[-1].decode_tokens_per_s if alike else 0.0

    def alike(self, device: Device, *, able: Rates) -> tuple[Heard, ...]:
        """What peers with such hardware measured."""
        return tuple(heard for heard in self.heard if is_alike(heard.row, device, able=able))


def own_observations(seen: Sequence[Seen], foretell: Foretell) -> tuple[Observation, ...]:
    """Own runs beside what is predicted without them. foretell: tokens per second of each case, uncorrected."""
    if not seen:
        return ()
    predicted = foretell([one.case for one in seen])
    return tuple(Observation(one.case, one.measured, said) for one, said in zip(seen, predicted, strict=True))


def peers_on_decoding(heard: Sequence[Heard], foretell: Foretell) -> tuple[Observation, ...]:
    """What peers agree on of writing answers, as if it had been measured here."""
    rows = [one for one in heard if one.row.decode_tokens_per_s > 0]
    said = [(decode_case_of(one.row), one.row.decode_tokens_per_s) for one in rows]
    return _agreed(rows, said, foretell=foretell)


def peers_on_reading(heard: Sequence[Heard], foretell: Foretell) -> tuple[Observation, ...]:
    """What peers agree on of reading prompts, as if it had been measured here."""
    rows = [one for one in heard if one.row.prefill_tokens_per_s > 0]
    said = [(prefill_case_of(one.row), one.row.prefill_tokens_per_s) for one in rows]
    return _agreed(rows, said, foretell=foretell)


def _agreed(
    rows: Sequence[Heard], said: Sequence[tuple[Case, float]], *, foretell: Foretell
) -> tuple[Observation, ...]:
    if not rows:
        return ()
    predicted = foretell([case for case, _ in said])
    votes = [
        Vote(one.peer, case, measured, expected, is_possible(one.row))
        for one, (case, measured), expected in zip(rows, said, predicted, strict=True)
    ]
    found = agreed(votes)
    here = foretell([one.case for one in found]) if found else ()
    return tuple(Observation(one.case, said * exp(one.residual), said) for one, said in zip(found, here, strict=True))
