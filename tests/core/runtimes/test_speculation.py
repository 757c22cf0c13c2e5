"""Laws of guessing ahead: it changes no answer, greedy or drawn by chance, and never runs past what is allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.job import FinishReason, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Chunks, Completed, Generate
from tests.models import write_tiny_gguf

PLAN = Plan(
    model="tiny",
    runtime="llama.cpp",
    quantization="F16",
    slots=3,
    slot_context_tokens=256,
    prefill_chunk=32,
    draft_tokens=4,
    steady=True,
)
WARM = Sampling(max_tokens=40, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=5, top_logprobs=1, ignore_eos=True)
COLD = Sampling(max_tokens=40, top_logprobs=1, ignore_eos=True)


class Oracle:
    """Guesses what it was told would come, every third time with an error in it."""

    def __init__(self, told: list[int]) -> None:
        self.told = told
        self.calls = 0

    def guess(self, tokens: list[int], room: int) -> list[int]:
        self.calls += 1
        guess = self.told[len(tokens) : len(tokens) + min(4, max(0, room))]
        return [*guess[:-1], 1] if self.calls % 3 == 0 and guess else guess

    def judge(self, guessed: int, accepted: int) -> None:
        assert 0 <= accepted <= guessed


class Silent(Oracle):
    """Never guesses."""

    def guess(self, tokens: list[int], room: int) -> list[int]:
        return []


class Run:
    """One job, guessed ahead by an oracle: its tokens, what was told of it, and its end."""

    def __init__(
        self, runtime: LlamaRuntime, sampling: Sampling, oracle: Oracle, *, allowance: int | None = None
    ) -> None:
        runtime.add(Generate(JobId("a"), (), sampling, allowance, text="tell me something about it"))
        sequence = runtime._batch.get(JobId("a"))
        assert sequence is not None
        self.runtime, self.sequence = runtime, sequence
        sequence.lookup = oracle  # type: ignore[assignment]
        self.text, self.done, self.told = "", [], []
        self.pieces: list[bytes] = []

    def go(self) -> Run:
        while self.runtime.can_step:
            for report in self.runtime.step():
                for chunk in report.chunks if isinstance(report, Chunks) else ():
                    self.text += chunk.text
                    self.pieces += [t.piece for t in chunk.logprobs]
                    self.told.append(chunk.completion_tokens)
                if isinstance(report, Completed):
                    self.done.append(report)
        return self


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime()
    runtime.load(PLAN, str(write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")))
    yield runtime
    runtime.unload()


@pytest.mark.parametrize("sampling", [COLD, WARM], ids=["greedy", "drawn"])
def test_guessing_ahead_changes_no_token(runtime: LlamaRuntime, sampling: Sampling) -> None:
    plain = Run(runtime, sampling, Silent([])).go()
    guessed = Run(runtime, sampling, Oracle(plain.sequence.tokens)).go()
    assert guessed.sequence.tokens == plain.sequence.tokens
    assert (guessed.text, guessed.pieces) == (plain.text, plain.pieces)
    timing = guessed.done[0].timing
    assert timing.drafted_tokens > timing.accepted_tokens > 20
    assert len(guessed.told) < len(plain.told)


def test_nothing_is_drawn_beyond_the_allowance_and_it_goes_on_when_that_is_raised(runtime: LlamaRuntime) -> None:
    plain = Run(runtime, COLD, Silent([])).go()
    for first in (1, 2, 7, 39):
        run = Run(runtime, COLD, Oracle(plain.sequence.tokens), allowance=first).go()
        assert run.told[-1] == first and run.sequence.completion_tokens == first
        runtime.allow(JobId("a"), 100)
        assert run.go().sequence.tokens == plain.sequence.tokens


def test_a_stop_string_among_guesses_ends_the_answer_there(runtime: LlamaRuntime) -> None:
    plain = Run(runtime, COLD, Silent([])).go()
    stop = plain.text[9:11]
    stopping = Sampling(max_tokens=40, ignore_eos=True, stop=(stop,))
    run = Run(runtime, stopping, Oracle(plain.sequence.tokens)).go()
    assert run.text == plain.text.partition(stop)[0]
    assert run.done[0].reason is FinishReason.STOP
    assert run.done[0].usage == Run(runtime, stopping, Silent([])).go().done[0].usage


def test_what_is_guessed_and_what_of_it_was_right_is_counted(runtime: LlamaRuntime) -> None:
    before = runtime.stats
    plain = Run(runtime, COLD, Silent([])).go()
    timing = Run(runtime, COLD, Oracle(plain.sequence.tokens)).go().done[0].timing
    assert runtime.stats.drafted_tokens - before.drafted_tokens == timing.drafted_tokens
    assert runtime.stats.accepted_tokens - before.accepted_tokens == timing.accepted_tokens
