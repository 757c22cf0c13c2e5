"""Build llama.cpp's own server and benchmarks from the source that the installed llama-cpp-python was made from.

They are linked against the installed wheel's shared libraries, so ours and theirs run the very same code. Built once
into the cache. Never writes into the repository, and never into the installed package.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import msgspec
import psutil

from tests.bench.cache import cache_folder

PACKAGE = "llama-cpp-python"
TOOLS = ("llama-server", "llama-batched-bench", "llama-bench")
RECIPE = Path(__file__).resolve().parent
STEP_S = 3600.0
NICE = ("nice", "-n", "5")


class Peers(msgspec.Struct, frozen=True):
    """Built tools, the libraries that they run on, and the llama.cpp commit of both."""

    folder: Path
    libraries: Path
    commit: str

    def tool(self, name: str) -> Path:
        """The path of one program."""
        return self.folder / "bin" / name

    @property
    def environment(self) -> dict[str, str]:
        """Ours, and where the libraries are. How threads wait is left to them: on a quiet machine their own way is
        their best; on a busy one give GOMP_SPINCOUNT, which our worker hears too."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}


def find_or_build() -> Peers:
    """The peers of the installed llama-cpp-python; minutes the first time, told on stderr. Raises RuntimeError."""
    version = importlib.metadata.version(PACKAGE)
    libraries = installed_libraries()
    # a tool that was linked against the wheel's libmtmd cannot start beside a wheel without one
    kind = "with-mtmd" if (libraries / "libmtmd.so").exists() else "own-mtmd"
    folder = cache_folder("peers", f"{version}-{kind}")
    source = _source(version)
    commit = _commit(source)
    if commit[:7].encode() not in (libraries / "libggml-base.so").read_bytes():
        raise RuntimeError(f"the installed llama.cpp was not built from commit {commit}")
    peers = Peers(folder, libraries, commit)
    if not all(peers.tool(name).exists() for name in TOOLS):
        _build(peers, source / "vendor" / "llama.cpp")
    return peers


def installed_libraries() -> Path:
    """Where the installed wheel keeps libllama.so. Raises RuntimeError."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise RuntimeError(f"{PACKAGE} is not installed")
    return Path(found.origin).parent / "lib"


def loaded_libraries(pid: int) -> set[str]:
    """What a process has really mapped of llama.cpp, as hashes: a wheel holds each library under several names."""
    paths = {Path(mapped.path) for mapped in psutil.Process(pid).memory_maps()}
    ours = (path for path in paths if re.match(r"lib(ggml|llama)[^/]*\.so", path.name))
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in ours}


def _source(version: str) -> Path:
    """The unpacked source package, downloaded when it is not there."""
    shelf = cache_folder("source")
    stem = f"llama_cpp_python-{version}"
    if not (shelf / stem / "vendor").is_dir():
        archive = shelf / f"{stem}.tar.gz"
        if not archive.exists():
            words = ["download", "--no-deps", "--no-binary", ":all:", "-d", str(shelf), f"{PACKAGE}=={version}"]
            _follow([sys.executable, "-m", "pip", *words], "Downloading the source of llama.cpp")
        partial = shelf / f"{stem}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        (partial / stem).replace(shelf / stem)
        partial.rmdir()
    return shelf / stem


def _commit(source: Path) -> str:
    found = re.search(r"llama\.cpp@([0-9a-f]{7,40})", (source / "CHANGELOG.md").read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError("the source package does not say which llama.cpp it has")
    return found[1]


def _build(peers: Peers, source: Path) -> None:
    for program in ("cmake", "ninja", "c++"):
        if shutil.which(program) is None:
            raise RuntimeError(f"building the peers needs {program}")
    defines = {"LLAMA_SOURCE": source, "LLAMA_LIBRARIES": peers.libraries, "PEER_COMMIT": peers.commit}
    words = [f"-D{name}={value}" for name, value in defines.items()]
    _follow(["cmake", "-G", "Ninja", "-S", str(RECIPE), "-B", str(peers.folder), *words], "Configuring the peers")
    _follow([*NICE, "ninja", "-C", str(peers.folder), *TOOLS], "Building the peers (minutes; once)")


def _follow(command: list[str], what: str) -> None:
    """Run a step; its [done/total] lines are shown on stderr. Raises RuntimeError with the end of what it said."""
    print(what, file=sys.stderr)
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = [*said[-20:], line]
            if found := re.match(r"\[\d+/\d+\]", line):
                print(f"\r  {found[0]}", end="", file=sys.stderr, flush=True)
        process.wait(STEP_S)
    print(file=sys.stderr)
    if process.returncode != 0:
        raise RuntimeError(f"{what} failed: {''.join(said).strip()}")
