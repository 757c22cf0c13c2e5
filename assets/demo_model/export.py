"""Write the trained model: safetensors, config and tokenizer for Hugging Face loaders, and a GGUF. Never trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from assets.demo_model.chat import BEGIN, END, SPECIAL_TOKENS, TEMPLATE
from assets.demo_model.network import Network, Shape

SAFETENSORS_NAME = "model.safetensors"
GGUF_NAME = "starling-demo-f16.gguf"
DESCRIPTION = "A very small model that knows a few hundred facts, made so that a new node has something to run."
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Array = npt.NDArray[np.floating[Any]]


def write_files(folder: Path, *, network: Network, tokenizer: Tokenizer) -> None:
    """Write all files of the model into `folder`. All weights are stored as 16-bit floats, norms too."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {name: weight.detach().to(torch.float16).contiguous() for name, weight in network.weights.items()}
    save_file(halves, folder / SAFETENSORS_NAME, metadata={"format": "pt"})
    (folder / SAFETENSORS_NAME).chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "config.json", hugging_face_config(network.shape, tokenizer))
    _write_json(folder / "tokenizer_config.json", hugging_face_tokenizer_config(network.shape))
    _write_gguf(folder / GGUF_NAME, Network(network.shape, halves), tokenizer=tokenizer)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the safetensors as 32-bit floats."""
    return {name: weight.float() for name, weight in load_file(folder / SAFETENSORS_NAME).items()}


def hugging_face_config(shape: Shape, tokenizer: Tokenizer) -> dict[str, object]:
    """Return the config.json of a LlamaForCausalLM."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": tokenizer.token_to_id(END),
        "torch_dtype": "float16",
    }


def hugging_face_tokenizer_config(shape: Shape) -> dict[str, object]:
    """Return the tokenizer_config.json, with the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "add_bos_token": False,
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }


def gguf_name(name: str) -> str:
    """Return a weight's name in a GGUF."""
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in outer:
        return outer[name]
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{LAYER_NAMES[part]}.weight"


def interleaved(weight: Array, heads: int) -> Array:
    """Return q or k rows in GGUF's order: the two halves of each head become neighbours."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows, columns)


def _write_gguf(path: Path, network: Network, *, tokenizer: Tokenizer) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    _write_identity(writer, sum(half.numel() for half in network.weights.values()))
    _write_sizes(writer, network.shape)
    _write_vocabulary(writer, tokenizer)
    for name, half in network.weights.items():
        writer.add_tensor(gguf_name(name), _gguf_array(name, half.numpy(), shape=network.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_array(name: str, half: Array, *, shape: Shape) -> Array:
    if half.ndim == 1:
        return half.astype(np.float32)  # llama.cpp wants norms as 32-bit floats
    if "q_proj" in name:
        return interleaved(half, shape.heads)
    if "k_proj" in name:
        return interleaved(half, shape.kv_heads)
    return half


def _write_identity(writer: gguf.GGUFWriter, parameters: int) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("Starling Demo")
    writer.add_organization("Starling")
    writer.add_description(DESCRIPTION)
    writer.add_license("Apache-2.0")
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation", "demo"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_sizes(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=lambda token: ids[token])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.token_to_id(BEGIN))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_eot_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
