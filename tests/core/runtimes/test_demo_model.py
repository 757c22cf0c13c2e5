"""The same laws on the demo model, whose words make sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.job import ChatMessage, FinishReason, JobId, Sampling
from core.plan import Plan
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Chunks, Completed, Generate

DEMO = Path(__file__).parents[3] / "assets" / "demo_model" / "starling-demo-f16.gguf"
pytestmark = pytest.mark.skipif(not DEMO.is_file(), reason="the demo model is not here")
QUESTIONS = (
    "What is the capital of France?",
    "What does HTTP status 404 mean?",
    "What is 7 plus 5?",
    "Which month comes after May?",
    "What is SIGKILL?",
    "What does ENOENT mean?",
)


@pytest.fixture(scope="module")
def runtime() -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime()
    plan = Plan("starling-demo", "llama.cpp", "F16", slots=4, slot_context_tokens=512, prefill_chunk=64)
    runtime.load(plan, str(DEMO))
    yield runtime
    runtime.unload()


def _ask(runtime: LlamaRuntime, *questions: str, stop: tuple[str, ...] = ()) -> tuple[dict[str, str], list[Completed]]:
    for question in questions:
        sampling = Sampling(max_tokens=96, stop=stop)
        runtime.add(Generate(JobId(question), (ChatMessage("user", question),), sampling))
    texts = dict.fromkeys(questions, "")
    ends = []
    while runtime.can_step:
        for report in runtime.step():
            match report:
                case Chunks(chunks=chunks):
                    for chunk in chunks:
                        texts[chunk.job_id] += chunk.text
                case Completed():
                    ends.append(report)
    return texts, ends


def test_batched_greedy_equals_alone(runtime: LlamaRuntime) -> None:
    together, _ = _ask(runtime, *QUESTIONS)
    alone = {question: _ask(runtime, question)[0][question] for question in QUESTIONS}
    assert together == alone


def test_answers_are_words_that_the_model_ends_itself(runtime: LlamaRuntime) -> None:
    texts, ends = _ask(runtime, *QUESTIONS)
    assert all(any(c.isalpha() or c.isdigit() for c in text) for text in texts.values())
    assert sum(end.reason is FinishReason.STOP for end in ends) >= len(QUESTIONS) // 2


def test_a_stop_string_across_token_borders_ends_the_answer_before_it(runtime: LlamaRuntime) -> None:
    whole = _ask(runtime, QUESTIONS[0])[0][QUESTIONS[0]]
    stop = whole[len(whole) // 2 - 3 : len(whole) // 2 + 3]
    texts, _ = _ask(runtime, QUESTIONS[0], stop=(stop,))
    assert texts[QUESTIONS[0]] == whole.partition(stop)[0]
