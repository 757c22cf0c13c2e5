"""The laws of quantizing: never up, losses add."""

from __future__ import annotations

from core.metamodel.quantizations import LOCALLY_MADE, kl_divergence, makeable, quantization


def test_nothing_is_made_from_fewer_bits() -> None:
    for source in (*LOCALLY_MADE, "F32", "BF16"):
        origin = quantization(source)
        made = [quantization(name) for name in makeable(source)]
        assert origin is not None
        assert all(row is not None and row.bits <= origin.bits for row in made)


def test_everything_is_made_from_an_unquantized_source() -> None:
    assert set(makeable("F16")) == set(LOCALLY_MADE)


def test_an_unknown_quantization_serves_only_as_it_is() -> None:
    assert makeable("TQ1_0") == ("TQ1_0",)


def test_requantizing_loses_both_times() -> None:
    assert kl_divergence("Q4_K_M", source="Q8_0") > kl_divergence("Q4_K_M", source="F16")
    assert kl_divergence("Q8_0", source="Q8_0") == kl_divergence("Q8_0", source="F16")


def test_eight_bit_kv_costs_less_than_a_weight_tier() -> None:
    assert kl_divergence("Q8_0", source="F16", kv="Q8_0") < kl_divergence("Q6_K", source="F16")
