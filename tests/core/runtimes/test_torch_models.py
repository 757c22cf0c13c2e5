"""Laws of the forward pass: whatever lies beside it in a step, a token's logits are those of its text alone.

Small random models of several families, written by transformers, which also says what is right.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
import transformers

from core.job import JobId
from core.plan import Plan
from core.runtimes.kv_slots import Copy, Discard, Forget, Restore, Save, Trim
from core.runtimes.prefix_cache import Costs
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.sequence import Rows as Share
from core.runtimes.sequence import Sequence
from core.runtimes.torch_model import TorchModel
from core.runtimes.torch_rows import lay_out
from core.worker.messages import FaultKind

DEMO = Path(__file__).parents[3] / "assets" / "demo_model"
SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WINDOW = 7
FAMILIES: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**SHAPE),
    "mistral, a sliding window": transformers.MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma 2, a soft cap": transformers.Gemma2Config(**SHAPE, head_dim=16, sliding_window=WINDOW),
    "gpt-oss, sinks and experts": transformers.GptOssConfig(
        **SHAPE, head_dim=16, num_local_experts=4, sliding_window=WINDOW
    ),
    "qwen 3, its own head size": transformers.Qwen3Config(**SHAPE, head_dim=32),
}
TEXTS = (30, 9, 17)
SLOTS = (0, 1, 3)
PLAN = Plan("x", "torch", "F32", slots=4, slot_context_tokens=64, prefill_chunk=8)


def write(config: Any, folder: Path) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, folder)
    return model


def load(folder: Path, plan: Plan = PLAN) -> TorchModel:
    return TorchModel(plan, str(folder), costs=Costs(), tell=lambda _fraction: None)


def sequences() -> list[Sequence]:
    torch.manual_seed(1)
    made = [
        Sequence(JobId(str(n)), torch.randint(3, 2048, (length,)).tolist(), limit=1) for n, length in enumerate(TEXTS)
    ]
    for sequence, slot in zip(made, SLOTS, strict=True):
        sequence.slot = slot
    return made


def next_shares(jobs: list[Sequence]) -> list[Share]:
    """Five tokens of a text at first, then one at a time, with all beside each other."""
    left = [s for s in jobs if s.fed < len(s.tokens)]
    counts = [min(5 if s.fed < 8 else 1, len(s.tokens) - s.fed) for s in left]
    return [Share(s, s.fed, count, True, count) for s, count in zip(left, counts, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_has_the_logits_of_its_text_alone(family: str, tmp_path: Path) -> None:
    right = write(FAMILIES[family], tmp_path)
    model = load(tmp_path)
    jobs = sequences()
    with torch.inference_mode():
        expected = [right(torch.tensor([s.tokens])).logits[0] for s in jobs]
    worst = 0.0
    while shares := next_shares(jobs):
        laid = lay_out(shares)
        logits = model.decode(laid.tokens, laid.rows, drawing=laid.drawing)
        for share, row in zip(laid.order, logits, strict=True):
            share.sequence.advance(share.start + share.count)
            wanted = expected[int(share.sequence.job_id)][share.sequence.fed - 1]
            worst = max(worst, float((row - wanted).abs().max()))
    model.close()
    assert worst < 1e-5


def test_layers_that_are_no_attention_are_refused(tmp_path: Path) -> None:
    write(transformers.Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"]), tmp_path)
    with pytest.raises(RuntimeFault, match="not all of its layers are attention") as refused:
        load(tmp_path)
    assert refused.value.kind is FaultKind.BAD_FILE


def test_kv_moves_bit_by_bit(tmp_path: Path) -> None:
    write(FAMILIES["llama"], tmp_path)
    model = load(tmp_path)
    [job, *_] = sequences()
    first = lay_out([Share(job, 0, 20, True, 1)])
    model.decode(first.tokens, first.rows, drawing=first.drawing)

    def after(slot: int) -> torch.Tensor:
        """The logits of the 21st token."""
        job.slot, job.fed = slot, 20
        laid = lay_out([Share(job, 20, 1, True, 1)])
        return model.decode(laid.tokens, laid.rows, drawing=laid.drawing).clone()

    here = after(0)
    assert model.kv.carry_out([Copy(0, 2, 20)]) == set()
    assert torch.equal(after(2), here)
    assert model.kv.carry_out([Trim(2, 20), Save(2, 5), Forget(2), Forget(0), Restore(5, 0, 20)]) == set()
    assert torch.equal(after(0), here)
    assert model.kv.carry_out([Discard(5), Restore(5, 1, 20), Restore(6, 3, 1)]) == {1, 3}
    assert not torch.equal(after(1), here)
    model.close()


@pytest.mark.parametrize(("quantization", "bound"), [("F16", 0.01), ("BF16", 0.1), ("INT8", 0.1)])
def test_narrower_numbers_stay_near(quantization: str, bound: float, tmp_path: Path) -> None:
    right = write(FAMILIES["llama"], tmp_path)
    model = load(tmp_path, Plan("x", "torch", quantization, slots=1, slot_context_tokens=64))
    whole = load(tmp_path)
    [job, *_] = sequences()
    job.slot = 0
    with torch.inference_mode():
        expected = right(torch.tensor([job.tokens])).logits[0, -1]
    laid = lay_out([Share(job, 0, len(job.tokens), True, 1)])
    found = model.decode(laid.tokens, laid.rows, drawing=laid.drawing)[0]
    assert float((found - expected).abs().max()) < bound * float(expected.std())
    assert model.memory_bytes < 0.6 * whole.memory_bytes
    model.close()
    whole.close()


def test_a_context_that_no_memory_holds_is_out_of_memory_with_what_was_free(tmp_path: Path) -> None:
    write(FAMILIES["llama"], tmp_path)
    with pytest.raises(OutOfMemory) as refused:
        load(tmp_path, Plan("x", "torch", "F32", slots=2, slot_context_tokens=1 << 44, prefill_chunk=8))
    assert refused.value.free_bytes > 0
