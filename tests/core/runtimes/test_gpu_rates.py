"""Laws of a device's rates: ggml measures whatever device it has, and one that is not there has no rates."""

from __future__ import annotations

from core.device import Device, DeviceKind
from core.runtimes.gpu_rates import gpu_rates


def test_any_device_of_ggml_is_measured_without_torch() -> None:
    processor = Device("CPU", "A CPU", DeviceKind.CPU, "CPU", 1 << 30, 1 << 30)
    found = gpu_rates(processor, repetitions=1, sample_s=0.01)
    assert min(*found.reading, *found.products, *found.copies) > 0


def test_a_device_that_is_not_there_has_no_rates_and_raises_nothing() -> None:
    absent = Device("Nowhere0", "No GPU", DeviceKind.GPU, "CUDA", 1 << 30, 1 << 30, pci_id="0000:ff:00.0")
    found = gpu_rates(absent, repetitions=1, sample_s=0.01)
    assert (found.reading, found.products, found.copies) == ([0.0], [0.0], [0.0])
