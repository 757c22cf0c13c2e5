"""What leaves the store over its cap, and in which order."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.model_card import ModelCard, ModelVariant
from core.model_shelf import Dropped, ShelfRules, drop_order, shelf_rules, to_drop
from core.settings import Settings

NOTHING: frozenset[tuple[str, str]] = frozenset()


def card(name: str, *sizes: tuple[str, int, float], origin: str = "") -> ModelCard:
    """A model whose first variant is its source; (quantization, bytes, used at)."""
    variants = tuple(ModelVariant(q, size, "00", f"{name}/{q}.gguf", used_at=at) for q, size, at in sizes)
    return ModelCard(
        model=name, title=name, architecture="llama", parameters=1, layers=1, hidden=1, feed_forward=1, heads=1,
        kv_heads=1, kv_width=1, vocabulary=1, context_tokens=1, source_sha256=name, source_quantization=sizes[0][0],
        variants=variants, origin=origin,
    )  # fmt: skip


LOCAL = card("local", ("F16", 100, 1.0), ("Q8_0", 50, 9.0), ("Q4_0", 30, 5.0))
FETCHED = card("fetched", ("F16", 80, 2.0), ("Q4_0", 20, 7.0), origin="a/b:x.gguf")


def names(cards: tuple[ModelCard, ...], rules: ShelfRules, held: frozenset[tuple[str, str]] = NOTHING) -> list[str]:
    return [f"{d.model}:{d.quantization}" for d in drop_order(cards, rules, held=held)]


def test_what_can_be_made_again_goes_first_and_an_only_copy_never() -> None:
    expected = ["local:Q4_0", "fetched:Q4_0", "local:Q8_0", "fetched:"]
    assert names((LOCAL, FETCHED), ShelfRules()) == expected
    assert names((LOCAL, FETCHED), ShelfRules(may_drop_sources=True)) == [*expected, "local:"]


def test_what_is_served_stays_and_so_does_its_source() -> None:
    held = frozenset({("fetched", "Q4_0")})
    assert names((LOCAL, FETCHED), ShelfRules(may_drop_sources=True), held) == ["local:Q4_0", "local:Q8_0", "local:"]


def test_a_variant_of_a_damaged_source_cannot_be_made_again_and_stays() -> None:
    source = msgspec.structs.replace(LOCAL.variants[0], damaged=("F16.gguf",))
    broken = msgspec.structs.replace(LOCAL, variants=(source, *LOCAL.variants[1:]))
    assert names((broken,), ShelfRules()) == []


def test_no_more_goes_than_the_cap_asks_for() -> None:
    cards = (LOCAL, FETCHED)
    assert to_drop(cards, 10, rules=ShelfRules(300), held=NOTHING) == ()
    dropped = to_drop(cards, 60, rules=ShelfRules(300), held=NOTHING)
    assert dropped is not None and [d.quantization for d in dropped] == ["Q4_0", "Q4_0"]
    assert to_drop(cards, 250, rules=ShelfRules(300), held=NOTHING) is None
    assert to_drop(cards, 250, rules=ShelfRules(), held=NOTHING) == ()


def test_a_model_frees_what_of_it_has_not_gone_before() -> None:
    dropped = to_drop((FETCHED,), 95, rules=ShelfRules(100), held=NOTHING)
    assert dropped is not None and [d.quantization for d in dropped] == ["Q4_0", ""]


def test_room_for_a_variant_is_never_made_of_its_own_source() -> None:
    assert to_drop((FETCHED,), 95, rules=ShelfRules(100), held=NOTHING, keep="fetched") is None


def test_the_cap_is_the_owner_s_setting() -> None:
    assert shelf_rules(Settings()) == ShelfRules()
    assert shelf_rules(Settings(storage_cap_gb=1.5, drop_only_copies=True)) == ShelfRules(1_500_000_000, True)


@given(st.integers(0, 600), st.integers(0, 400), st.sampled_from(["", "Q8_0", "Q4_0"]))
def test_after_dropping_there_is_room_and_nothing_went_needlessly(cap: int, needed: int, held: str) -> None:
    cards, rules = (LOCAL, FETCHED), ShelfRules(cap, may_drop_sources=True)
    kept = frozenset({("local", held)}) if held else NOTHING
    dropped = to_drop(cards, needed, rules=rules, held=kept)
    if not dropped:
        return
    assert not {(d.model, d.quantization) for d in dropped} & (kept | ({("local", "")} if held else NOTHING))
    sizes = [left(cards, dropped[:count]) for count in range(len(dropped) + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] + needed <= cap < sizes[-2] + needed


def left(cards: tuple[ModelCard, ...], dropped: tuple[Dropped, ...]) -> int:
    """What stays on disk, in bytes."""
    gone = {(d.model, d.quantization) for d in dropped}
    stays = [card for card in cards if (card.model, "") not in gone]
    return sum(v.file_bytes for card in stays for v in card.variants if (card.model, v.quantization) not in gone)
