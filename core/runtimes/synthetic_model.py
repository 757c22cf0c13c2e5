"""Write a llama of a realistic shape with random weights, straight in a quantization's own blocks.

Streamed from one seeded pool, so that nothing is quantized and little memory is taken. Never makes sense: it has no
words, only as many tokens as it is told. For measuring, not for serving.

CPU seconds of write_synthetic on two cores that were busy with other work: 134M in Q4_K_M 1.2, Q8_0 .3, F16 3.0; 1.1B
in Q4_K_M 2.8, Q8_0 .9 and F16 8.1, most of it the system's, for fresh pages of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from core.synthetic import SyntheticShape

SEED = 7
POOL_BLOCKS = 1 << 16
QUANTIZATIONS = ("Q4_K_M", "Q8_0", "F16")
_FILE_TYPES = {
    "Q4_K_M": gguf.LlamaFileType.MOSTLY_Q4_K_M,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
}
_SCALE = np.float16(2e-4)
Blocks = npt.NDArray[np.uint8]


def write_synthetic(path: Path, shape: SyntheticShape, *, quantization: str) -> int:
    """The same shape and quantization are the same file, byte by byte. Its size in bytes. Raises OSError."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, shape, quantization=quantization)
    tensors = list(_tensors(shape, quantization))
    for name, dimensions, kind in tensors:
        size = _bytes_of(dimensions, kind)
        writer.add_tensor_info(name, dimensions, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    pools: dict[Type, Blocks] = {}
    try:
        file = writer.fout[0]
        _pad(file, writer)
        for _, dimensions, kind in tensors:
            pool = pools.setdefault(kind, _pool(kind))
            _pour(file, pool, size=_bytes_of(dimensions, kind))
            _pad(file, writer)
    finally:
        writer.close()
    return path.stat().st_size


def _describe(writer: gguf.GGUFWriter, shape: SyntheticShape, *, quantization: str) -> None:
    writer.add_name(shape.name)
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("none")


def _tensors(shape: SyntheticShape, quantization: str) -> Iterator[tuple[str, tuple[int, ...], Type]]:
    """Names, dimensions (rows first) and types, in the mixture that llama.cpp's quantizer makes."""
    wide = shape.kv_width // 2
    plain, better = _types(quantization)
    yield "token_embd.weight", (shape.vocabulary, shape.hidden), plain
    yield "output_norm.weight", (shape.hidden,), Type.F32
    yield "output.weight", (shape.vocabulary, shape.hidden), better
    for layer in range(shape.layers):
        finer = better if _takes_more_bits(layer, shape.layers) else plain
        yield f"blk.{layer}.attn_norm.weight", (shape.hidden,), Type.F32
        yield f"blk.{layer}.attn_q.weight", (shape.hidden, shape.hidden), plain
        yield f"blk.{layer}.attn_k.weight", (wide, shape.hidden), plain
        yield f"blk.{layer}.attn_v.weight", (wide, shape.hidden), finer
        yield f"blk.{layer}.attn_output.weight", (shape.hidden, shape.hidden), plain
        yield f"blk.{layer}.ffn_norm.weight", (shape.hidden,), Type.F32
        yield f"blk.{layer}.ffn_gate.weight", (shape.feed_forward, shape.hidden), plain
        yield f"blk.{layer}.ffn_up.weight", (shape.feed_forward, shape.hidden), plain
        yield f"blk.{layer}.ffn_down.weight", (shape.hidden, shape.feed_forward), finer


def _types(quantization: str) -> tuple[Type, Type]:
    match quantization:
        case "Q4_K_M":
            return Type.Q4_K, Type.Q6_K
        case "Q8_0":
            return Type.Q8_0, Type.Q8_0
        case "F16":
            return Type.F16, Type.F16
        case _:
            raise ValueError(f"no synthetic model is made in {quantization}")


def _takes_more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's use_more_bits: the first and last eighth, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _bytes_of(dimensions: tuple[int, ...], kind: Type) -> int:
    sizes: tuple[int, int] = gguf.GGML_QUANT_SIZES[kind]
    weights, size = sizes
    return prod(dimensions) // weights * size


def _pool(kind: Type) -> Blocks:
    """Whole blocks of this type with finite, small scales; F32 is for norms, which are ones."""
    rng = np.random.default_rng(SEED)
    if kind is Type.F32:
        return np.ones(POOL_BLOCKS, np.float32).view(np.uint8)
    if kind is Type.F16:
        return (rng.standard_normal(32 * POOL_BLOCKS, np.float32) * 0.02).astype(np.float16).view(np.uint8)
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (POOL_BLOCKS, size), np.uint8)
    for at in _scales_at(kind):
        blocks[:, at : at + 2] = np.frombuffer(_SCALE.tobytes(), np.uint8)
    return blocks.reshape(-1)


def _scales_at(kind: Type) -> tuple[int, ...]:
    """Where a block of this type keeps its F16 scales (ggml-common.h): random bytes there would be infinities."""
    match kind:
        case Type.Q4_K:
            return (0, 2)
        case Type.Q6_K:
            return (208,)
        case _:
            return (0,)


def _pour(file: BinaryIO, pool: Blocks, *, size: int) -> None:
    """As many bytes of the pool as a tensor has, over and over."""
    write: Callable[[memoryview], object] = file.write
    whole = memoryview(pool.data)
    for _ in range(size // len(whole)):
        write(whole)
    write(whole[: size % len(whole)])


def _pad(file: BinaryIO, writer: gguf.GGUFWriter) -> None:
    writer.write_padding(file, file.tell())
