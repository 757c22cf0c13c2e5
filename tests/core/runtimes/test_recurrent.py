"""What holds for a recurrent model, whose memory cannot forget a tail: all but the sharing of partial prefixes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from core.job import JobId, Sampling, Timing
from core.plan import Plan
from core.runtimes.llama_runtime import LlamaRuntime
from core.worker.messages import Chunks, Completed, Generate
from tests.models import CHATML, _add_vocabulary

HIDDEN, INNER, STATE, RANK, KERNEL = 64, 128, 8, 8, 4
PLAN = Plan(
    model="tiny",
    runtime="llama.cpp",
    quantization="F32",
    slots=3,
    slot_context_tokens=256,
    prefill_chunk=32,
    prefix_cache=True,
    draft_tokens=3,
    steady=True,
)
TEXT = "everything that was ever said about recurrent models and their states"


def write_tiny_mamba(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("Tiny recurrent")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(2)
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    words = _add_vocabulary(writer, CHATML)
    rng = np.random.default_rng(3)
    shapes = {"token_embd.weight": (words, HIDDEN), "output.weight": (words, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(2):
        names = {
            "attn_norm.weight": (HIDDEN,),
            "ssm_in.weight": (2 * INNER, HIDDEN),
            "ssm_conv1d.weight": (INNER, KERNEL),
            "ssm_conv1d.bias": (INNER,),
            "ssm_x.weight": (RANK + 2 * STATE, INNER),
            "ssm_dt.weight": (INNER, RANK),
            "ssm_dt.bias": (INNER,),
            "ssm_a": (INNER, STATE),
            "ssm_d": (INNER,),
            "ssm_out.weight": (HIDDEN, INNER),
        }
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in names.items()}
    for name, shape in shapes.items():
        weights = rng.standard_normal(shape).astype(np.float32) * 0.3
        if name.endswith(("norm.weight", "ssm_d")):
            weights = np.ones(shape, np.float32)
        if name.endswith("ssm_a"):
            weights = -np.abs(weights) - 0.1
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["split", "unified"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime()
    path = write_tiny_mamba(tmp_path_factory.mktemp("models") / "mamba.gguf")
    runtime.load(msgspec.structs.replace(PLAN, unified_kv=request.param, steady=False), str(path))
    yield runtime
    runtime.unload()


class Told:
    def __init__(self) -> None:
        self.pieces: dict[str, list[bytes]] = {}
        self.timings: dict[str, Timing] = {}


def finish(runtime: LlamaRuntime, told: Told, *, steps: int = 1000) -> Told:
    for _ in range(steps):
        if not runtime.can_step:
            break
        for report in runtime.step():
            for chunk in report.chunks if isinstance(report, Chunks) else ():
                told.pieces.setdefault(chunk.job_id, []).extend(t.piece for t in chunk.logprobs)
            if isinstance(report, Completed):
                told.timings[report.job_id] = report.timing
    return told


def ask(name: str, text: str, *, scope: str = "") -> Generate:
    sampling = Sampling(max_tokens=20, top_logprobs=0, ignore_eos=True)
    return Generate(JobId(name), (), sampling, text=text, cache_scope=scope)


def test_neighbours_preemption_and_another_prefix_change_no_answer(runtime: LlamaRuntime) -> None:
    assert runtime._context is not None and not runtime._context.can_trim
    texts = {"a": TEXT, "b": TEXT + " more", "c": TEXT[:40] + " less", "d": "unlike"}
    alone = {}
    for name, text in texts.items():
        runtime.add(ask(name, text, scope=f"alone-{name}"))
        alone |= finish(runtime, Told()).pieces
    told = Told()
    for name, text in texts.items():
        runtime.add(ask(name, text))
    finish(runtime, told, steps=8)
    assert len(runtime.preempt(JobId("a"))) == 1
    finish(runtime, told, steps=8)
    runtime.resume(JobId("a"))
    finish(runtime, told)
    assert told.pieces == alone


def test_a_prompt_that_goes_on_from_all_that_was_said_is_not_read_again(runtime: LlamaRuntime) -> None:
    limited = Sampling(max_tokens=1, top_logprobs=0)
    runtime.add(Generate(JobId("first"), (), limited, text=TEXT, cache_scope="chat"))
    finish(runtime, Told())
    runtime.add(ask("second", TEXT + " and on it goes", scope="chat"))
    assert finish(runtime, Told()).timings["second"].cached_tokens >= 40
    runtime.add(ask("third", TEXT[:50], scope="chat"))
    assert finish(runtime, Told()).timings["third"].cached_tokens == 0
