"""Models of a realistic shape with random weights and a vocabulary of made-up words, for measuring speed.

The same shape is the same file, byte for byte. Never says anything that makes sense.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import msgspec
import numpy as np
import numpy.typing as npt
import trio

from core.worker.messages import Quantize, Quantized
from core.worker.process import run_once
from tests.bench.cache import cache_folder
from tests.models import CHATML, CONTROL, byte_alphabet

FORMAT = 1
SEED = 7
SCALE = 0.02
# No multiple of any row's length: no two rows of a tensor begin at the same place of the pool.
POOL = (1 << 22) + 15
QUANTIZE_S = 1800.0
SPACE = "Ġ"
DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo_model" / "starling-demo-f16.gguf"


class Shape(msgspec.Struct, frozen=True):
    """A Llama's dimensions."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = 32_000
    context: int = 32_768

    @property
    def kv_width(self) -> int:
        """Width of the keys of one token."""
        return self.hidden // self.heads * self.kv_heads

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(math.prod(dimensions) for _, dimensions in _tensors(self))


SHAPES = {
    "20m": Shape(hidden=256, feed_forward=1024, layers=10, heads=4, kv_heads=2, vocabulary=19_000),
    "60m": Shape(hidden=512, feed_forward=2048, layers=10, heads=8, kv_heads=4, vocabulary=19_000),
    "160m": Shape(hidden=768, feed_forward=3072, layers=12, heads=12, kv_heads=12),
    "1b": Shape(hidden=2048, feed_forward=5632, layers=22, heads=32, kv_heads=4),
    "8b": Shape(hidden=4096, feed_forward=14336, layers=32, heads=32, kv_heads=8, vocabulary=128_256),
}


async def synthetic_model(name: str, quantization: str) -> Path:
    """The file of this shape (a name of SHAPES) and quantization, made when it is not in the cache."""
    folder = cache_folder("models")
    shape = SHAPES[name]
    key = hashlib.sha256(msgspec.json.encode((FORMAT, SEED, SCALE, shape))).hexdigest()[:12]
    target = folder / f"{name}-{key}-{quantization}.gguf"
    if target.exists():
        return target
    source = folder / f"{name}-{key}-F16.gguf"
    if not source.exists():
        print(f"Writing the synthetic {name} model", file=sys.stderr)
        partial = source.with_suffix(".partial")
        await trio.to_thread.run_sync(write_synthetic_gguf, partial, shape)
        partial.replace(source)
    if quantization != "F16":
        await _quantize(source, target, quantization)
        source.unlink()
    return target


async def demo_model(quantization: str) -> Path:
    """The demo model of the repository in this quantization, made when it is not in the cache."""
    if quantization == "F16":
        return DEMO
    target = cache_folder("models") / f"demo-{hashlib.sha256(DEMO.read_bytes()).hexdigest()[:12]}-{quantization}.gguf"
    if not target.exists():
        await _quantize(DEMO, target, quantization)
    return target


def write_synthetic_gguf(path: Path, shape: Shape) -> None:
    """Write an F16 Llama of this shape, tensor by tensor: never more than the largest one is in memory."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Synthetic")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_vocabulary(writer, shape.vocabulary)
    tensors = list(_tensors(shape))
    for name, dimensions in tensors:
        dtype = np.dtype(np.float32 if len(dimensions) == 1 else np.float16)
        writer.add_tensor_info(name, dimensions, dtype, math.prod(dimensions) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in _weights(tensors):
        writer.write_tensor_data(values)
    writer.close()


def words(count: int, *, seed: int) -> str:
    """A text of made-up words: each is one token of every synthetic model, with the space before it."""
    letters = np.random.default_rng(seed).integers(0, 26, (count, 3))
    return "".join(" " + "".join(string.ascii_lowercase[letter] for letter in word) for word in letters)


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, kv, wide = shape.hidden, shape.kv_width, shape.feed_forward
    yield "token_embd.weight", (shape.vocabulary, hidden)
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_norm.weight", (hidden,)
        yield f"blk.{layer}.attn_q.weight", (hidden, hidden)
        yield f"blk.{layer}.attn_k.weight", (kv, hidden)
        yield f"blk.{layer}.attn_v.weight", (kv, hidden)
        yield f"blk.{layer}.attn_output.weight", (hidden, hidden)
        yield f"blk.{layer}.ffn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_up.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_down.weight", (hidden, wide)
    yield "output_norm.weight", (hidden,)
    yield "output.weight", (shape.vocabulary, hidden)


def _weights(tensors: list[tuple[str, tuple[int, ...]]]) -> Iterator[npt.NDArray[np.generic]]:
    """Each tensor's values: a stretch of one pool of normal numbers, from a place of its own."""
    rng = np.random.default_rng(SEED)
    pool = (rng.standard_normal(POOL, dtype=np.float32) * SCALE).astype(np.float16)
    for name, dimensions in tensors:
        if len(dimensions) == 1:
            yield np.ones(dimensions, np.float32)
            continue
        start = int(rng.integers(POOL))
        values = np.resize(np.roll(pool, -start), dimensions)
        if name == "output.weight":
            values[-len(CONTROL) :] = 0  # greedy never ends an answer: only its limit does
        yield values


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    alphabet = byte_alphabet()
    merges = list(itertools.islice(_merges(), size - len(alphabet) - len(CONTROL)))
    listed = [*alphabet, *(left + right for left, right in merges), *CONTROL]
    types = [gguf.TokenType.NORMAL] * (len(listed) - len(CONTROL)) + [gguf.TokenType.CONTROL] * len(CONTROL)
    writer.add_vocab_size(len(listed))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(listed)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(listed.index("<|endoftext|>"))
    writer.add_eos_token_id(listed.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _merges() -> Iterator[tuple[str, str]]:
    """Byte pairs in order of rank: words of one to three letters with the space before them, then bare ones."""
    for start, lengths in ((SPACE, (1, 2, 3)), ("", (2, 3, 4))):
        for length in lengths:
            for letters in itertools.product(string.ascii_lowercase, repeat=length):
                yield start + "".join(letters[:-1]), letters[-1]


async def _quantize(source: Path, target: Path, quantization: str) -> None:
    partial = target.with_suffix(".partial")
    command = Quantize(str(source), str(partial), quantization, threads=2)
    report = await run_once(command, deadline_s=QUANTIZE_S)
    if not isinstance(report, Quantized):
        raise RuntimeError(f"could not quantize the synthetic model: {report}")
    partial.replace(target)
