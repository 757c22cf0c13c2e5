"""Look at this computer: its system, its GPU, its compilers, its libraries. Never decides, never changes anything."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from installing.facts import Facts, Gpu, Need, Packages, System, Tools

PCI = Path("/sys/bus/pci/devices")
DISPLAY_CLASS = "0x03"
VENDORS = {"0x10de": Gpu.NVIDIA, "0x1002": Gpu.AMD, "0x8086": Gpu.INTEL}
NVIDIA_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
INCLUDES = (Path("/usr/include"), Path("/usr/local/include"), Path("/opt/homebrew/include"))
SPIRV = "**/SPIRV-HeadersConfig.cmake"
OFFSCREEN_LIBRARIES = (
    "libGL.so.1", "libEGL.so.1", "libxkbcommon.so.0", "libglib-2.0.so.0", "libfreetype.so.6", "libfontconfig.so.1",
    "libdbus-1.so.3",
)  # fmt: skip
WINDOW_LIBRARIES = (
    "libX11-xcb.so.1", "libxcb-cursor.so.0", "libxcb-icccm.so.4", "libxcb-image.so.0", "libxcb-keysyms.so.1",
    "libxcb-randr.so.0", "libxcb-render-util.so.0", "libxcb-shape.so.0", "libxcb-sync.so.1", "libxcb-util.so.1",
    "libxcb-xfixes.so.0", "libxcb-xkb.so.1", "libxkbcommon-x11.so.0",
)  # fmt: skip
# QT_QPA_PLATFORM: whoever sets it (to offscreen, vnc) wants a window wherever it is drawn.
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
WINDOWS_COMPILER = Path("Microsoft Visual Studio/Installer/vswhere.exe")


def look(room: Path) -> Facts:
    """Gather the facts; `room` is where the environment will lie, for its free disk space."""
    system = this_system()
    return Facts(
        system=system,
        packages=package_tool(),
        python=sys.version_info[:3],
        gpu=find_gpu(system),
        tools=Tools(nvcc=has_nvcc(), vulkan=has_vulkan()),
        missing=frozenset(missing_needs(system)),
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        is_ci=bool(os.environ.get("CI")) or not (sys.stdin.isatty() or sys.stderr.isatty()),
        has_display=has_display(system),
        free_bytes=shutil.disk_usage(room).free,
    )


def this_system() -> System:
    """Which of the three systems this is; anything that is not a Mac or Windows is treated as Linux."""
    return {"darwin": System.MAC, "win32": System.WINDOWS}.get(sys.platform, System.LINUX)


def package_tool() -> Packages:
    """Which package tool is on the path; APT first, as DNF can be installed on Debian but not the reverse."""
    if shutil.which("apt-get"):
        return Packages.APT
    return Packages.DNF if shutil.which("dnf") else Packages.OTHER


def has_display(system: System) -> bool:
    """Whether a window could be opened."""
    if system is not System.LINUX:
        return True
    return any(os.environ.get(name) for name in DISPLAYS)


def find_gpu(system: System) -> Gpu:
    """The most useful GPU of this computer: NVIDIA, then AMD, then Intel."""
    if system is System.MAC:
        return Gpu.APPLE
    if system is System.WINDOWS:
        driver = Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll"
        return Gpu.NVIDIA if driver.exists() else Gpu.NONE
    found = set(pci_gpus())
    driven = any(path.exists() for path in NVIDIA_DRIVER)
    if Gpu.NVIDIA in found or driven:
        return Gpu.NVIDIA if driven else Gpu.NVIDIA_WITHOUT_DRIVER
    return next((gpu for gpu in (Gpu.AMD, Gpu.INTEL) if gpu in found), Gpu.NONE)


def pci_gpus() -> Iterable[Gpu]:
    """Display controllers on the PCI bus by vendor; the paper GPUs of virtual machines have other vendors."""
    for device in PCI.glob("*") if PCI.exists() else ():
        kind, vendor = read_word(device / "class"), read_word(device / "vendor")
        if kind.startswith(DISPLAY_CLASS) and vendor in VENDORS:
            yield VENDORS[vendor]


def read_word(path: Path) -> str:
    """The text of a small kernel file, or nothing."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def has_nvcc() -> bool:
    """Whether CUDA's compiler can be found where CMake looks for it."""
    homes = [os.environ.get(name) for name in ("CUDACXX", "CUDA_HOME", "CUDA_PATH")]
    places = [Path(home) for home in homes if home] + [Path("/usr/local/cuda")]
    return bool(shutil.which("nvcc")) or any((place / "bin" / "nvcc").exists() or place.is_file() for place in places)


def has_vulkan() -> bool:
    """Whether all three that ggml's Vulkan build asks for are here: loader headers, glslc, SPIR-V headers."""
    if not shutil.which("glslc"):
        return False
    kits = [Path(os.environ["VULKAN_SDK"])] if os.environ.get("VULKAN_SDK") else []
    roots = [*INCLUDES, *(kit / folder for kit in kits for folder in ("include", "Include"))]
    if not any((root / "vulkan" / "vulkan.h").exists() for root in roots):
        return False
    shelves = [Path("/usr/share/cmake"), Path("/usr/lib/cmake"), Path("/usr/local/share/cmake"), *kits]
    shelves += [folder / "cmake" for folder in Path("/usr/lib").glob("*-linux-gnu")]
    return any(next(shelf.glob(SPIRV), None) for shelf in shelves if shelf.exists())


def missing_needs(system: System) -> Iterable[Need]:
    """What the set-up needs and this computer lacks."""
    if not has_compiler(system):
        yield Need.COMPILER
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        yield Need.VENV
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        yield Need.HEADERS
    if system is not System.WINDOWS and not any((root / "gmp.h").exists() for root in gmp_places()):
        yield Need.GMP
    if system is System.LINUX and not all(map(can_load, OFFSCREEN_LIBRARIES)):
        yield Need.OFFSCREEN
    if system is System.LINUX and not all(map(can_load, WINDOW_LIBRARIES)):
        yield Need.WINDOW


def has_compiler(system: System) -> bool:
    """Whether there is a C and C++ compiler that CMake would take."""
    match system:
        case System.WINDOWS:
            folders = [os.environ.get(name) for name in ("ProgramFiles(x86)", "ProgramFiles")]
            return bool(shutil.which("cl")) or any((Path(f) / WINDOWS_COMPILER).exists() for f in folders if f)
        case System.MAC:
            # /usr/bin/c++ is there without the command line tools: it only asks for them.
            return subprocess.run(["xcode-select", "-p"], capture_output=True, timeout=10).returncode == 0
        case System.LINUX:
            return any(map(shutil.which, ("g++", "clang++", "c++"))) and any(map(shutil.which, ("gcc", "clang", "cc")))


def gmp_places() -> list[Path]:
    """Where gmp.h can lie: plain, or in Debian's folder of this architecture."""
    return [*INCLUDES, *Path("/usr/include").glob("*-linux-gnu*")]


def can_load(library: str) -> bool:
    """Whether the dynamic loader finds this library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
