"""Laws of memory over restarts: what ran out stays refused, what was counted stays known, neither grows for ever."""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.device import Device, DeviceKind
from core.events import LoadMeasured, MemoryRanOut
from core.journal import Journal
from core.memory import MAX_LOADS, FailedLoad, MeasuredLoad, MemoryRecord, device_key, shape_of
from core.metamodel.fit import RETRY_BYTES, Fit
from core.plan import Plan
from core.store import Store

GIB = 1 << 30
GPU = Device("CUDA0", "NVIDIA RTX", DeviceKind.GPU, "CUDA", 24 * GIB, 8 * GIB, pci_id="0000:c1:00.0")
PLAN = Plan("demo", "llama.cpp", "Q4_K_M", 4, 2048, gpu_layers=33, device_id="CUDA0")


async def test_a_restart_knows_what_ran_out_and_what_was_counted(tmp_path: Path) -> None:
    store = Store(tmp_path / "starling.db")
    load = MeasuredLoad(device_key(GPU), "demo", shape_of(PLAN), 5 * GIB, 6 * GIB)
    failure = FailedLoad(device_key(GPU), 7 * GIB, 8 * GIB)
    await Journal(store).record(LoadMeasured(1.0, load), MemoryRanOut(2.0, failure))
    store.close()
    again = Store(tmp_path / "starling.db")
    fit = Fit(Journal(again).state.memory)
    again.close()
    assert fit.measured(PLAN, GPU) == load
    assert not fit.fits(7 * GIB, GPU)
    assert fit.fits(6 * GIB, GPU)


def test_a_failed_load_is_tried_again_only_with_clearly_more_free_memory() -> None:
    fit = Fit(MemoryRecord((FailedLoad(device_key(GPU), 5 * GIB, 8 * GIB),)))
    for free, is_tried in ((7 * GIB, False), (8 * GIB, False), (8 * GIB + RETRY_BYTES, False), (9 * GIB, True)):
        assert fit.fits(5 * GIB, msgspec.structs.replace(GPU, free_bytes=free)) is is_tried


def test_a_device_is_known_by_its_place_and_not_by_its_number_of_today() -> None:
    assert device_key(msgspec.structs.replace(GPU, device_id="CUDA1")) == device_key(GPU)
    assert device_key(msgspec.structs.replace(GPU, pci_id="0000:41:00.0")) != device_key(GPU)


def test_everything_that_changes_what_a_plan_takes_changes_its_shape() -> None:
    others = [
        msgspec.structs.replace(PLAN, **change)
        for change in (
            {"slots": 5}, {"slot_context_tokens": 4096}, {"kv_type": "Q8_0"}, {"quantization": "Q8_0"},
            {"gpu_layers": 20}, {"prefill_chunk": 64}, {"flash_attention": False}, {"unified_kv": True},
            {"draft_tokens": 4}, {"steady": True}, {"more_devices": ("CUDA1",), "layer_split": (0.5, 0.5)},
        )
    ]  # fmt: skip
    assert len({shape_of(plan) for plan in (PLAN, *others)}) == 1 + len(others)
    assert shape_of(msgspec.structs.replace(PLAN, threads=9, prefix_cache=True)) == shape_of(PLAN)


def test_only_the_newest_loads_are_kept() -> None:
    record = MemoryRecord()
    for number in range(MAX_LOADS + 3):
        record = record.with_load(MeasuredLoad("d", "m", f"{number}", 1, 1))
    assert len(record.loads) == MAX_LOADS
    assert record.loads[0].shape == "3"
