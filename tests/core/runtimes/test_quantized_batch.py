"""What holds on quantized weights, where llama.cpp's kernels change with the number of rows.

In company the logits stay within a bound, and one sequence run alone is exactly repeatable.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.job import JobId, Sampling, TokenLogprob
from core.plan import Plan
from core.runtimes.llama_file import quantize_file
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Chunks, Generate, Quantize
from tests.models import write_tiny_gguf

PLAN = Plan(model="tiny", runtime="llama.cpp", quantization="", slots=6, slot_context_tokens=256, prefill_chunk=32)
PROMPTS = tuple(f"{'something ' * (n % 4)}about the number {n}" for n in range(6))
# of log probabilities, as long as both answers say the same; the logits' standard deviation is 3
BOUND = 0.5

Answer = list[TokenLogprob]


@pytest.fixture(scope="module", params=["Q8_0", "Q4_0"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    source, target = write_tiny_gguf(folder / "f16.gguf"), folder / f"{request.param}.gguf"
    quantize_file(Quantize(str(source), str(target), request.param, 1), lambda fraction, name: None)
    return target


def answers(path: Path, *together: int) -> dict[int, Answer]:
    runtime = LlamaRuntime()
    runtime.load(PLAN, str(path))
    for number in together:
        sampling = Sampling(max_tokens=32, top_logprobs=3, ignore_eos=True)
        runtime.add(Generate(JobId(str(number)), (), sampling, text=PROMPTS[number]))
    heard: dict[int, Answer] = {number: [] for number in together}
    while runtime.can_step:
        for report in runtime.step():
            for chunk in report.chunks if isinstance(report, Chunks) else ():
                heard[int(chunk.job_id)].extend(chunk.logprobs)
    runtime.unload()
    return heard


def test_in_company_the_logits_stay_within_a_bound_of_those_alone(path: Path) -> None:
    together = answers(path, *range(len(PROMPTS)))
    alone = {number: answers(path, number)[number] for number in range(len(PROMPTS))}
    compared = 0
    for number, answer in together.items():
        for mine, its in zip(answer, alone[number], strict=True):
            assert abs(mine.top[0][1] - its.top[0][1]) < BOUND
            compared += 1
            if mine.piece != its.piece:
                break
    assert compared > 3 * len(PROMPTS)


def test_one_sequence_alone_is_exactly_repeatable(path: Path) -> None:
    assert answers(path, 2) == answers(path, 2)
