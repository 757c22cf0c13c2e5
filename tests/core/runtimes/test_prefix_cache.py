"""Laws of what is remembered of ended jobs, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.job import JobId
from core.runtimes.prefix_cache import MIN_SHARED, PrefixCache, common_prefix

LONG = list(range(100))
ME = JobId("me")


def _cache(*, shares: bool = True, can_trim: bool = True, room_bytes: int = 1 << 20) -> PrefixCache:
    cache = PrefixCache(shares=shares, can_trim=can_trim, room_bytes=room_bytes)
    cache.costs.bytes_per_token = 100
    return cache


@given(st.lists(st.integers(0, 1), max_size=20), st.lists(st.integers(0, 1), max_size=20))
def test_a_common_prefix_is_as_long_as_can_be(one: list[int], other: list[int]) -> None:
    shared = common_prefix(one, other)
    assert one[:shared] == other[:shared]
    assert shared == min(len(one), len(other)) or one[shared] != other[shared]


def test_the_longest_prefix_is_found_but_for_the_last_token_which_must_draw() -> None:
    cache = _cache()
    cache.keep(0, LONG[:40], scope="a")
    cache.keep(1, [*LONG[:60], 7], scope="a")
    found, shared = cache.find(LONG, scope="a", job_id=ME)
    assert found is cache.at(1) and shared == 60
    assert cache.find(LONG[:60], scope="a", job_id=ME)[1] == 59


def test_nothing_is_given_to_another_scope_nor_when_nothing_is_shared() -> None:
    cache = _cache()
    cache.keep(0, LONG, scope="a")
    assert cache.find(LONG, scope="b", job_id=ME) == (None, 0)
    alone = _cache(shares=False)
    alone.keep(0, LONG, scope="a", owner=JobId("you"))
    assert alone.find(LONG, scope="a", job_id=ME) == (None, 0)
    assert alone.find(LONG, scope="a", job_id=JobId("you"))[1] == 99


def test_too_short_a_prefix_is_not_worth_a_copy_but_a_preempted_job_takes_what_is_its_own() -> None:
    cache = _cache()
    cache.keep(0, LONG[: MIN_SHARED - 1], scope="a", owner=ME)
    assert cache.find(LONG, scope="a", job_id=JobId("you")) == (None, 0)
    assert cache.find(LONG, scope="a", job_id=ME)[1] == MIN_SHARED - 1


def test_a_memory_that_cannot_forget_a_tail_gives_whole_entries_only() -> None:
    cache = _cache(can_trim=False)
    cache.keep(0, [*LONG[:40], 7], scope="a")
    assert cache.find(LONG, scope="a", job_id=ME) == (None, 0)
    cache.keep(1, LONG[:30], scope="a")
    assert cache.find(LONG, scope="a", job_id=ME)[1] == 30


def test_what_a_longer_entry_holds_too_is_forgotten() -> None:
    cache = _cache()
    cache.keep(0, LONG[:40], scope="a")
    cache.keep(1, LONG[:40], scope="b")
    gone = cache.keep(2, LONG, scope="a")
    assert [kept.slot for kept in gone] == [0]
    assert {kept.slot for kept in cache} == {1, 2}


def test_used_and_long_prefixes_outlive_others_and_preempted_jobs_outlive_all() -> None:
    cache = _cache(room_bytes=0)
    for slot, (begin, length) in enumerate(((0, 20), (30, 60), (40, 20), (50, 25))):
        cache.keep(slot, LONG[begin : begin + length], scope="a", owner=ME if slot == 3 else None)
    used = cache.at(2)
    assert used is not None
    for _ in range(5):
        cache.use(used)
    order = []
    while (worst := cache.worst(cache)) is not None:
        order.append(worst.slot)
        assert not cache.evict(worst)
    assert order == [0, 1, 2, 3]


def test_a_once_popular_prefix_ages() -> None:
    cache = _cache(room_bytes=0)
    cache.keep(0, [0] * 50, scope="a")
    popular = cache.at(0)
    assert popular is not None
    for _ in range(3):
        cache.use(popular)
    evictions = 0
    while cache.at(0) is not None:
        evictions += 1
        cache.keep(1, [evictions] * 50, scope="a")
        worst = cache.worst(cache)
        assert worst is not None
        cache.evict(worst)
    assert 2 < evictions < 10


def test_eviction_saves_what_costs_more_to_read_again_than_to_copy_twice() -> None:
    cache = _cache()
    cache.keep(0, LONG, scope="a", owner=ME)
    kept = cache.at(0)
    assert kept is not None
    cache.costs.read_s_per_token, cache.costs.copy_s_per_byte = 1e-3, 1e-6
    assert cache.evict(kept) and kept.slot is None
    kept.slot = 0
    cache.costs.copy_s_per_byte = 6e-6
    assert not cache.evict(kept) and len(cache) == 0


def test_what_others_hold_too_is_not_worth_saving() -> None:
    cache = _cache()
    cache.costs.read_s_per_token, cache.costs.copy_s_per_byte = 1e-3, 1e-7
    cache.keep(0, [*LONG, 1], scope="a")
    cache.keep(1, [*LONG, 2], scope="a")
    kept = cache.at(0)
    assert kept is not None and not cache.evict(kept)


def test_what_a_running_job_holds_too_is_not_worth_saving() -> None:
    cache = _cache()
    cache.costs.read_s_per_token, cache.costs.copy_s_per_byte = 1e-3, 1e-7
    for neighbours, is_saved in (([], True), ([[*LONG, 5]], False)):
        cache.keep(0, LONG, scope="a")
        kept = cache.at(0)
        assert kept is not None and cache.evict(kept, neighbours=neighbours) == is_saved


def test_where_nobody_goes_on_from_what_is_kept_nothing_is_saved_any_more() -> None:
    cache = _cache()
    cache.costs.read_s_per_token, cache.costs.copy_s_per_byte = 1e-3, 1e-7
    saved = []
    for number in range(100):
        cache.keep(0, [number] * 100, scope="a")
        kept = cache.at(0)
        assert kept is not None
        saved.append(cache.evict(kept))
    assert saved[0] and not saved[-1]


def test_saved_entries_stay_within_their_room() -> None:
    cache = _cache(room_bytes=25_000)
    cache.costs.read_s_per_token = 1.0
    for number in range(4):
        cache.keep(number, [number] * 100, scope="a")
        kept = cache.at(number)
        assert kept is not None and cache.evict(kept)
        cache.overflow(None)
    assert len(cache) == 2


def test_what_a_cancelled_job_left_is_for_others_or_gone() -> None:
    sharing, private = _cache(), _cache(shares=False)
    for cache in (sharing, private):
        cache.keep(0, LONG, scope="a", owner=ME)
    assert sharing.disown(ME) == [] and sharing.find(LONG, scope="a", job_id=JobId("you"))[1] == 99
    assert [kept.slot for kept in private.disown(ME)] == [0] and len(private) == 0
