"""Laws of what is found in a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.device import Device, DeviceKind
from core.gpu_sensors import SeenGpu, _pci_gpus, _read_sysfs, short_pci_id
from core.probe import find_machine, machine_of, read_device, serving_threads
from core.worker.messages import Devices

CPU = Device("CPU", "AMD EPYC", DeviceKind.CPU, "CPU", 24 << 30, 20 << 30)
CUDA = Device("CUDA0", "NVIDIA H100", DeviceKind.GPU, "CUDA", 80 << 30, 79 << 30, pci_id="0000:c1:00.0")
SEEN = SeenGpu("NVIDIA", "NVIDIA H100 80GB HBM3", "0000:c1:00.0", "580.95", 80 << 30, 70 << 30)


def test_a_gpu_that_the_runtime_cannot_use_is_said_loudly_with_the_line_that_fixes_it() -> None:
    machine = machine_of(Devices((CPU,), "llama.cpp"), (SEEN,))
    assert machine.warning.startswith("Your NVIDIA H100 80GB HBM3 is not used")
    assert 'CMAKE_ARGS="-DGGML_CUDA=on" pip install' in machine.warning


def test_a_gpu_in_use_gets_its_driver_by_pci_address_and_no_warning() -> None:
    machine = machine_of(Devices((CUDA, CPU), "llama.cpp"), (SEEN,))
    assert machine.warning == ""
    assert (machine.devices[0].driver, machine.devices[0].free_bytes) == ("580.95", 70 << 30)


def test_a_machine_without_a_gpu_is_not_warned_about() -> None:
    assert machine_of(Devices((CPU,), "llama.cpp"), ()).warning == ""


def test_a_pci_address_is_spelled_one_way() -> None:
    assert short_pci_id("00000000:C1:00.0") == "0000:c1:00.0"
    assert short_pci_id("0000:c1:00.0") == "0000:c1:00.0"


def test_only_discrete_graphics_cards_are_seen_on_the_bus(tmp_path: Path) -> None:
    for name, vendor, kind in [("a", "0x1002", "0x030000"), ("b", "0x8086", "0x030000"), ("c", "0x10de", "0x040300")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    assert _pci_gpus(tmp_path) == (SeenGpu("AMD", "AMD GPU", "a"),)


def test_a_reading_says_none_for_what_the_card_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "mem_info_vram_total").write_text("1000\n")
    (tmp_path / "hwmon" / "hwmon3").mkdir(parents=True)
    (tmp_path / "hwmon" / "hwmon3" / "temp1_input").write_text("61000\n")
    reading = _read_sysfs(tmp_path)
    assert reading is not None
    assert (reading.memory_total_bytes, reading.temperature_c, reading.power_w) == (1000, 61.0, None)
    assert _read_sysfs(tmp_path / "none") is None


def test_reading_the_processor_is_cheap_and_true() -> None:
    reading = read_device(CPU)
    assert reading.memory_total_bytes and reading.memory_used_bytes
    assert 0 < (reading.memory_ours_bytes or 0) < reading.memory_total_bytes


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (16, 15)])
def test_one_core_stays_free_where_there_is_more_than_one(cores: int, threads: int) -> None:
    assert serving_threads(cores) == threads


@pytest.mark.e2e
async def test_this_machine_has_at_least_its_processor() -> None:
    machine = await find_machine()
    assert machine.devices[-1].kind is DeviceKind.CPU
    assert machine.runtime.startswith("llama.cpp (llama-cpp-python")
    assert machine.ram_bytes > 0
