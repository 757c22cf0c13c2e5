"""What llama.cpp's quantizations and KV types cost: bits, and divergence from the unquantized model.

A table and look-ups. Never estimates speed: dequant_class is a feature for those who do.
Sources: mean KL of Llama 3 8B on wikitext-2 by llama.cpp's tools/perplexity/README (no importance matrix where there
is a choice; the IQ types need one to reach theirs); bits are that table's file sizes over 8.03e9 parameters.
"""

from __future__ import annotations

import msgspec


class Quantization(msgspec.Struct, frozen=True):
    """bits per weight over the whole file. dequant_class: 0 plain, 1 legacy blocks, 2 K-quants, 3 IQ look-up tables."""

    name: str
    bits: float
    kl_divergence: float
    dequant_class: int


class KvType(msgspec.Struct, frozen=True):
    """One type of the KV cache: bits per element (scales included) and the divergence that it adds (upper figure)."""

    name: str
    bits: float
    kl_divergence: float


QUANTIZATIONS = (
    Quantization("F32", 32.0, 0.0, 0),
    Quantization("BF16", 16.0, 0.0005, 0),
    Quantization("F16", 16.0, 0.0005, 0),
    Quantization("Q8_0", 8.5, 0.0014, 1),
    Quantization("Q6_K", 6.56, 0.0055, 2),
    Quantization("Q5_K_M", 5.70, 0.0108, 2),
    Quantization("Q5_K_S", 5.57, 0.0166, 2),
    Quantization("Q5_1", 6.04, 0.0180, 1),
    Quantization("Q5_0", 5.57, 0.0222, 1),
    Quantization("Q4_K_M", 4.90, 0.0313, 2),
    Quantization("Q4_K_S", 4.67, 0.0431, 2),
    Quantization("Q4_1", 5.11, 0.0717, 1),
    Quantization("Q4_0", 4.64, 0.0719, 1),
    Quantization("IQ4_NL", 4.65, 0.0357, 3),
    Quantization("IQ4_XS", 4.43, 0.0363, 3),
    Quantization("MXFP4", 4.63, 0.0719, 1),
    Quantization("Q3_K_L", 4.31, 0.0872, 2),
    Quantization("Q3_K_M", 4.00, 0.1019, 2),
    Quantization("Q3_K_S", 3.65, 0.2282, 2),
    Quantization("IQ3_M", 3.78, 0.1025, 3),
    Quantization("IQ3_XXS", 3.26, 0.1836, 3),
    Quantization("Q2_K", 3.17, 0.4451, 2),
    Quantization("IQ2_M", 2.93, 0.3260, 3),
    Quantization("IQ2_XXS", 2.40, 0.8120, 3),
    Quantization("IQ1_M", 2.15, 1.3931, 3),
    Quantization("IQ1_S", 2.01, 2.2546, 3),
)
KV_TYPES = (KvType("F16", 16.0, 0.0), KvType("Q8_0", 8.5, 0.0004), KvType("Q4_0", 4.5, 0.004))
LOCALLY_MADE = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS")
_BY_NAME = {row.name: row for row in QUANTIZATIONS}
_KV_BY_NAME = {row.name: row for row in KV_TYPES}
_UNQUANTIZED = ("F32", "BF16", "F16")


def quantization(name: str) -> Quantization | None:
    """The row of this name, or None when the table has none."""
    return _BY_NAME.get(name)


def kv_type(name: str) -> KvType | None:
    """The row of this KV type, or None when the table has none."""
    return _KV_BY_NAME.get(name)


def makeable(source: str) -> tuple[str, ...]:
    """What may be made from a file of this quantization: itself and what has fewer bits, never up from a lower one."""
    origin = quantization(source)
    if origin is None:
        return (source,)
    lower = tuple(n for n in LOCALLY_MADE if n != source and _bits(n) <= origin.bits and not _both_plain(n, source))
    return (source, *lower)


def kl_divergence(target: str, *, source: str, kv: str = "F16") -> float:
    """Mean KL of target made from source, with this KV type. Losses add; an unknown name costs as much as 2 bits."""
    made, origin, cache = quantization(target), quantization(source), kv_type(kv)
    if made is None:
        return 0.4451
    lost_before = 0.0 if target == source or source in _UNQUANTIZED or origin is None else origin.kl_divergence
    return made.kl_divergence + lost_before + (0.0 if cache is None else cache.kl_divergence)


def _bits(name: str) -> float:
    row = quantization(name)
    return row.bits if row is not None else 16.0


def _both_plain(name: str, source: str) -> bool:
    return name in _UNQUANTIZED and source in ("BF16", "F16")
