"""The timetable does what the engine's own batch does, step for step, and its counts obey what must hold of any."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.job import JobId
from core.metamodel.timetable import Clients, Switches, Timetable, Workload, answer_tokens, timetable
from core.runtimes.batch import Batch, Pace
from core.runtimes.kv_slots import KvSlots
from core.runtimes.prefix_cache import PrefixCache
from core.runtimes.sequence import Sequence

CHAT = (Clients(4, 176, 16, shared_tokens=160, rounds=2),)
UNEVEN = (Clients(8, 24, 16, spread=0.9, rounds=2),)
BESIDE = (Clients(3, 16, 56, rounds=1), Clients(1, 320, 4, rounds=2))
GROUPS = st.builds(
    lambda count, own, shared, output, spread, rounds: Clients(count, own + shared, output, shared, spread, rounds),
    st.integers(1, 5), st.integers(1, 90), st.sampled_from((0, 20, 150)), st.integers(1, 20),
    st.sampled_from((0.0, 0.8)), st.integers(1, 3),
)  # fmt: skip
WORKLOADS = st.lists(GROUPS, min_size=1, max_size=2).map(tuple)
SWITCHES = st.builds(
    Switches, st.sampled_from((1, 2, 4)), st.sampled_from((0, 32, 128)), st.booleans(), st.booleans(), st.just(512)
)


class Engine:
    """The engine's batch, fed with made-up tokens by clients that answer as those of a timetable do."""

    def __init__(self, workload: Workload, switches: Switches) -> None:
        cache = PrefixCache(shares=switches.prefix_cache, can_trim=True, room_bytes=0)
        pace = Pace(
            chunk=switches.chunk_tokens or switches.context_tokens,
            is_whole=switches.chunk_tokens == 0,
            joins=switches.continuous_batching,
        )
        self.batch = Batch(KvSlots(switches.slots, cache, is_split=True), pace)
        self.steps: list[list[int]] = []
        self._workload = workload
        self._fresh = itertools.count(1_000)
        self._who: dict[JobId, tuple[int, int, int]] = {}
        members = [(g, c) for g, clients in enumerate(workload) for c in range(clients.count)]
        coming = [self._question(group, client, 0) for group, client in members]
        while coming or len(self.batch):
            coming = self._step(coming)

    def _step(self, coming: list[Sequence]) -> list[Sequence]:
        if not len(self.batch):
            self._add(coming)
            coming = []
        self.batch.seat()
        self.batch.slots.follow()
        self.batch.tidy()
        rows = self.batch.next_rows()
        self.batch.slots.take_orders()
        self.steps.append(sorted(row.count for row in rows))
        asking = []
        for row in rows:
            row.sequence.advance(row.start + row.count)
            if row.draws:
                row.sequence.tokens.append(next(self._fresh))
            if row.sequence.completion_tokens == row.sequence.limit:
                self.batch.remove(row.sequence)
                group, client, turn = self._who[row.sequence.job_id]
                if turn + 1 < self._workload[group].rounds:
                    asking.append((group, client, turn + 1))
        self._add(coming)
        return [self._question(*who) for who in sorted(asking)]

    def _add(self, coming: list[Sequence]) -> None:
        for sequence in coming:
            self.batch.add(sequence)

    def _question(self, group: int, client: int, turn: int) -> Sequence:
        clients = self._workload[group]
        shared = round(clients.shared_tokens)
        own = round(clients.prompt_tokens) - shared
        prompt = [-1 - group] * shared + [next(self._fresh) for _ in range(own)]
        job_id = JobId(f"{group}-{client}-{turn}")
        self._who[job_id] = (group, client, turn)
        return Sequence(job_id, prompt, limit=answer_tokens(clients, client, turn=turn))


def steps_of(table: Timetable) -> int:
    return int(table.steps.sum())


@settings(max_examples=150, deadline=None)
@given(WORKLOADS, SWITCHES)
def test_without_a_prefix_cache_it_steps_as_the_engine_does(workload: Workload, switches: Switches) -> None:
    plain = Switches(switches.slots, switches.chunk_tokens, False, switches.continuous_batching, 512)
    engine, table = Engine(workload, plain), timetable(workload, plain)
    assert steps_of(table) == len(engine.steps)
    assert table.rows == sum(sum(rows) for rows in engine.steps)


@pytest.mark.parametrize("chunk", [0, 32, 128])
@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("workload", [CHAT, BESIDE, UNEVEN])
def test_with_a_prefix_cache_it_reads_nearly_as_the_engine_does(workload: Workload, joins: bool, chunk: int) -> None:
    switches = Switches(4, chunk, True, joins, 512)
    engine, table = Engine(workload, switches), timetable(workload, switches)
    assert steps_of(table) == pytest.approx(len(engine.steps), rel=0.05, abs=1)
    assert table.rows == pytest.approx(sum(sum(rows) for rows in engine.steps), rel=0.05, abs=8)


@given(WORKLOADS, SWITCHES)
@settings(max_examples=100, deadline=None)
def test_every_job_gets_its_whole_answer(workload: Workload, switches: Switches) -> None:
    table = timetable(workload, switches)
    assert len(table.asked) == sum(clients.count * clients.rounds for clients in workload)
    assert (table.first >= table.asked).all()
    assert table.rows >= table.tokens - len(table.asked)


def test_a_shared_prefix_is_read_once() -> None:
    alone = timetable(CHAT, Switches(4, prefix_cache=False)).rows
    cached = timetable(CHAT, Switches(4, prefix_cache=True)).rows
    assert alone - cached == 7 * 160


def test_joining_a_batch_saves_steps_when_answers_are_uneven() -> None:
    joined = steps_of(timetable(UNEVEN, Switches(4, continuous_batching=True)))
    assert joined < 0.8 * steps_of(timetable(UNEVEN, Switches(4, continuous_batching=False)))


def test_a_conversation_is_not_read_again() -> None:
    talk = (Clients(1, 50, 10, rounds=4, keeps=True),)
    cached = timetable(talk, Switches(4, prefix_cache=True))
    assert cached.rows == 4 * 50 + 40 - 4 + 3  # of each answer the last token was never fed


def test_answers_are_spread_evenly_and_the_same_in_every_run() -> None:
    clients = Clients(8, 10, 100, spread=0.9, rounds=8)
    lengths = [answer_tokens(clients, client, turn=turn) for client in range(8) for turn in range(8)]
    assert sum(lengths) / len(lengths) == pytest.approx(100, rel=0.05)
    assert min(lengths) < 20 and max(lengths) > 180
