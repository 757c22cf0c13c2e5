"""Decide what to build and install on a computer, from facts. Never looks, installs or prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from installing.facts import Facts, Flavour, Gpu, Need, Packages, System

GIB = 2**30
ENVIRONMENT_BYTES = 3 * GIB
NEWEST_PYTHON = (3, 13)
APT = {
    Need.COMPILER: "g++",
    Need.VENV: "python{python}-venv",
    Need.HEADERS: "python{python}-dev",
    Need.GMP: "libgmp-dev",
    Need.OFFSCREEN: "libgl1 libegl1 libxkbcommon0 libglib2.0-0 libfreetype6 libfontconfig1 libdbus-1-3",
    Need.WINDOW: "libx11-xcb1 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0"
    " libxcb-render-util0 libxcb-shape0 libxcb-sync1 libxcb-util1 libxcb-xfixes0 libxcb-xkb1 libxkbcommon-x11-0",
}
DNF = {
    Need.COMPILER: "gcc-c++",
    Need.VENV: "python3-libs",
    Need.HEADERS: "python{python}-devel",
    Need.GMP: "gmp-devel",
    Need.OFFSCREEN: "libglvnd-glx libglvnd-egl libxkbcommon glib2 freetype fontconfig dbus-libs",
    Need.WINDOW: "libX11-xcb libxcb xcb-util-cursor xcb-util-wm xcb-util-image xcb-util-keysyms xcb-util-renderutil"
    " xcb-util libxkbcommon-x11",
}
VULKAN_LINES = {
    Packages.APT: "apt-get install -y libvulkan-dev glslc spirv-headers",
    Packages.DNF: "dnf install -y vulkan-loader-devel vulkan-headers glslc spirv-headers-devel",
}
DRIVER_LINES = {
    Packages.APT: "apt-get install -y nvidia-driver",
    Packages.DNF: "dnf install -y akmod-nvidia xorg-x11-drv-nvidia-cuda",
}


@dataclass(frozen=True)
class Advice:
    """One sentence for the owner, and the exact line that follows it ("" if there is none)."""

    sentence: str
    line: str = ""


def choose_flavour(facts: Facts) -> Flavour:
    """For what to build llama.cpp.

    CUDA and Vulkan are taken only where a GPU could use them: a CUDA build does not even load without NVIDIA's driver,
    and nvcc alone (as in many container images) would cost an hour of compiling for nothing.
    """
    if facts.system is System.MAC:
        return Flavour.METAL
    if facts.gpu is Gpu.NVIDIA and facts.tools.nvcc:
        return Flavour.CUDA
    if facts.gpu not in (Gpu.NONE, Gpu.NVIDIA_WITHOUT_DRIVER) and facts.tools.vulkan:
        return Flavour.VULKAN
    return Flavour.CPU


def cmake_args(flavour: Flavour) -> str:
    """What CMake is told. The vision library (a quarter of the files) is left out: nothing here serves pictures."""
    match flavour:
        case Flavour.CUDA:
            return "-DLLAVA_BUILD=OFF -DGGML_CUDA=on"
        case Flavour.VULKAN:
            return "-DLLAVA_BUILD=OFF -DGGML_VULKAN=on"
        case Flavour.METAL | Flavour.CPU:
            return "-DLLAVA_BUILD=OFF"
        case _:
            assert_never(flavour)


def unused_gpu(facts: Facts, flavour: Flavour) -> Advice | None:
    """What to tell the owner of a GPU that this build would leave idle, or None if it would not."""
    if flavour is not Flavour.CPU or facts.gpu is Gpu.NONE:
        return None
    start = f"{facts.gpu.value} found, but it would be left unused: "
    if facts.gpu is Gpu.NVIDIA_WITHOUT_DRIVER:
        line = DRIVER_LINES.get(facts.packages, "")
        return Advice(start + "install NVIDIA's driver, restart, then set up again", as_owner(line, facts))
    if facts.system is System.WINDOWS:
        fix = "winget install Nvidia.CUDA" if facts.gpu is Gpu.NVIDIA else "winget install KhronosGroup.VulkanSDK"
        return Advice(start + "install what builds for it, then set up again", fix)
    reason = "there is neither CUDA's nvcc nor what a Vulkan build needs" if facts.gpu is Gpu.NVIDIA else (
        "what a Vulkan build needs is not there")  # fmt: skip
    line = as_owner(VULKAN_LINES.get(facts.packages, ""), facts)
    return Advice(start + reason, f"{line} && ./starling setup" if line else "")


def has_use_for_torch(facts: Facts) -> bool:
    """Whether there is a GPU that torch's ordinary build can use."""
    return facts.gpu in (Gpu.NVIDIA, Gpu.APPLE)


