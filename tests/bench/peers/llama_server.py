"""llama.cpp's own server, asked over its streaming HTTP interface by one thread and raw sockets: the client shares the
processor with what it measures, so it reads no more than it must."""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import trio

from tests.bench.peers.build import Peers
from tests.bench.workload import Run, Setup, Workload, chat_prompt, check

NAME = "llama-server"
READY_S = 300.0
ANSWER_S = 1800.0
STOP_S = 10.0
READ_BYTES = 1 << 16
# The last event of an answer repeats how it was asked and says how many tokens there were.
_ENDS = b'"stop":true'
_COUNTS = {n: re.compile(rb'"%s":(\d+)' % n.encode()) for n in ("tokens_predicted", "tokens_evaluated")}


class LlamaServer:
    """A ready server. Get one from open_llama_server."""

    def __init__(self, port: int, pid: int) -> None:
        self.pid = pid
        self._port = port
        self._process = psutil.Process(pid)

    async def run(self, workload: Workload) -> Run:
        """Answer all prompts. Raises RuntimeError."""
        return await trio.to_thread.run_sync(self._run, workload)

    def _run(self, workload: Workload) -> Run:
        requests = [self._request(prompt, workload.answer_tokens) for prompt in workload.prompts]
        cpu_began, began = self._cpu_s(), time.perf_counter()
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            answers = []
            for request in requests:
                line = stack.enter_context(socket.create_connection(("127.0.0.1", self._port)))
                line.sendall(request)
                answers.append(_Answer(line))
                selector.register(line, selectors.EVENT_READ, answers[-1])
            _read_all(selector, len(answers))
        wall_s, cpu_s = time.perf_counter() - began, self._cpu_s() - cpu_began
        prompt_tokens = sum(answer.count("tokens_evaluated") for answer in answers)
        answer_tokens = sum(answer.count("tokens_predicted") for answer in answers)
        firsts = tuple(answer.first_at - began for answer in answers)
        return check(Run(prompt_tokens, answer_tokens, wall_s, cpu_s, firsts), workload, NAME)

    def _request(self, prompt: str, tokens: int) -> bytes:
        asked = {
            "prompt": chat_prompt(prompt),
            "n_predict": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
            "stream": True,
        }
        body = json.dumps(asked).encode()
        head = "POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


class _Answer:
    """One answer's stream: when it began, and its last bytes."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.first_at = 0.0
        self._tail = b""

    def is_over(self, received: bytes) -> bool:
        """Take what came. Raises RuntimeError when the server closes before the end."""
        if not received:
            raise RuntimeError(f"{NAME} closed a connection: {self._tail[-300:]!r}")
        if not self.first_at and b"data:" in received:
            self.first_at = time.perf_counter()
        self._tail = (self._tail + received)[-READ_BYTES:] if _ENDS in self._tail else self._tail[-64:] + received
        return _ENDS in self._tail and self._tail.endswith(b"0\r\n\r\n")

    def count(self, name: str) -> int:
        """A number of the last event; 0 when it is not there."""
        found = _COUNTS[name].findall(self._tail)
        return int(found[-1]) if found else 0


def _read_all(selector: selectors.BaseSelector, waiting: int) -> None:
    ends_at = time.monotonic() + ANSWER_S
    while waiting:
        if time.monotonic() > ends_at:
            raise RuntimeError(f"{NAME} did not answer within {ANSWER_S:.0f} s")
        for key, _ in selector.select(timeout=1.0):
            if key.data.is_over(key.data.line.recv(READ_BYTES)):
                selector.unregister(key.fileobj)
                waiting -= 1


@asynccontextmanager
async def open_llama_server(peers: Peers, setup: Setup, *, log: Path) -> AsyncIterator[LlamaServer]:
    """A server of its own with the model loaded, ended at the end of the block."""
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(peers.tool("llama-server")), *_arguments(setup, port)],
            env=peers.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await _until_ready(process, port, log)
        yield LlamaServer(port, process.pid)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_end, process)


def _arguments(setup: Setup, port: int) -> list[str]:
    slots = setup.slots
    given = {
        "--model": setup.model,
        "--host": "127.0.0.1",
        "--port": port,
        "--parallel": slots,
        "--ctx-size": slots * setup.slot_context_tokens,
        "--threads": setup.threads,
        "--threads-batch": setup.threads,
        "--n-gpu-layers": setup.gpu_layers,
        "--flash-attn": "on",
        "--device": setup.device_id or "none",
        "--cache-ram": 0,
        "--fit": "off",
    }
    return [*(str(word) for pair in given.items() for word in pair), "--no-webui", "--no-cache-prompt"]


async def _until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    with trio.move_on_after(READY_S):
        while process.poll() is None:
            if await trio.to_thread.run_sync(_is_ready, port):
                return
            await trio.sleep(0.05)
    raise RuntimeError(f"{NAME} did not start: {log.read_text(errors='replace')[-600:]}")


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as line:
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in line.recv(READ_BYTES)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
