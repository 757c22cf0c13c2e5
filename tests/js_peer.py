"""js-libp2p in a Node of its own, for tests and benchmarks that need a peer which is not ours.

The programs are tests/e2e/js/*.mjs; their packages (and a Node 22 where the system has an older one) are installed once
into the benchmarks' cache (tests.bench.cache, STARLING_BENCH_CACHE), never into the repository. Entry points:

    js = find_or_install()                          # raises JsMissing with one sentence: pytest.skip(str(error))
    with js.start("echo.mjs", "serve") as server:   # a process; server.line() is its next JSON line
        address = server.line()["addresses"][0]
        rtt = js.measure_rtt(address)               # {"p50_ms": ..., "p90_ms": ..., "p99_ms": ..., "mean_ms": ...}
    js.js_to_js_rtt()                               # the same between two js processes over loopback

Any peer can be measured that serves ECHO_PROTOCOL by sending every byte back (bytes come in frames of `size` and one
varint), so `measure_rtt` works on a Python swarm too. None of this is async: call it in a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from tests.bench.cache import cache_folder

ECHO_PROTOCOL = "/starling/echo/1.0.0"
SOURCE = Path(__file__).resolve().parent / "e2e" / "js"
OLDEST_NODE = 22
INSTALL_S = 600.0
LINE_S = 60.0
STOP_S = 5.0


class JsMissing(Exception):
    """There is no js peer on this machine; the message is one sentence."""


class JsProcess:
    """A started program. Its stderr is ours; it ends when its stdin closes."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()  # a test's own program: it says little
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def line(self, timeout_s: float = LINE_S) -> dict[str, Any]:
        """The next JSON object that it prints. Raises RuntimeError when it ends or says nothing in time."""
        try:
            text = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"the js peer said nothing within {timeout_s:.0f} s") from None
        if text is None:
            raise RuntimeError(f"the js peer ended with code {self._process.wait(STOP_S)}")
        found: dict[str, Any] = json.loads(text)
        return found

    def stop(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> JsProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


class JsPeer(msgspec.Struct, frozen=True):
    """A Node that is new enough, and the folder where the programs lie beside their packages."""

    node: Path
    folder: Path

    def start(self, program: str, *words: str) -> JsProcess:
        """Start one of tests/e2e/js/*.mjs."""
        return JsProcess([str(self.node), str(self.folder / program), *words])

    def measure_rtt(self, address: str, *, count: int = 2_000, size: int = 64) -> dict[str, float]:
        """How long a small message takes to a peer that serves ECHO_PROTOCOL and back, in ms, one after another."""
        with self.start("echo.mjs", "measure", address, str(count), str(size)) as client:
            return client.line()

    def js_to_js_rtt(self, *, count: int = 2_000, size: int = 64) -> dict[str, float]:
        """The same between two js processes over loopback TCP."""
        with self.start("echo.mjs", "serve") as server:
            return self.measure_rtt(server.line()["addresses"][0], count=count, size=size)


def find_or_install() -> JsPeer:
    """The js peer, its packages installed from npm when they are not there (a minute, once). Raises JsMissing."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = cache_folder("js") / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "node_modules").is_dir():
        _install(folder)
    return JsPeer(_new_enough_node(folder), _programs(folder))


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise JsMissing("npm is not installed, so there is no js-libp2p peer to talk to.")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as partial:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(SOURCE / name, Path(partial, name))
        words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", partial]
        done = subprocess.run([npm, *words], cwd=partial, capture_output=True, timeout=INSTALL_S, check=False)
        if done.returncode != 0:
            raise JsMissing(f"npm could not install js-libp2p: {done.stderr.decode(errors='replace')[-300:]}")
        folder.mkdir(exist_ok=True)
        if not (folder / "node_modules").exists():  # another process may have been quicker
            Path(partial, "node_modules").rename(folder / "node_modules")


def _new_enough_node(folder: Path) -> Path:
    found = [Path(named) for named in [shutil.which("node")] if named is not None]
    for node in (*found, *folder.glob("node_modules/node-*/bin/node*")):
        told = subprocess.run([str(node), "--version"], capture_output=True, text=True, timeout=LINE_S, check=False)
        if told.returncode == 0 and int(told.stdout.strip().lstrip("v").partition(".")[0]) >= OLDEST_NODE:
            return node
    raise JsMissing(f"js-libp2p needs Node {OLDEST_NODE} or newer, which is not installed.")


def _programs(folder: Path) -> Path:
    """A copy of the programs below their packages, one for each state of them: Node looks for packages upwards."""
    sources = sorted(SOURCE.glob("*.mjs"))
    digest = hashlib.sha256(b"".join(source.name.encode() + source.read_bytes() for source in sources)).hexdigest()
    programs = folder / f"programs-{digest[:16]}"
    programs.mkdir(exist_ok=True)
    for source in sources:
        partial = programs / f"{source.name}.{os.getpid()}"
        partial.write_bytes(source.read_bytes())
        partial.replace(programs / source.name)
    return programs
