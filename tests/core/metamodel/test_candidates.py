"""The laws of what is worth predicting: whole plans that a runtime can serve, few of them, and only what could pay."""

from __future__ import annotations

import msgspec
import pytest

from core.device import Device, DeviceKind, Machine
from core.metamodel.abilities import ABILITIES, LLAMA, TORCH
from core.metamodel.candidates import DIMENSIONS, MAX_CANDIDATES, candidates
from core.metamodel.fit import Fit
from core.metamodel.goal import Goal, JobMix, Limits
from core.metamodel.shapes import shape_card
from core.plan import Plan

GIB = 1 << 30
CPU = Device("CPU", "A CPU", DeviceKind.CPU, "CPU", 64 * GIB, 48 * GIB)
GPU = Device("CUDA0", "A GPU", DeviceKind.GPU, "CUDA", 80 * GIB, 78 * GIB)
CARD = shape_card("8b")
BUSY = Goal(mix=JobMix(concurrent=8, shared_prefix_tokens=400, foretold=0.6))


def plans(device: Device = GPU, *, goal: Goal = BUSY, torch: str = "", free: int | None = None) -> list[Plan]:
    here = device if free is None else msgspec.structs.replace(device, free_bytes=free)
    machine = Machine((here, CPU) if here is not CPU else (CPU,), 16, 64 * GIB, "llama.cpp", torch=torch)
    return candidates(CARD, here, machine=machine, goal=goal, fit=Fit())


@pytest.mark.parametrize("device", [GPU, CPU], ids=["gpu", "cpu"])
def test_no_device_has_more_than_500(device: Device) -> None:
    assert 50 < len(plans(device, torch="2.13")) <= MAX_CANDIDATES


def test_no_plan_comes_twice() -> None:
    found = plans(torch="2.13")
    assert len(set(found)) == len(found)


def test_every_dimension_is_a_field_of_a_plan_and_varies_where_it_can_pay() -> None:
    found = [*plans(torch="2.13"), *plans(CPU), *plans(free=9 * GIB)]
    for dimension in DIMENSIONS:
        values = {getattr(plan, dimension.field) for plan in found}
        assert len(values) > 1 or dimension.field == "prefix_cache"


def test_what_a_runtime_ignores_is_not_offered_of_it() -> None:
    on_torch = [plan for plan in plans(torch="2.13") if plan.runtime == TORCH]
    assert on_torch
    for plan in on_torch:
        assert (plan.draft_tokens, plan.steady, plan.kv_type, plan.unified_kv) == (0, False, "F16", False)
        assert plan.more_devices == () and plan.gpu_layers == CARD.layers + 1 and plan.quantization == "F16"


def test_torch_is_offered_only_where_it_is_installed_and_reaches_the_device() -> None:
    assert not any(plan.runtime == TORCH for plan in plans())
    assert not any(plan.runtime == TORCH for plan in plans(CPU, torch="2.13"))
    vulkan = msgspec.structs.replace(GPU, backend="Vulkan")
    assert not any(plan.runtime == TORCH for plan in plans(vulkan, torch="2.13"))


def test_a_prefix_cache_is_on_wherever_it_is_served() -> None:
    assert all(plan.prefix_cache for plan in plans(torch="2.13"))
    assert all(ability.caches_prefixes for ability in ABILITIES.values())


def test_tokens_are_guessed_ahead_only_where_guesses_are_known_to_come_true() -> None:
    assert any(plan.draft_tokens for plan in plans())
    unknown = msgspec.structs.replace(BUSY, mix=msgspec.structs.replace(BUSY.mix, foretold=0.0))
    assert not any(plan.draft_tokens for plan in plans(goal=unknown))


def test_one_kv_for_all_slots_is_tried_only_for_a_shared_prefix() -> None:
    assert any(plan.unified_kv for plan in plans())
    assert not any(plan.unified_kv for plan in plans(goal=Goal()))


def test_static_batches_are_tried_with_whole_prompts_alone() -> None:
    static = [plan for plan in plans() if not plan.continuous_batching]
    assert static and all(plan.prefill_chunk == 0 and plan.slots > 1 for plan in static)


def test_a_cache_is_quantized_only_for_want_of_memory_or_where_much_of_it_is_read() -> None:
    assert {plan.kv_type for plan in plans()} == {"F16"}
    assert {plan.kv_type for plan in plans(free=9 * GIB)} == {"F16", "Q8_0", "Q4_0"}
    short = Goal(limits=Limits(slot_context_tokens=256, max_slots=1))
    assert {plan.kv_type for plan in plans(goal=short, free=9 * GIB)} == {"F16"}
    deep = Goal(mix=JobMix(prompt_tokens=7000, concurrent=8), limits=Limits(slot_context_tokens=8192))
    assert "Q8_0" in {plan.kv_type for plan in plans(goal=deep)}


def test_a_device_that_is_too_small_gets_part_of_the_layers_and_llama_cpp_alone() -> None:
    found = plans(torch="2.13", free=5 * GIB)
    assert found and {plan.runtime for plan in found} == {LLAMA}
    assert any(0 < plan.gpu_layers <= CARD.layers for plan in found)


def test_quality_beyond_the_budget_goes_first_when_there_are_too_many() -> None:
    found = plans(torch="2.13")
    assert {"F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"} <= {plan.quantization for plan in found}


def test_a_slot_holds_the_usual_job_whole_as_far_as_the_model_can() -> None:
    def contexts(prompt: int) -> set[int]:
        return {plan.slot_context_tokens for plan in plans(goal=Goal(mix=JobMix(prompt_tokens=prompt)))}

    assert contexts(512) == {2048}
    assert contexts(3000) == {4096}
    assert contexts(1_000_000) == {CARD.context_tokens}
