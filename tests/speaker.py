"""One sequence alone on a model, token by token: what tests of drawing need and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_context import LlamaContext
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.llama_sampler import SamplerChain, open_sampler
from core.worker.messages import Count

DEMO = Path(__file__).parents[1] / "assets" / "demo_model" / "starling-demo-f16.gguf"


class Speaker:
    """An open model with one slot. logits holds the row behind each token of the last say."""

    def __init__(self, path: Path, *, context: int = 512) -> None:
        plan = Plan("m", "llama.cpp", "F16", slots=1, slot_context_tokens=context, threads=1, prefill_chunk=context)
        self.log = LlamaLog()
        self.model = LlamaModel(str(path), log=self.log, plan=plan)
        self.context = LlamaContext(self.model, plan, log=self.log)
        self.logits: list[np.ndarray] = []

    def close(self) -> None:
        self.context.close()
        self.model.close()
        self.log.close()

    def prompt(self, text: str) -> list[int]:
        return self.model.prompt_of(Count(JobId("p"), (ChatMessage("user", text),)))

    def say(self, prompt: list[int], sampling: Sampling) -> list[int]:
        """The tokens of an answer, up to max_tokens; the one that ends the turn is not among them."""
        sampler = open_sampler(sampling, self.model)
        if sampler is not None:
            sampler.accept_prompt(prompt)
        try:
            return self._say(list(prompt), sampling, sampler=sampler)
        finally:
            if sampler is not None:
                sampler.close()

    def text(self, tokens: list[int]) -> str:
        return b"".join(self.model.piece(token) or b"" for token in tokens).decode("utf-8", "replace")

    def _say(self, feed: list[int], sampling: Sampling, *, sampler: SamplerChain | None) -> list[int]:
        self.context.clear()
        self.logits = []
        said: list[int] = []
        at = 0
        while len(said) < sampling.max_tokens:
            self.context.begin()
            row = self.context.put(feed, slot=0, position=at, draws=True)
            self.context.decode()
            at += len(feed)
            logits = self.context.logits(1)[0]
            self.logits.append(logits.copy())
            if sampler is None and sampling.ignore_eos:
                logits[self.model.ends] = -np.inf
            token = int(np.argmax(logits)) if sampler is None else sampler.draw(self.context.handle, row)
            if token in self.model.ends and not sampling.ignore_eos:
                break
            said.append(token)
            feed = [token]
        return said
