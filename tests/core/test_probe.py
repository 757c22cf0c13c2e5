"""Laws of what is found in a machine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from core.device import Device, DeviceKind
from core.gpu_sensors import SeenGpu, _pci_gpus, _read_sysfs, short_pci_id
from core.probe import find_machine, machine_of, read_device, serving_threads
from core.worker.messages import Devices

CPU = Device("CPU", "AMD EPYC", DeviceKind.CPU, "CPU", 24 << 30, 20 << 30)
CUDA = Device("CUDA0", "NVIDIA H100", DeviceKind.GPU, "CUDA", 80 << 30, 79 << 30, pci_id="0000:c1:00.0")
RADEON = SeenGpu("AMD", "AMD GPU", "0000:03:00.0", module="amdgpu")
SEEN = SeenGpu("NVIDIA", "NVIDIA H100 80GB HBM3", "0000:c1:00.0", "580.95", 80 << 30, 70 << 30)


def warning(gpu: SeenGpu, *backends: str, has_nvcc: bool = True) -> str:
    return machine_of(Devices((CPU,), "llama.cpp", backends), (gpu,), has_nvcc=has_nvcc).warning


def test_a_gpu_that_the_build_cannot_use_is_said_loudly_with_the_line_that_fixes_it() -> None:
    said = warning(SEEN, "CPU")
    assert said.startswith("Your NVIDIA H100 80GB HBM3 is not used: this build of llama.cpp runs on the processor only")
    assert 'CMAKE_ARGS="-DGGML_CUDA=on" pip install' in said


def test_without_cudas_compiler_the_line_builds_for_vulkan() -> None:
    assert 'CMAKE_ARGS="-DGGML_VULKAN=on" pip install' in warning(SEEN, "CPU", has_nvcc=False)
    assert 'CMAKE_ARGS="-DGGML_VULKAN=on" pip install' in warning(RADEON, "CPU")


def test_a_build_that_could_use_the_gpu_but_finds_none_points_at_the_driver() -> None:
    said = warning(SEEN, "CUDA", "CPU")
    assert "was built for CUDA but finds no device" in said and "driver" in said and "pip" not in said


@pytest.mark.parametrize(
    ("module", "words"),
    [("", "driver is not there"), ("nouveau", "nouveau runs instead"), ("nvidia", "--gpus all"),
     ("vfio-pci", "virtual machines")],
)  # fmt: skip
def test_a_card_whose_driver_does_not_answer_is_told_apart_from_a_wrong_build(module: str, words: str) -> None:
    said = warning(SeenGpu("NVIDIA", "NVIDIA GPU", "0000:c1:00.0", module=module), "CPU")
    assert words in said and "many times slower" in said


def test_an_amd_card_without_its_driver_is_told_so() -> None:
    assert "amdgpu does not run" in warning(SeenGpu("AMD", "AMD GPU", "a"), "Vulkan", "CPU")


def test_a_runtime_that_finds_the_gpu_gives_no_warning_whatever_else_is_on_the_bus() -> None:
    assert machine_of(Devices((CUDA, CPU), "llama.cpp", ("CUDA", "CPU")), (SEEN, RADEON)).warning == ""


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
    (tmp_path / "amdgpu").mkdir()
    (tmp_path / "a" / "driver").symlink_to(tmp_path / "amdgpu")
    (tmp_path / "a" / "mem_info_vram_total").write_text("1000\n")
    (tmp_path / "a" / "mem_info_vram_used").write_text("400\n")
    found = SeenGpu("AMD", "AMD GPU", "a", memory_bytes=1000, free_bytes=600, module="amdgpu")
    assert _pci_gpus(tmp_path) == (found,)


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


def test_what_a_gpu_may_draw_comes_from_its_driver() -> None:
    hungry = msgspec.structs.replace(SEEN, power_limit_w=700.0)
    gpu, cpu = machine_of(Devices((CUDA, CPU), "llama.cpp"), (hungry,)).devices
    assert (gpu.power_w, cpu.power_w) == (700.0, 0.0)
