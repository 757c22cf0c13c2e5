"""The Llama network in torch: shapes, weights under their Hugging Face names, one forward pass. Never trains."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

Weights = Mapping[str, Tensor]
Rotation = tuple[Tensor, Tensor]


class Shape(msgspec.Struct, frozen=True):
    """Sizes of the network. Every input dimension is a multiple of 256, so that K quantizations fit."""

    vocabulary: int = 2048
    width: int = 256
    feed_forward: int = 512
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    context: int = 1024
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Return the width of one head."""
        return self.width // self.heads


def weight_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return every weight's name and shape. The output projection is the embedding again (tied)."""
    kv_width = shape.kv_heads * shape.head_width
    named: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, shape.width)}
    for index in range(shape.layers):
        layer = f"model.layers.{index}"
        named |= {
            f"{layer}.input_layernorm.weight": (shape.width,),
            f"{layer}.self_attn.q_proj.weight": (shape.width, shape.width),
            f"{layer}.self_attn.k_proj.weight": (kv_width, shape.width),
            f"{layer}.self_attn.v_proj.weight": (kv_width, shape.width),
            f"{layer}.self_attn.o_proj.weight": (shape.width, shape.width),
            f"{layer}.post_attention_layernorm.weight": (shape.width,),
            f"{layer}.mlp.gate_proj.weight": (shape.feed_forward, shape.width),
            f"{layer}.mlp.up_proj.weight": (shape.feed_forward, shape.width),
            f"{layer}.mlp.down_proj.weight": (shape.width, shape.feed_forward),
        }
    return named | {"model.norm.weight": (shape.width,)}


def random_weights(shape: Shape, seed: int) -> dict[str, Tensor]:
    """Return seeded starting weights; projections back into the stream start small."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in weight_shapes(shape).items():
        if len(size) == 1:
            weights[name] = torch.ones(size)
            continue
        deviation = 0.02 if "embed" in name else 1 / math.sqrt(size[1])
        if "o_proj" in name or "down_proj" in name:
            deviation /= math.sqrt(2 * shape.layers)
        weights[name] = torch.randn(size, generator=generator) * deviation
    return weights


class Network:
    """Shape and weights together. The weights may change between calls (training does that)."""

    def __init__(self, shape: Shape, weights: Weights) -> None:
        self.shape = shape
        self.weights = weights

    def states(self, tokens: Tensor) -> Tensor:
        """Return the normed last states, (batch, length, width), of `tokens`, (batch, length). Causal."""
        stream = embedding(tokens, self.weights["model.embed_tokens.weight"])
        turn = _rotation(self.shape, tokens.shape[1])
        for index in range(self.shape.layers):
            layer = f"model.layers.{index}"
            normed = self._norm(f"{layer}.input_layernorm", stream)
            stream = stream + self._attention(f"{layer}.self_attn", normed, turn=turn)
            normed = self._norm(f"{layer}.post_attention_layernorm", stream)
            stream = stream + self._feed_forward(f"{layer}.mlp", normed)
        return self._norm("model.norm", stream)

    def logits(self, states: Tensor) -> Tensor:
        """Return the scores of every token that may follow each state."""
        return linear(states, self.weights["model.embed_tokens.weight"])

    def _norm(self, name: str, stream: Tensor) -> Tensor:
        return rms_norm(stream, (self.shape.width,), self.weights[f"{name}.weight"], self.shape.norm_epsilon)

    def _attention(self, name: str, normed: Tensor, *, turn: Rotation) -> Tensor:
        def heads(part: str) -> Tensor:
            projected = linear(normed, self.weights[f"{name}.{part}_proj.weight"])
            return projected.unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)

        query, key, value = _rotate(heads("q"), turn), _rotate(heads("k"), turn), heads("v")
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return linear(mixed.transpose(1, 2).flatten(2), self.weights[f"{name}.o_proj.weight"])

    def _feed_forward(self, name: str, normed: Tensor) -> Tensor:
        gate = silu(linear(normed, self.weights[f"{name}.gate_proj.weight"]))
        raised = gate * linear(normed, self.weights[f"{name}.up_proj.weight"])
        return linear(raised, self.weights[f"{name}.down_proj.weight"])


def _rotation(shape: Shape, length: int) -> Rotation:
    half = shape.head_width // 2
    rates = shape.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), rates).repeat(1, 2)
    return angles.cos(), angles.sin()


def _rotate(heads: Tensor, turn: Rotation) -> Tensor:
    """Turn each head's halves (the Hugging Face order; GGUF keeps neighbours together)."""
    cos, sin = turn
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-second, first), dim=-1) * sin
