"""What a choice is for: the jobs expected here, the quality they ask, and the limits of owner and machine.

Plain values. Never decides.
"""

from __future__ import annotations

import msgspec

from core.job import QualityClass

_BUDGETS = {QualityClass.PREMIUM: 0.006, QualityClass.STANDARD: 0.032, QualityClass.ECONOMY: 0.11}


class JobMix(msgspec.Struct, frozen=True):
    """The typical job, in tokens, and how many are under way at once (1 to slots are used)."""

    prompt_tokens: int = 512
    output_tokens: int = 128
    concurrent: float = 4.0


class Limits(msgspec.Struct, frozen=True):
    """What may be used, and the slowest service that still sells. Times in seconds, max_bytes caps what we take."""

    memory_percent: float = 98.5
    max_bytes: int | None = None
    slot_context_tokens: int = 2048
    max_slots: int = 8
    threads: int | None = None
    ttft_s: float = 20.0
    tpot_s: float = 0.5


class Goal(msgspec.Struct, frozen=True):
    """Prices are smallest units per 1M tokens and per kWh; power_w is what serving draws above idle."""

    quality: QualityClass = QualityClass.STANDARD
    mix: JobMix = JobMix()
    limits: Limits = Limits()
    price_per_mtok: int = 500_000
    tariff_per_kwh: int = 250_000
    power_w: float = 0.0


def kl_budget(quality: QualityClass) -> float:
    """The most mean KL divergence from the unquantized model that a job of this class accepts."""
    return _BUDGETS[quality]
