"""Makes models for tests: tiny, random, whole in every respect but sense."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES = ("Ġ t", "h e", "i n", "e r", "a n", "Ġt he")


def write_tiny_gguf(
    path: Path,
    *,
    hidden: int = 256,
    layers: int = 2,
    context: int = 512,
    seed: int = 7,
    template: str = CHATML,
    shard_tensors: int = 0,
    title: str = "Tiny random",
) -> Path:
    """A random F16 Llama of half a million weights with a byte-level BPE vocabulary; the same seed is the same file.

    With shard_tensors it is written as shards of so many tensors, beside path, which is then not there itself.
    """
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=shard_tensors)
    writer.add_name(title)
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_shape(writer, hidden=hidden, layers=layers, context=context)
    words = _add_vocabulary(writer, template)
    rng = np.random.default_rng(seed)
    for name, shape in _tensors(hidden, layers, words):
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            weights = (rng.standard_normal(shape) * 0.2).astype(np.float16)
            if name == "output.weight":
                weights[-len(CONTROL) :] = 0  # greedy never ends an answer: only its limit does
            writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_shape(writer: gguf.GGUFWriter, *, hidden: int, layers: int, context: int) -> None:
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(hidden // 4)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_vocabulary(writer: gguf.GGUFWriter, template: str) -> int:
    words = [*byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES), *CONTROL]
    types = [gguf.TokenType.NORMAL] * (len(words) - len(CONTROL)) + [gguf.TokenType.CONTROL] * len(CONTROL)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types(types)
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(words.index("<|endoftext|>"))
    writer.add_eos_token_id(words.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    return len(words)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte, in its order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(others))]


def _tensors(hidden: int, layers: int, words: int) -> list[tuple[str, tuple[int, ...]]]:
    half = hidden // 2
    listed: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (words, hidden))]
    for layer in range(layers):
        listed += [
            (f"blk.{layer}.attn_norm.weight", (hidden,)),
            (f"blk.{layer}.attn_q.weight", (hidden, hidden)),
            (f"blk.{layer}.attn_k.weight", (half, hidden)),
            (f"blk.{layer}.attn_v.weight", (half, hidden)),
            (f"blk.{layer}.attn_output.weight", (hidden, hidden)),
            (f"blk.{layer}.ffn_norm.weight", (hidden,)),
            (f"blk.{layer}.ffn_gate.weight", (2 * hidden, hidden)),
            (f"blk.{layer}.ffn_up.weight", (2 * hidden, hidden)),
            (f"blk.{layer}.ffn_down.weight", (hidden, 2 * hidden)),
        ]
    return [*listed, ("output_norm.weight", (hidden,)), ("output.weight", (words, hidden))]
