"""What a token costs here: never below the owner's floor or the power it takes, moving with demand.

Pure; money is int in the smallest unit, per one million tokens. Never knows a payer: everybody gets the same price.
The step is that of EIP-1559: in proportion to how far use is from the target, at most 1/8 at a time, so that nobody can
be surprised by the next price, and waiting is worth it when demand is short.
"""

from __future__ import annotations

import msgspec

from core.job import Price

TARGET_BP = 6_000
STEP_DIVISOR = 8
CEILING_FACTOR = 8
MARGIN_BP = 15_000
OUTPUT_TO_INPUT = 4
SLOWEST_TOKENS_PER_S = 0.001
_FULL_BP = 10_000


class Costs(msgspec.Struct, frozen=True):
    """What serving costs the owner. tokens_per_s is what a busy machine writes (lower bound); power_w is above idle.

    floor_per_mtok is the least the owner takes for a million prompt tokens; an answer's tokens cost four times as much.
    """

    floor_per_mtok: int
    tariff_per_kwh: int
    power_w: float
    tokens_per_s: float


def energy_per_mtok(costs: Costs) -> int:
    """What the power for one million answer tokens costs, rounded up; 0 when the speed is not known."""
    if costs.tokens_per_s < SLOWEST_TOKENS_PER_S:
        return 0
    watt_hours_per_mtok = costs.power_w * 1_000_000 / costs.tokens_per_s / 3600
    return -(-round(watt_hours_per_mtok * 1000) * costs.tariff_per_kwh // 1_000_000)


def lowest_price(costs: Costs) -> Price:
    """The owner's floor, or the power with half as much again on top, whichever is more."""
    energy = -(-energy_per_mtok(costs) * MARGIN_BP // 10_000)
    return _price(max(costs.floor_per_mtok * OUTPUT_TO_INPUT, energy))


def next_price(current: Price | None, costs: Costs, *, utilisation: float) -> Price:
    """The price after one step. utilisation is the busy share of our slots, 0 to 1, or more when work was refused.

    Up or down by at most 12.5 %, none at 60 %; between the lowest price and eight times that.
    """
    lowest = lowest_price(costs).output_per_mtok
    if current is None:
        return _price(lowest)
    used_bp = max(0, min(_FULL_BP, round(utilisation * _FULL_BP)))
    span_bp = _FULL_BP - TARGET_BP if used_bp > TARGET_BP else TARGET_BP
    moved = current.output_per_mtok * (used_bp - TARGET_BP) // (span_bp * STEP_DIVISOR)
    if used_bp > TARGET_BP:
        moved = max(1, moved)
    return _price(min(lowest * CEILING_FACTOR, max(lowest, current.output_per_mtok + moved)))


def _price(output_per_mtok: int) -> Price:
    return Price(input_per_mtok=-(-output_per_mtok // OUTPUT_TO_INPUT), output_per_mtok=output_per_mtok)
