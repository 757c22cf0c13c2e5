"""Laws of what `starling bench` prints."""

from __future__ import annotations

from app.cli_machine import _is_stopped, benchmark_text
from core.device import Benchmark, BenchmarkCell, Device, DeviceKind, ModelShape

GPU = Device("CUDA0", "NVIDIA RTX", DeviceKind.GPU, "CUDA", 8 << 30, 7 << 30)
CELL = BenchmarkCell("Q4_K_M", 667_000_000, 0.4, 9000.0, {1: 210.0, 4: 700.0, 8: 1100.0})
MEASURED = Benchmark(
    1.0, GPU, "llama.cpp", 400.0, 30.0, "synthetic-1.1b", "Q4_K_M", 667_000_000, 9000.0, 210.0, CELL.decode_by_batch,
    copy_gbs=12.0, shape=ModelShape(1_100_000_000, 22, 2048, 512), cells=(CELL,),
)  # fmt: skip


def test_a_benchmark_ends_with_one_plain_sentence() -> None:
    *rows, last = benchmark_text(MEASURED).splitlines()
    assert last == (
        "Your NVIDIA RTX reads prompts at 9,000 and writes 210 tokens per second with a model of 1.1 billion weights in"
        " Q4_K_M; that is about 1.0 seconds for a page read and an answer of 150 words."
    )
    assert any("Copy to the device" in row for row in rows)
    assert any("writes by batch 1: 210, 4: 700, 8: 1100 tokens/s; loads 667 MB in 0.40 s" in row for row in rows)


def test_ctrl_c_is_known_inside_a_group_too() -> None:
    assert _is_stopped(KeyboardInterrupt())
    assert _is_stopped(BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()])]))
    assert not _is_stopped(ExceptionGroup("", [OSError()]))
