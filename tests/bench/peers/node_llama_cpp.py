"""node-llama-cpp from npm, as desktop apps in JavaScript use it: its own prebuilt llama.cpp, of another commit."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import trio

from tests.bench.cache import cache_folder
from tests.bench.workload import Run, Setup, Workload, chat_prompt, check

NAME = "node-llama-cpp"
VERSION = "3.22.1"
SCRIPT = Path(__file__).resolve().parent / "node_engine.mjs"
INSTALL_S = 900.0
ANSWER_S = 1800.0
# The package's name for a system's prebuilt library; without a graphics card's.
BINARIES = {
    ("linux", "x86_64"): "linux-x64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "arm64"): "mac-arm64-metal",
    ("darwin", "x86_64"): "mac-x64",
    ("win32", "AMD64"): "win-x64",
}


class NodeEngine:
    """A ready node process. Get one from open_node_engine. release: the llama.cpp release that it was built from."""

    def __init__(self, process: subprocess.Popen[bytes], release: str) -> None:
        self.release = release
        self._lines = process
        self._process = psutil.Process(process.pid)

    async def run(self, workload: Workload) -> Run:
        """Answer all prompts. Raises RuntimeError."""
        return await trio.to_thread.run_sync(self._run, workload)

    def _run(self, workload: Workload) -> Run:
        cpu_began, began = self._cpu_s(), time.perf_counter()
        prompts = [chat_prompt(prompt) for prompt in workload.prompts]
        said = ask(self._lines, {"prompts": prompts, "answer_tokens": workload.answer_tokens})
        wall_s, cpu_s = time.perf_counter() - began, self._cpu_s() - cpu_began
        return check(Run(said["prompt_tokens"], said["answer_tokens"], wall_s, cpu_s), workload, NAME)

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def find_or_install(*, gpu: bool) -> Path:
    """The package's entry file, installed into the cache when it is not there. Raises RuntimeError."""
    binary = BINARIES.get((sys.platform, platform.machine()))
    npm = shutil.which("npm")
    if binary is None or npm is None or shutil.which("node") is None:
        raise RuntimeError("node and npm are not installed" if binary else "there is no prebuilt one for this system")
    binary += "-cuda" if gpu else ""
    folder = cache_folder("node", f"{VERSION}-{binary}")
    entry = folder / "node_modules" / NAME / "dist" / "index.js"
    if not entry.exists():
        print(f"Installing {NAME} {VERSION}", file=sys.stderr)
        words = ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix", str(folder)]
        packages = [f"{NAME}@{VERSION}", f"@{NAME}/{binary}@{VERSION}"]
        done = subprocess.run([npm, *words, *packages], capture_output=True, timeout=INSTALL_S, check=False)
        if done.returncode != 0 or not entry.exists():
            raise RuntimeError(f"npm could not install it: {done.stderr.decode(errors='replace')[-300:]}")
    return entry


@asynccontextmanager
async def open_node_engine(setup: Setup, *, log: Path) -> AsyncIterator[NodeEngine]:
    """A node process with the model loaded, ended at the end of the block. Raises RuntimeError."""
    entry = await trio.to_thread.run_sync(lambda: find_or_install(gpu=setup.gpu_layers > 0))
    asked = msgspec.json.encode(msgspec.structs.replace(setup, model=str(setup.model))).decode()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["node", str(SCRIPT), str(entry), asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output
        )
    try:
        ready = await trio.to_thread.run_sync(_line, process)
        yield NodeEngine(process, ready["release"])
    finally:
        process.kill()
        process.wait()


def ask(process: subprocess.Popen[bytes], question: dict[str, object]) -> dict[str, int]:
    """One line in, one line out. Raises RuntimeError when the process has ended."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(question).encode() + b"\n")
    process.stdin.flush()
    return {key: int(value) for key, value in _line(process).items()}


def _line(process: subprocess.Popen[bytes]) -> dict[str, str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{NAME} ended")
    said: dict[str, str] = json.loads(line)
    return said
