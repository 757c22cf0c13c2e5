"""llama-batched-bench: how fast the library decodes so many sequences in step, without server or sampling."""

from __future__ import annotations

import json
import subprocess

import trio

from tests.bench.peers.build import Peers
from tests.bench.workload import Run, Setup, Workload, check

NAME = "llama-batched-bench"
LIMIT_S = 1800.0


class BatchedBench:
    """Starts the program anew for every run; what it reports leaves loading out. Its prompts are random tokens."""

    def __init__(self, peers: Peers, setup: Setup, *, prompt_tokens: int) -> None:
        self._peers = peers
        self._setup = setup
        self._prompt_tokens = prompt_tokens

    async def run(self, workload: Workload) -> Run:
        """As many answers, all slots in step; one such wave after another when there are more prompts than slots."""
        waves = max(1, len(workload.prompts) // self._setup.slots)
        command = [str(self._peers.tool(NAME)), *self._arguments(workload.answer_tokens, waves)]
        done = await trio.to_thread.run_sync(self._call, command)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
        if done.returncode != 0 or len(found) != waves:
            raise RuntimeError(f"{NAME} failed: {done.stderr[-600:]!r}")
        answered = sum(one["pl"] * one["tg"] for one in found)
        read = sum(one["pl"] * one["pp"] for one in found)
        return check(Run(read, answered, wall_s=sum(one["t"] for one in found), cpu_s=0.0), workload, NAME)

    def _arguments(self, answer_tokens: int, waves: int) -> list[str]:
        setup = self._setup
        given = {
            "--model": setup.model,
            "--ctx-size": setup.slots * setup.slot_context_tokens,
            "--threads": setup.threads,
            "--threads-batch": setup.threads,
            "--n-gpu-layers": setup.gpu_layers,
            "--flash-attn": "on",
            "--device": setup.device_id or "none",
            "--output-format": "jsonl",
            "-npp": ",".join([str(self._prompt_tokens)] * waves),
            "-ntg": answer_tokens,
            "-npl": setup.slots,
        }
        return [str(word) for pair in given.items() for word in pair]

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, env=self._peers.environment, capture_output=True, timeout=LIMIT_S, check=False)
