"""The laws of what a plan delivers: faster parts never deliver less, and switches do what they are for."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metamodel.goal import JobMix
from core.metamodel.service import Service, Speeds, Timetables, job_seconds, services, speeds_of, workload_of
from core.metamodel.timetable import Clients, Switches, Workload

SPEEDS = speeds_of(400.0, 80.0, step_slope=0.1, chunk_tokens=128)
MIX = JobMix(prompt_tokens=512, output_tokens=64, concurrent=4.0)


def serve(switches: Switches, workload: Workload, speeds: Speeds = SPEEDS) -> Service:
    return services([(switches, speeds)], workload)[0]


@given(st.sampled_from(("pass_s", "row_s", "read_s")), st.floats(1.01, 10))
def test_dearer_work_never_serves_more(kind: str, factor: float) -> None:
    dearer = msgspec.structs.replace(SPEEDS, **{kind: getattr(SPEEDS, kind) * factor})
    before, after = (serve(Switches(4), workload_of(MIX), speeds) for speeds in (SPEEDS, dearer))
    assert after.tokens_per_s < before.tokens_per_s
    assert after.ttft_s >= before.ttft_s


def test_a_lone_answer_takes_what_its_speeds_say() -> None:
    alone = (Clients(1, 128, 101, rounds=1),)
    served = serve(Switches(1), alone)
    assert served.ttft_s == pytest.approx(128 / 400, rel=0.02)
    assert 101 / served.tokens_per_s == pytest.approx(128 / 400 + 100 / 80, rel=0.02)
    assert served.stall_s == pytest.approx(1 / 80, rel=0.02)


def test_a_shared_prefix_is_worth_a_cache() -> None:
    shared = workload_of(msgspec.structs.replace(MIX, shared_prefix_tokens=480))
    plain, cached = (serve(Switches(4, prefix_cache=on), shared) for on in (False, True))
    assert cached.tokens_per_s > 1.5 * plain.tokens_per_s
    assert cached.ttft_s < plain.ttft_s


def test_chunks_shorten_the_longest_silence() -> None:
    busy = (Clients(3, 16, 64, rounds=1), Clients(1, 1024, 4, rounds=2))
    whole, chunked = (serve(Switches(4, chunk_tokens=chunk), busy) for chunk in (0, 128))
    assert chunked.stall_s < 0.3 * whole.stall_s


def test_more_slots_serve_more_clients() -> None:
    found = [serve(Switches(slots), workload_of(MIX)).tokens_per_s for slots in (1, 2, 4)]
    assert found == sorted(found)


def test_plans_come_back_in_their_order_whatever_they_share() -> None:
    faster = speeds_of(800.0, 160.0, step_slope=0.1, chunk_tokens=128)
    plans = [(Switches(4), SPEEDS), (Switches(1), faster), (Switches(4), faster), (Switches(1), SPEEDS)]
    together = services(plans, workload_of(MIX))
    alone = [serve(switches, workload_of(MIX), speeds) for switches, speeds in plans]
    assert [s.tokens_per_s for s in together] == pytest.approx([s.tokens_per_s for s in alone])


def test_old_timetables_make_room_for_new_ones() -> None:
    known = Timetables(room=2)
    tables = [known.of(workload_of(MIX), Switches(slots)) for slots in (1, 2, 4)]
    assert known.of(workload_of(MIX), Switches(4)) is tables[-1]


def test_a_jobs_seconds_by_themselves_are_those_of_the_whole_service() -> None:
    speeds = [speeds_of(2000.0, speed, step_slope=0.2, chunk_tokens=128) for speed in (20.0, 60.0)]
    plans = [(Switches(slots), one) for slots in (1, 4) for one in speeds]
    workload = workload_of(JobMix())
    whole = [service.job_s for service in services(plans, workload)]
    assert job_seconds(plans, workload) == pytest.approx(whole)
    assert job_seconds([], workload) == []
