"""Laws of demand: the typical job is what was asked of late, and nobody's asking outweighs what was served."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core import events as e
from core.demand import HALF_LIFE_S, MAX_ASKED, Asked, Demand, job_mix, median, mix_key
from core.job import JobId, JobState, JobTerms, Price, PriorityClass, Timing, Usage
from core.metamodel.goal import JobMix
from core.node_state import NodeState
from core.state import apply

NOW = 1_000_000.0
USUAL = JobMix(prompt_tokens=512, output_tokens=128, concurrent=4.0)


def served(count: int, *, prompt: int, output: int, began: float = NOW, each_s: float = 0.0) -> Demand:
    demand = Demand()
    for number in range(count):
        at = began + number * each_s
        timing = Timing(prefill_s=1.0, decode_s=9.0, ttft_s=1.0, cached_tokens=prompt // 2)
        job_id, usage = JobId(f"{prompt}-{number}"), Usage(prompt, output)
        demand = demand.with_end(job_id, at + 10.0, usage=usage, timing=timing, caches=True)
    return demand


def test_nothing_asked_is_the_usual_mix() -> None:
    assert job_mix(Demand(), now=NOW, usual=USUAL) == USUAL


def test_many_jobs_make_the_mix() -> None:
    mix = job_mix(served(200, prompt=2000, output=40), now=NOW, usual=USUAL)
    assert 1800 < mix.prompt_tokens <= 2000 and 40 <= mix.output_tokens < 45
    assert 900 < mix.shared_prefix_tokens < 1000


def test_few_jobs_leave_it_near_the_usual() -> None:
    mix = job_mix(served(1, prompt=8000, output=128), now=NOW, usual=USUAL)
    assert 512 < mix.prompt_tokens < 800


def test_jobs_that_come_one_after_another_are_not_together() -> None:
    alone = job_mix(served(100, prompt=512, output=128, each_s=60.0), now=NOW + 6000, usual=USUAL)
    crowd = job_mix(served(100, prompt=512, output=128, each_s=1.0), now=NOW + 100, usual=USUAL)
    assert alone.concurrent < 1.3 and 8 < crowd.concurrent < 11


def test_what_was_asked_long_ago_weighs_less() -> None:
    old = served(60, prompt=4000, output=128, began=NOW - 8 * HALF_LIFE_S)
    both = Demand((*old.asked, *served(60, prompt=300, output=128).asked))
    assert job_mix(both, now=NOW, usual=USUAL).prompt_tokens < 350


def test_a_flood_of_quotes_weighs_less_than_as_many_jobs() -> None:
    demand = served(100, prompt=400, output=128)
    for number in range(150):
        demand = demand.with_quote(Asked(JobId(f"q{number}"), NOW, 1900, 1))
    assert job_mix(demand, now=NOW, usual=USUAL).prompt_tokens < 450


def test_a_quote_that_becomes_a_job_counts_once() -> None:
    demand = Demand().with_quote(Asked(JobId("j"), NOW, 100, 128)).with_quote(Asked(JobId("j"), NOW, 100, 128))
    demand = demand.with_end(JobId("j"), NOW + 5, usage=Usage(100, 7), timing=Timing(), caches=False)
    assert [(a.at, a.output_tokens, a.weight, a.cached_tokens) for a in demand.asked] == [(NOW, 7, 1.0, None)]


def test_prompts_that_were_never_looked_up_say_nothing_of_what_they_share() -> None:
    demand = Demand().with_end(JobId("j"), NOW, usage=Usage(900, 9), timing=Timing(cached_tokens=0), caches=False)
    usual = JobMix(shared_prefix_tokens=200)
    assert job_mix(demand, now=NOW, usual=usual).shared_prefix_tokens == 200


def test_guesses_that_were_right_are_foretold_again() -> None:
    demand = Demand()
    for number in range(200):
        timing = Timing(1.0, 1.0, 1.0, drafted_tokens=100, accepted_tokens=60)
        demand = demand.with_end(JobId(f"{number}"), NOW, usage=Usage(100, 100), timing=timing, caches=False)
    assert 0.55 < job_mix(demand, now=NOW).foretold <= 0.6
    assert job_mix(served(200, prompt=100, output=100), now=NOW).foretold == 0.0


asked = st.builds(
    Asked, st.text("ab", min_size=1, max_size=6).map(JobId), st.floats(0, 2 * NOW), st.integers(0, 1 << 20),
    st.integers(0, 1 << 20), st.sampled_from([0.25, 1.0]), st.none() | st.floats(0, 2 * NOW),
    st.none() | st.integers(0, 9000), st.none() | st.floats(0, 1),
)  # fmt: skip


@given(st.lists(asked, max_size=40))
def test_every_demand_makes_a_possible_mix(found: list[Asked]) -> None:
    mix = job_mix(Demand(tuple(found)), now=NOW)
    assert mix.prompt_tokens >= 1 and mix.output_tokens >= 1 and 1 <= mix.concurrent <= 64
    assert 0 <= mix.shared_prefix_tokens < max(2, mix.prompt_tokens) and mix.output_spread >= 0
    assert 0 <= mix.foretold <= 1
    assert mix_key(mix)


@given(st.lists(asked, max_size=400))
def test_demand_is_bounded(found: list[Asked]) -> None:
    demand = Demand()
    for one in found:
        demand = demand.with_quote(one)
    assert len(demand.asked) <= MAX_ASKED


def test_half_of_the_weight_lies_at_or_below_the_median() -> None:
    assert median([3.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == 2.0
    assert median([1.0, 9.0], [1.0, 5.0]) == 9.0


def test_events_make_demand() -> None:
    terms = JobTerms(JobId("j1"), "demo", PriorityClass.BATCH)
    state = apply(NodeState(), e.JobAsked(1.0, JobId("j1"), 300, 50))
    state = apply(state, e.JobAsked(1.5, JobId("j2"), 300, 50))
    assert [a.prompt_tokens for a in state.demand.asked] == [300, 300]
    state = apply(state, e.JobQueued(2.0, terms, Price(1, 2), "0xp", "peer"))
    ended = e.JobEnded(9.0, JobId("j1"), JobState.FINISHED, "stop", Usage(300, 20), 5, Timing(1.0, 2.0, 1.0))
    state = apply(state, ended)
    assert [(a.output_tokens, a.weight) for a in state.demand.asked] == [(50, 0.25), (20, 1.0)]
