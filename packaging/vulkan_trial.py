"""The trials behind vulkan_check.py: the same code paths as on a real GPU, on whatever Vulkan device there is.

Run by vulkan_check.py with llama.cpp's Vulkan build on the path. Each trial prints one line; the exit code counts the
failures. Never downloads: the model is the demo model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import trio

from core.device import Device, DeviceKind, Machine
from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.probe import find_machine
from core.runtimes.gpu_rates import gpu_rates
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_devices import backend_names, list_devices
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.load_plan import measure_plan
from core.runtimes.synthetic_model import write_synthetic
from core.synthetic import SyntheticShape
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, open_worker, run_once

MODEL = Path(__file__).resolve().parents[1] / "assets" / "demo_model" / "starling-demo-f16.gguf"
LAYERS = 4
PROMPT = list(range(100, 148))
STEPS = 48
# The same F16 weights summed in another order: 0.10 at most on Mesa 22.3's lavapipe, over the trials below
LOGIT_BOUND = 0.15
# Each layer's cache within what one binding may hold (128 MiB on lavapipe), all of them more than the child may have
DEEP = SyntheticShape("synthetic-deep", 24, 256, 512, heads=4, kv_heads=4, vocabulary=512)
DEEP_CONTEXT = 65_536
MEMORY_BYTES = 1 << 30
ONE_CACHE_TOO_LARGE = 131_072
WORDS_S = 300.0

ON_CPU = Plan("demo", "llama.cpp", "F16", slots=1, slot_context_tokens=512, prefill_chunk=64)
T = TypeVar("T", w.Loaded, w.Fault)
Logits = npt.NDArray[np.float32]


def main() -> int:
    """How many trials failed."""
    gpus = [device for device in list_devices() if device.kind is not DeviceKind.CPU]
    print(f"Backends: {', '.join(backend_names())}. Devices: {', '.join(d.name for d in gpus) or 'none'}.")
    if not gpus:
        print("FAILED  no Vulkan device: VK_ICD_FILENAMES and GGML_VK_VISIBLE_DEVICES must name lavapipe")
        return 1
    with TemporaryDirectory() as folder:
        deep = Path(folder) / "deep.gguf"
        write_synthetic(deep, DEEP, quantization="F16")
        return sum(_tried(name, trial) for name, trial in trials_of(gpus, deep).items())


def trials_of(gpus: list[Device], deep: Path) -> dict[str, Callable[[], str]]:
    """Every trial by what it shows; those of a split need two devices."""
    whole = msgspec.structs.replace(ON_CPU, gpu_layers=LAYERS, device_id=gpus[0].device_id)
    trials: dict[str, Callable[[], str]] = {
        "every layer on the GPU": lambda: same_words(whole, {gpus[0].device_id: LAYERS}),
        "half of the layers on the GPU": lambda: same_words(
            msgspec.structs.replace(whole, gpu_layers=2), {gpus[0].device_id: 2, "CPU": 2}
        ),
        "flash attention off": lambda: same_words(msgspec.structs.replace(whole, flash_attention=False), {}),
        "the count before the load": lambda: counted_right(whole),
        "a device too small": lambda: trio.run(runs_out, whole, deep),
        "the rates of the device": lambda: measured_rates(gpus[0]),
        "the engine's way": lambda: trio.run(through_a_worker, whole),
    }
    if len(gpus) > 1:
        trials["layers split over two devices"] = lambda: same_words(split(whole, gpus), _halves(gpus))
        trials["the count of a split"] = lambda: counted_right(split(whole, gpus))
    return trials


def same_words(plan: Plan, layers: dict[str, int]) -> str:
    """The device says what the processor says: the same greedy tokens, logits within the bound, layers where asked."""
    expected, _ = _answer(ON_CPU)
    found, placed = _answer(plan)
    if layers and _counts(placed) != layers:
        raise AssertionError(f"the layers lie on {_counts(placed)}, not on {layers}")
    differing = int((expected.argmax(1) != found.argmax(1)).sum())
    difference = float(np.abs(expected - found).max())
    if differing or difference > LOGIT_BOUND:
        raise AssertionError(f"{differing} of {STEPS} tokens differ, logits by up to {difference:.3f}")
    return f"{STEPS} of {STEPS} greedy tokens equal, largest logit difference {difference:.4f}"


def counted_right(plan: Plan) -> str:
    """What measure_plan says of each device before the load is what llama.cpp says at the load."""
    counted = measure_plan(w.MeasurePlan(plan, str(MODEL))).device_bytes
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(str(MODEL), log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)),
    ):
        loaded = log.bytes_by_device
    for device, size in loaded.items():
        # an empty map of the file's first pages beside the embedding is all that may differ in the host's memory
        if abs(counted.get(device, 0) - size) > max(0.02 * size, 1 << 20):
            raise AssertionError(f"counted {counted}, loaded {loaded}")
    return f"counted {_megabytes(counted)}, loaded {_megabytes(loaded)}"


async def runs_out(plan: Plan, deep: Path) -> str:
    """More KV than may be had is counted before, is a typed OutOfMemory with what is free, and a smaller plan loads
    right after. Lavapipe gives whatever malloc does, so that the child's own limit stands for the device's."""
    large = too_large(plan)
    counted = measure_plan(w.MeasurePlan(large, str(deep))).device_bytes
    if counted[plan.device_id] < MEMORY_BYTES:
        raise AssertionError(f"counted {counted}")
    async with open_worker(limits=Limits(hang_s=WORDS_S, memory_bytes=MEMORY_BYTES)) as worker:
        await worker.send(w.Load(large, str(deep)))
        fault = await _first(worker, w.Fault)
        if fault.kind is not w.FaultKind.OUT_OF_MEMORY or not fault.free_bytes:
            raise AssertionError(f"a plan that is too large gave {fault}")
        await worker.send(w.Load(msgspec.structs.replace(large, slot_context_tokens=512), str(deep)))
        await _first(worker, w.Loaded)
    return f"{_megabytes(counted)} counted; {fault.message} The smaller plan loads after it."


def too_large(plan: Plan) -> Plan:
    """A plan of the deep model that no software device has memory for."""
    layers = DEEP.layers + 1
    return msgspec.structs.replace(plan, slots=1, slot_context_tokens=DEEP_CONTEXT, gpu_layers=layers)


async def through_a_worker(plan: Plan) -> str:
    """A confined child lists the device, serves from it, and dies alone of a plan that makes llama.cpp abort."""
    machine = await find_machine()
    device = _first_gpu(machine)
    text, loaded = await _served(plan)
    if not text or not loaded.device_bytes.get(plan.device_id):
        raise AssertionError(f"answer {text!r}, memory {loaded.device_bytes}")
    broken = msgspec.structs.replace(plan, slots=8, slot_context_tokens=ONE_CACHE_TOO_LARGE)
    died = await run_once(w.MeasurePlan(broken, str(MODEL)), deadline_s=WORDS_S)
    if not isinstance(died, w.Fault):
        raise AssertionError(f"one cache too large for a binding gave {died}")
    return f"{device.name} answers {text!r} from {_megabytes(loaded.device_bytes)}; one too large: {died.message}"


def measured_rates(device: Device) -> str:
    """Bandwidth, products and copies are measured without torch or NVML."""
    rates = gpu_rates(device, repetitions=2, sample_s=0.2)
    if min(*rates.reading, *rates.products, *rates.copies) <= 0:
        raise AssertionError(f"{rates}")
    copied, read, product = max(rates.copies), max(rates.reading), 1e3 * max(rates.products)
    return f"reads {read:.2f} GB/s, {product:.2f} GFLOP/s, copies {copied:.1f} GB/s"


def split(plan: Plan, gpus: list[Device]) -> Plan:
    """The plan over the first two devices, half of the layers each."""
    return msgspec.structs.replace(plan, more_devices=(gpus[1].device_id,), layer_split=(0.5, 0.5))


async def _served(plan: Plan) -> tuple[str, w.Loaded]:
    """What a worker says to one question, and what it counted at its load."""
    async with open_worker() as worker:
        with trio.fail_after(WORDS_S):
            await worker.send(w.Load(plan, str(MODEL)))
            loaded = await _first(worker, w.Loaded)
            words = (ChatMessage("user", "What is the capital of France?"),)
            await worker.send(w.Generate(JobId("trial"), words, Sampling(max_tokens=24, temperature=0.0)))
            return await _answered(worker), loaded


async def _answered(worker: WorkerProcess) -> str:
    text = ""
    async for report in worker.reports:
        text += _text(report)
        if isinstance(report, w.Completed):
            return text
    raise AssertionError("it never ended")


async def _first(worker: WorkerProcess, kind: type[T]) -> T:
    """The first report of this kind; a fault that was not asked for ends the trial."""
    async for report in worker.reports:
        if isinstance(report, kind):
            return report
        _text(report)
    raise AssertionError(f"it never said {kind.__name__}")


def _text(report: w.WorkerReport | WorkerDied) -> str:
    """What a report adds to the answer; a failure is the end of the trial."""
    match report:
        case w.Chunks():
            return "".join(chunk.text for chunk in report.chunks)
        case w.Fault() | w.JobFault():
            raise AssertionError(report.message)
        case WorkerDied():
            raise AssertionError(report.reason)
        case _:
            return ""


def _answer(plan: Plan) -> tuple[Logits, dict[int, str]]:
    """Logits of a prompt's last token and of each token after it, and where the layers were put. The tokens are those
    of the processor, so that one early difference does not make all later logits incomparable."""
    with (
        closing(LlamaLog()) as log,
        closing(LlamaModel(str(MODEL), log=log, plan=plan)) as model,
        closing(LlamaContext(model, plan, log=log)) as context,
    ):
        rows: list[Logits] = []
        tokens = PROMPT
        for _ in range(STEPS):
            context.begin()
            context.put(tokens, slot=0, position=len(PROMPT) + len(rows) - 1 if rows else 0, draws=True)
            context.decode()
            rows.append(context.logits(1)[0].copy())
            tokens = [200 + len(rows)]
        return np.stack(rows), dict(log.layers)


def _tried(name: str, trial: Callable[[], str]) -> bool:
    try:
        print(f"held    {name}: {trial()}", flush=True)
    except Exception as error:  # noqa: BLE001  any failure is one line of the report
        print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
        return True
    return False


def _first_gpu(machine: Machine) -> Device:
    return next(device for device in machine.devices if device.kind is not DeviceKind.CPU)


def _halves(gpus: list[Device]) -> dict[str, int]:
    return {gpus[0].device_id: LAYERS // 2, gpus[1].device_id: LAYERS - LAYERS // 2}


def _counts(placed: dict[int, str]) -> dict[str, int]:
    return {device: list(placed.values()).count(device) for device in placed.values()}


def _megabytes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{device} {size / 1e6:.1f} MB" for device, size in sorted(sizes.items()))


if __name__ == "__main__":
    sys.exit(main())
