"""What the set-up knows about a computer, as plain values. Never looks for itself: machine.py does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class System(Enum):
    """The operating systems that Starling runs on."""

    LINUX = "linux"
    MAC = "mac"
    WINDOWS = "windows"


class Packages(Enum):
    """Who installs system packages here."""

    APT = "apt"
    DNF = "dnf"
    OTHER = "other"


class Gpu(Enum):
    """Whose graphics chip this is, and whether it can be used now."""

    NVIDIA = "NVIDIA GPU"
    NVIDIA_WITHOUT_DRIVER = "NVIDIA GPU without its driver"
    AMD = "AMD GPU"
    INTEL = "Intel GPU"
    APPLE = "Apple GPU"
    NONE = "no GPU"


class Flavour(Enum):
    """For what llama.cpp is built."""

    CUDA = "CUDA"
    VULKAN = "Vulkan"
    METAL = "Metal"
    CPU = "the processor"


class Need(Enum):
    """What must be on a computer before Starling can be set up on it."""

    COMPILER = "a C++ compiler"
    VENV = "Python's venv module"
    HEADERS = "Python's C headers"
    GMP = "the GMP library with its headers"
    OFFSCREEN = "the libraries that Qt draws with"
    WINDOW = "the libraries that Qt opens windows with"


@dataclass(frozen=True)
class Tools:
    """What is there to build llama.cpp with. Vulkan needs all of its loader, glslc and the SPIR-V headers."""

    nvcc: bool = False
    vulkan: bool = False


@dataclass(frozen=True)
class Facts:
    """One look at this computer. `missing` holds what was looked for and is not there."""

    system: System
    packages: Packages
    python: tuple[int, int, int]
    gpu: Gpu = Gpu.NONE
    tools: Tools = field(default_factory=Tools)
    missing: frozenset[Need] = frozenset()
    is_root: bool = False
    is_ci: bool = False
    has_display: bool = True
    free_bytes: int = 0