def torch_size(facts: Facts) -> str:
    """What torch costs here, in words, before it is fetched."""
    if facts.system is System.LINUX and facts.gpu is Gpu.NVIDIA:
        return "about 3 GB to download, 7 GB on disk"
    return "about 200 MB to download, 900 MB on disk"


def needed(facts: Facts, *, for_tests: bool) -> frozenset[Need]:
    """What is missing and needed here: a window's libraries only where there is a display; tests always draw."""
    unneeded = set()
    if not facts.has_display:
        unneeded.add(Need.WINDOW)
        if not for_tests:
            unneeded.add(Need.OFFSCREEN)
    return facts.missing - unneeded


def install_words(needs: frozenset[Need], facts: Facts) -> list[str]:
    """The command that installs these needs here, or [] where there is nothing to do or the owner must know better."""
    table = {Packages.APT: APT, Packages.DNF: DNF}.get(facts.packages)
    if not needs or table is None or facts.system is not System.LINUX:
        return []
    python = f"{facts.python[0]}.{facts.python[1]}" if facts.packages is Packages.APT else "3"
    names = " ".join(table[need] for need in Need if need in needs).format(python=python).split()
    tool = "apt-get" if facts.packages is Packages.APT else "dnf"
    return [tool, "install", "-y", *names]


def missing_advice(needs: frozenset[Need], facts: Facts) -> Advice | None:
    """One sentence about everything that is missing and the exact line that brings it, or None."""
    if not needs:
        return None
    things = [need.value for need in Need if need in needs]
    listed = things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]
    sentence = f"Starling needs {listed}, not found on this computer"
    match facts.system:
        case System.LINUX:
            line = as_owner(" ".join(install_words(needs, facts)), facts)
        case System.MAC:
            line = " && ".join(mac_lines(needs))
        case System.WINDOWS:
            line = 'winget install Microsoft.VisualStudio.2022.BuildTools --override "--wait --quiet --add'
            line += ' Microsoft.VisualStudio.Workload.VCTools --includeRecommended"'
        case _:
            assert_never(facts.system)
    return Advice(sentence, line)


def mac_lines(needs: frozenset[Need]) -> list[str]:
    """What a Mac's owner types."""
    lines = []
    if Need.COMPILER in needs:
        lines.append("xcode-select --install")
    if needs - {Need.COMPILER}:
        lines.append("brew install gmp python@3.12")
    return lines


def as_owner(line: str, facts: Facts) -> str:
    """The line as this user must type it: with sudo unless root."""
    return line if facts.is_root or not line else f"sudo {line}"


def space_advice(facts: Facts, *, needed_bytes: int) -> Advice | None:
    """What to say when the disk is too full to begin."""
    if facts.free_bytes >= needed_bytes:
        return None
    free, wanted = facts.free_bytes / GIB, needed_bytes / GIB
    return Advice(f"The set-up needs {wanted:.0f} GB of disk and {free:.1f} GB are free; make room, then run it again")


def python_advice(python: tuple[int, int, int]) -> Advice | None:
    """What to say to a Python that the pinned packages do not know."""
    if (3, 11) <= python[:2] <= NEWEST_PYTHON:
        return None
    return Advice(f"Starling needs Python 3.11 to 3.13; this is {python[0]}.{python[1]}")
