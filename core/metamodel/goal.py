"""What a choice is for: the jobs expected here, the quality they ask, and the limits of owner and machine.

Plain values. Never decides.
"""

from __future__ import annotations

import msgspec

from core.job import QualityClass
from core.settings import Settings

_BUDGETS = {QualityClass.PREMIUM: 0.006, QualityClass.STANDARD: 0.032, QualityClass.ECONOMY: 0.11}


class JobMix(msgspec.Struct, frozen=True):
    """The typical job, in tokens, and how many are under way at once (1 to slots are used).

    shared_prefix_tokens: with how many tokens, of prompt_tokens, most prompts begin alike. output_spread: standard
    deviation of the answers' lengths over their mean (0: all alike). foretold: how often a token that prompt lookup
    guesses is right (0: never, or not known).
    """

    prompt_tokens: int = 512
    output_tokens: int = 128
    concurrent: float = 4.0
    shared_prefix_tokens: int = 0
    output_spread: float = 0.5
    foretold: float = 0.0


class Limits(msgspec.Struct, frozen=True):
    """What may be used, and the slowest service that still sells. Times in seconds; max_bytes caps what we take, and
    power_w what a device may draw (None: no limit)."""

    memory_percent: float = 98.5
    max_bytes: int | None = None
    slot_context_tokens: int = 2048
    max_slots: int = 8
    threads: int | None = None
    ttft_s: float = 20.0
    tpot_s: float = 0.5
    power_w: float | None = None


class Goal(msgspec.Struct, frozen=True):
    """Prices are smallest units per 1M tokens and per kWh; power_w is what serving draws above idle where the device
    does not say (Device.power_w)."""

    quality: QualityClass = QualityClass.STANDARD
    mix: JobMix = JobMix()
    limits: Limits = Limits()
    price_per_mtok: int = 500_000
    tariff_per_kwh: int = 250_000
    power_w: float = 0.0


def goal_of(settings: Settings, mix: JobMix | None = None) -> Goal:
    """What this owner wants, for these jobs."""
    return Goal(
        quality=settings.quality,
        mix=mix or JobMix(),
        limits=Limits(power_w=settings.max_power_w or None),
        price_per_mtok=settings.floor_per_mtok,
        tariff_per_kwh=settings.tariff_per_kwh,
    )


def kl_budget(quality: QualityClass) -> float:
    """The most mean KL divergence from the unquantized model that a job of this class accepts."""
    return _BUDGETS[quality]
