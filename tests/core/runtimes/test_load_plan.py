"""What a plan is said to take before it is loaded is what its load takes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_log import LlamaLog, device_of
from core.runtimes.llama_model import LlamaModel
from core.runtimes.load_plan import _weights, measure_plan, tensor_bytes
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import MeasurePlan
from tests.models import write_tiny_gguf

PLAN = Plan("tiny", "llama.cpp", "F16", slots=4, slot_context_tokens=512, prefill_chunk=64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("plan") / "tiny.gguf", layers=4)


def loaded_bytes(path: Path, plan: Plan) -> int:
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(str(path), log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)),
    ):
        return log.buffer_bytes


@pytest.mark.parametrize(("slots", "context"), [(1, 256), (4, 512), (8, 2048)])
def test_the_count_before_a_load_is_what_the_load_takes(tiny: Path, slots: int, context: int) -> None:
    plan = Plan("tiny", "llama.cpp", "F16", slots=slots, slot_context_tokens=context, prefill_chunk=64)
    counted = measure_plan(MeasurePlan(plan, str(tiny))).device_bytes
    assert set(counted) == {"CPU"}
    assert counted["CPU"] == pytest.approx(loaded_bytes(tiny, plan), rel=0.02)


def test_the_tensors_of_a_file_add_up_to_nearly_all_of_it(tiny: Path) -> None:
    assert 0.9 < sum(tensor_bytes(str(tiny)).values()) / tiny.stat().st_size <= 1


def test_every_layer_counts_where_it_is_put_and_a_shared_output_counts_on_the_gpu_too() -> None:
    sizes = {"token_embd.weight": 100, "blk.0.ffn_up.weight": 7, "blk.1.ffn_up.weight": 9, "output_norm.weight": 1}
    layers = {0: "CPU", 1: "CUDA0", 2: "CUDA1"}
    placed = _weights(sizes, layers)
    assert placed == [("CPU", 100), ("CUDA1", 100), ("CPU", 7), ("CUDA0", 9), ("CUDA1", 1)]


@pytest.mark.parametrize(
    ("buffer", "device"),
    [("CPU", "CPU"), ("CPU_Mapped", "CPU"), ("CPU_REPACK", "CPU"), ("CUDA_Host", "CPU"), ("Vulkan0", "Vulkan0"),
     ("MTL0_Mapped", "MTL0"), ("CUDA1", "CUDA1")],
)  # fmt: skip
def test_a_buffer_lies_on_the_device_that_its_name_begins_with(buffer: str, device: str) -> None:
    assert device_of(buffer) == device


def test_a_file_that_is_no_model_has_no_plan(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"no model")
    with pytest.raises(RuntimeFault):
        measure_plan(MeasurePlan(PLAN, str(tmp_path / "no.gguf")))
