"""How fast a GPU's memory, its matrix units and the way to it are: measured with ggml's own kernels, whatever the
backend; else from what NVML says. Needs no torch.

Never guesses: a rate that nobody can tell is 0. Reading is measured as decoding reads: F16 matrices times one vector.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
import numpy as np

from core.device import Device
from core.runtimes.ggml_library import F16, F32, InitParams, device_handle, open_ggml

# Eight matrices of 64 MiB: more than any cache holds, and each within what one Vulkan buffer may bind (128 MiB).
READ_ROWS, READ_COLUMNS, READ_TENSORS = 8192, 4096, 8
READ_BYTES = COPY_BYTES = 2 * READ_ROWS * READ_COLUMNS
MATRICES = (512, 1024, 2048, 4096)
MATRIX_LONG_S = 0.02
PRODUCTS = 4
MAX_REPEATS = 64
LONG_SAMPLES = 2
MAX_NODES = 2048
Graph = Callable[[int, int], None]


class GpuRates(msgspec.Struct, frozen=True):
    """Samples: reading in GB/s, products in TFLOP/s, copies from the host in GB/s; at least one of each."""

    reading: list[float]
    products: list[float]
    copies: list[float]


def gpu_rates(device: Device, *, repetitions: int, sample_s: float) -> GpuRates:
    """Measure this device in a few seconds; 0 for what cannot be told."""
    try:
        return _Bench(device, repetitions=repetitions, sample_s=sample_s).rates()
    except (OSError, AttributeError, _NoRoom):
        reading, products = _by_nvml(device)
        return GpuRates(reading, products, [0.0])


class _NoRoom(Exception):
    """The device has no memory for the measurement, or is not there."""


class _Bench:
    """One device and how long to measure it."""

    def __init__(self, device: Device, *, repetitions: int, sample_s: float) -> None:
        self._ggml = open_ggml()
        self._device = device
        self._repetitions = repetitions
        self._sample_s = sample_s

    def rates(self) -> GpuRates:
        handle = device_handle(self._device.device_id)
        backend = self._ggml.ggml_backend_dev_init(handle, None) if handle else None
        if not backend:
            raise _NoRoom
        try:
            reading = self._read(backend)
            return GpuRates(reading, self._multiply(backend), self._copy(backend))
        finally:
            self._ggml.ggml_backend_free(backend)

    def _read(self, backend: int) -> list[float]:
        once_s = self._seconds(backend, self._matrices(1, repeats=1))[-1]
        if once_s > self._sample_s:
            return [READ_BYTES / once_s / 1e9]
        repeats = max(1, min(MAX_REPEATS, round(self._sample_s / READ_TENSORS / once_s)))
        took = self._seconds(backend, self._matrices(READ_TENSORS, repeats=repeats))
        return [repeats * READ_TENSORS * READ_BYTES / 1e9 / seconds for seconds in took]

    def _matrices(self, count: int, *, repeats: int) -> Graph:
        def made(context: int, graph: int) -> None:
            vector = self._ggml.ggml_new_tensor_2d(context, F32, READ_COLUMNS, 1)
            shape = (F16, READ_COLUMNS, READ_ROWS)
            matrices = [self._ggml.ggml_new_tensor_2d(context, *shape) for _ in range(count)]
            for matrix in matrices * repeats:
                self._ggml.ggml_build_forward_expand(graph, self._ggml.ggml_mul_mat(context, matrix, vector))

        return made

    def _multiply(self, backend: int) -> list[float]:
        """The largest product that does not take too long: small ones cannot fill a large GPU."""
        rates = [0.0]
        for size in MATRICES:
            took = self._seconds(backend, _product(self._ggml, size, repeats=PRODUCTS))
            rates = [PRODUCTS * 2 * size**3 / 1e12 / seconds for seconds in took]
            if min(took) > MATRIX_LONG_S:
                break
        return rates

    def _copy(self, backend: int) -> list[float]:
        source = np.ones(COPY_BYTES, np.uint8)
        with ExitStack() as stack:
            context = self._context(stack)
            tensor = self._ggml.ggml_new_tensor_2d(context, F16, READ_COLUMNS, READ_ROWS)
            self._allocate(context, backend, stack=stack)

            def copied() -> float:
                began = time.perf_counter()
                self._ggml.ggml_backend_tensor_set(tensor, source.ctypes.data, 0, COPY_BYTES)
                self._ggml.ggml_backend_synchronize(backend)
                return COPY_BYTES / 1e9 / (time.perf_counter() - began)

            return [copied() for _ in range(self._repetitions + 1)][1:]

    def _seconds(self, backend: int, made: Graph) -> list[float]:
        """How long this graph takes, after one run to warm up; one that takes very long is run once."""
        with ExitStack() as stack:
            context = self._context(stack)
            graph = self._ggml.ggml_new_graph_custom(context, MAX_NODES, False)
            made(context, graph)
            self._allocate(context, backend, stack=stack)
            first_s = self._timed(backend, graph)
            if first_s > LONG_SAMPLES * self._sample_s:
                return [first_s]
            return [self._timed(backend, graph) for _ in range(self._repetitions)]

    def _timed(self, backend: int, graph: int) -> float:
        began = time.perf_counter()
        if self._ggml.ggml_backend_graph_compute(backend, graph) != 0:
            raise _NoRoom
        self._ggml.ggml_backend_synchronize(backend)
        return max(time.perf_counter() - began, 1e-9)

    def _context(self, stack: ExitStack) -> int:
        nodes = self._ggml.ggml_tensor_overhead() * MAX_NODES
        room = nodes + self._ggml.ggml_graph_overhead_custom(MAX_NODES, False)
        context: int = self._ggml.ggml_init(InitParams(room, None, True))
        stack.callback(self._ggml.ggml_free, context)
        return context

    def _allocate(self, context: int, backend: int, *, stack: ExitStack) -> None:
        buffer = self._ggml.ggml_backend_alloc_ctx_tensors(context, backend)
        if not buffer:
            raise _NoRoom
        stack.callback(self._ggml.ggml_backend_buffer_free, buffer)
        self._ggml.ggml_backend_buffer_clear(buffer, 0)


def _product(ggml: ctypes.CDLL, size: int, *, repeats: int) -> Graph:
    def made(context: int, graph: int) -> None:
        left = ggml.ggml_new_tensor_2d(context, F16, size, size)
        right = ggml.ggml_new_tensor_2d(context, F32, size, size)
        for _ in range(repeats):
            ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, left, right))

    return made


def _by_nvml(device: Device) -> tuple[list[float], list[float]]:
    """The datasheet's way: bus width times twice the memory clock, and two operations a core and cycle."""
    try:
        import pynvml
    except ImportError:
        return [0.0], [0.0]
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(device.pci_id)
            bits = pynvml.nvmlDeviceGetMemoryBusWidth(handle)
            megahertz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
            cores = pynvml.nvmlDeviceGetNumGpuCores(handle)
            core_megahertz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return [0.0], [0.0]
    return [2 * bits / 8 * megahertz / 1e3], [2 * cores * core_megahertz / 1e6]
