"""Which files a worker child may open: what Python, the libraries and the GPU drivers need, and what its first command
names. All that is not listed here is out of reach: wallet, journal, documents, other models.

Never grants a folder to write in but the child's own for temporary files and the drivers' cache: a target is made
first, and only it can be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from core.model_shards import shard_names
from core.worker import messages as w
from core.worker.landlock import DEVICE, LIST, READ, SCRATCH, WRITE, Rule

LIBRARIES = (
    "/usr", "/lib", "/lib64", "/lib32", "/opt", "/nix/store", "/run/opengl-driver", "/etc/ld.so.cache",
    "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
    "/etc/OpenCL", "/etc/vulkan", "/etc/glvnd", "/etc/ssl/openssl.cnf", "/dev/urandom", "/dev/random",
)  # fmt: skip
KERNEL = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/devices", "/proc/modules", "/proc/version",
    "/proc/filesystems", "/proc/driver", "/proc/sys", "/sys",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/dri", "/dev/kfd", "/dev/dxg", "/dev/nvidia-caps")
GPU_NODES = "nvidia*"
PATH_VARIABLES = (
    "LD_LIBRARY_PATH", "LLAMA_CPP_LIB_PATH", "CUDA_PATH", "CUDA_HOME", "ROCM_PATH", "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES", "STARLING_WORKER_READ",
)  # fmt: skip
SCRATCH_VARIABLE = "STARLING_WORKER_SCRATCH"
CACHE_VARIABLE = "STARLING_WORKER_CACHE"
READ_FIELDS = ("path", "source")


class Grants(msgspec.Struct, frozen=True):
    """Beside the system's own: files and folders to read, and files to write."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def rules(self) -> Iterator[Rule]:
        """As Landlock takes them; a symbolic link is followed, as opening it does."""
        yield from (Rule(Path(path), READ) for path in self.read)
        yield from (Rule(Path(path), READ | WRITE) for path in self.write)


def grants_of(command: w.WorkerCommand) -> Grants:
    """What a child is for is said by its first command, and so is what it may touch: what a command calls path or
    source is read, what it calls target is written."""
    read = [path for name in READ_FIELDS for path in _model_files(getattr(command, name, ""))]
    target = getattr(command, "target", "")
    return Grants(tuple(read), (target,) if target else ())


def scratch_environment(folder: str) -> dict[str, str]:
    """How a child finds its folder for temporary files: importing torch is not possible without one."""
    return dict.fromkeys((SCRATCH_VARIABLE, "TMPDIR", "TEMP", "TMP"), folder)


def cache_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Where GPU drivers keep what they have compiled: in a folder that workers share with nobody else. Without one a
    CUDA or Vulkan worker compiles its kernels anew at every start. Empty where it cannot be made."""
    root = Path(ours.get("XDG_CACHE_HOME") or Path(ours.get("HOME") or "~").expanduser() / ".cache")
    folder = root / "starling-worker"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return {}
    return dict.fromkeys((CACHE_VARIABLE, "XDG_CACHE_HOME", "CUDA_CACHE_PATH"), str(folder))


def make_targets(grants: Grants) -> None:
    """A rule is for a file that is there: make those that are to be written. What cannot be made cannot be written."""
    for path in grants.write:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            continue


def system_rules(environment: Mapping[str, str]) -> Iterator[Rule]:
    """What every child needs, wherever Python and the drivers are on this machine."""
    root = Path(__file__).resolve().parents[2]
    yield Rule(root, LIST)  # to find a package is to list its folder; only these two are read
    yield from (Rule(root / room, READ) for room in ("core", "assets"))
    frozen = getattr(sys, "_MEIPASS", "")
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, frozen, *sys.path} - {"", str(root)}
    asked = [entry for name in PATH_VARIABLES for entry in environment.get(name, "").split(os.pathsep)]
    paths = map(Path, (*python, *asked, *LIBRARIES, *KERNEL))
    yield from (Rule(path, READ) for path in paths if path.is_absolute())
    nodes = (*map(Path, DEVICES), *Path("/dev").glob(GPU_NODES))
    yield from (Rule(node, DEVICE) for node in nodes)
    for name in (SCRATCH_VARIABLE, CACHE_VARIABLE):
        if folder := environment.get(name, ""):
            yield Rule(Path(folder), SCRATCH)


def _model_files(path: str) -> tuple[str, ...]:
    """A file with the other shards of its set; of a model that is a folder, or weights in one, the whole folder."""
    if not path:
        return ()
    model = Path(path)
    if model.suffix == ".safetensors":
        return (str(model.parent),)
    if model.is_dir() or not model.name:
        return (path,)
    return tuple(str(model.with_name(name)) for name in shard_names(model.name))
