"""Laws of measuring a machine: every device, a sentence for people, old facts still readable, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core import benchmark as benchmarks
from core.benchmark import BenchmarkFailed, benchmark_sentence, measure_devices
from core.device import Benchmark, Device, DeviceKind, Machine, ModelShape
from core.events import BenchmarkFinished, DevicesMeasured
from core.node_state import NodeState
from core.state import apply

CPU = Device("CPU", "AMD EPYC", DeviceKind.CPU, "CPU", 8 << 30, 6 << 30)
GPU = Device("Nowhere0", "NVIDIA Nowhere", DeviceKind.GPU, "CUDA", 1 << 30, 1 << 30)
OLD = {
    "at": 1.0, "device": msgspec.to_builtins(CPU), "runtime": "llama.cpp", "memory_bandwidth_gbs": 10.0,
    "matrix_tflops": 0.1, "model": "demo", "quantization": "F16", "model_bytes": 5, "prefill_tokens_per_s": 500.0,
    "decode_tokens_per_s": 40.0, "decode_by_batch": {"1": 40.0}, "load_s": 0.1, "spread": 0.02, "torch": "",
}  # fmt: skip


def test_a_benchmark_of_an_older_version_is_still_read() -> None:
    found = msgspec.json.decode(msgspec.json.encode(OLD), type=Benchmark)
    assert (found.decode_by_batch, found.cells, found.samples, found.drift) == ({1: 40.0}, (), {}, 0.0)
    assert apply(NodeState(), BenchmarkFinished(1.0, found)).benchmark == found


def test_what_devices_did_is_kept_beside_the_benchmark_of_the_served_model() -> None:
    found = msgspec.convert(OLD, Benchmark, strict=False)
    state = apply(apply(NodeState(), BenchmarkFinished(1.0, found)), DevicesMeasured(2.0, (found, found)))
    assert state.benchmark == found and len(state.measured) == 2


def test_the_sentence_says_what_the_figures_mean() -> None:
    found = msgspec.structs.replace(
        msgspec.convert(OLD, Benchmark, strict=False), shape=ModelShape(134_000_000, 12, 768, 1536)
    )
    assert benchmark_sentence(found) == (
        "Your AMD EPYC reads prompts at 500 and writes 40 tokens per second with a model of 134 million weights in F16;"
        " that is about 6 seconds for a page read and an answer of 150 words."
    )


def test_two_runs_that_differ_by_more_than_five_percent_are_called_busy() -> None:
    found = msgspec.convert({**OLD, "drift": 0.07}, Benchmark, strict=False)
    assert "Two runs differed by 7 %: the machine was busy" in benchmark_sentence(found)


async def test_a_device_that_cannot_be_measured_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "measuring-left").mkdir()
    (tmp_path / "measuring-left" / "model.gguf").write_bytes(b"left by a killed run")
    with pytest.raises(BenchmarkFailed, match="NVIDIA Nowhere could not be measured"):
        await measure_devices(Machine((GPU,), 2, 8 << 30, "llama.cpp"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
async def test_the_processor_is_measured_with_made_up_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "BEST_LIMIT_S", 1.0)
    told: list[str] = []
    machine = Machine((CPU,), 2, 8 << 30, "llama.cpp")
    measured = await measure_devices(machine, tmp_path, on_progress=lambda _, text: told.append(text))
    found = measured.benchmarks[0]
    assert [cell.quantization for cell in found.cells] == ["Q4_K_M"]
    assert min(found.prefill_tokens_per_s, found.memory_bandwidth_gbs, *found.decode_by_batch.values()) > 0
    assert len(found.samples["Q4_K_M decode 4"]) >= 2
    assert found.shape is not None and "Reading prompts, Q4_K_M" in told
    assert list(tmp_path.iterdir()) == []
