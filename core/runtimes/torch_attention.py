"""Attention over the slots of a batch: every row of a step reads and extends the KV of its own sequence.

transformers runs a step as one row of tokens, so that each weight is read once for all sequences; here the rows part.
Decoding rows are one batched call over the slots, each run of prompt tokens a call of its own. A model that
needs what is not here (such as attention to later tokens) is refused when it is loaded, never computed wrongly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_kv import TorchKv
from core.worker.messages import FaultKind

NAME = "starling"
# What models hand to every attention function, and what changes nothing here.
_HARMLESS = {"position_ids", "use_cache", "is_causal", "cache", "output_attentions", "cu_seq_lens_q", "dropout"}


class Run(NamedTuple):
    """Consecutive prompt tokens of one slot (None: a text on its own, read without KV)."""

    slot: int | None
    start: int
    length: int


class Rows(NamedTuple):
    """What one forward pass is over: one row of each decoding slot first, in rising order, then the runs.

    places are the tokens that a decoding slot has in its KV already: its row's position.
    """

    slots: list[int]
    places: list[int]
    runs: list[Run]


class Pass:
    """One forward pass as the layers see it: which row belongs to which slot, and which tokens it may look at."""

    def __init__(self, kv: TorchKv, rows: Rows, *, device: torch.device) -> None:
        slots, places, runs = rows
        self.kv = kv
        self.slots = torch.tensor(slots, dtype=torch.long, device=device)
        self.places = torch.tensor(places, dtype=torch.long, device=device)
        self.runs = runs
        self.decoding = len(slots)
        self.top = max(slots, default=-1) + 1
        self.longest = max(places, default=-1) + 1
        self.is_dense = slots == list(range(len(slots)))
        self._device = device
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}

    def decode_mask(self, window: int | None) -> torch.Tensor:
        """Which of the first `longest` tokens each slot sees: bool [top, 1, 1, longest]."""
        found = self._masks.get((-1, window))
        if found is None:
            ends = torch.zeros(self.top, dtype=torch.long, device=self._device)
            ends[self.slots] = self.places
            found = _sees(ends[:, None, None, None], self.longest, window=window)
            self._masks[-1, window] = found
        return found

    def run_mask(self, number: int, window: int | None) -> torch.Tensor:
        """Which tokens of its sequence each token of a run sees: bool [length, start + length]."""
        found = self._masks.get((number, window))
        if found is None:
            run = self.runs[number]
            ends = torch.arange(run.start, run.start + run.length, device=self._device)
            found = _sees(ends[:, None], run.start + run.length, window=window)
            self._masks[number, window] = found
        return found


def attend(
    module: Any, query: torch.Tensor, *more: torch.Tensor, step: Pass | None = None, **asked: Any
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query [1, heads, rows, width], then keys, values and no mask; the answer is
    [1, rows, heads, width]. Raises RuntimeFault (BAD_FILE) when the model wants what is not here."""
    key, value = more[:2]
    rows = _layer(query, key, value=value, asked=asked)
    _refuse_what_is_not_here(module, asked)
    if step is None:
        raise RuntimeFault(FaultKind.BAD_FILE, "The torch runtime cannot serve this model: its layers stand alone.")
    pair = step.kv.layer(module.layer_idx, key=key, value=value)
    parts = [_decode(step, rows, pair=pair)] if step.decoding else []
    at = step.decoding
    for number, run in enumerate(step.runs):
        parts.append(_read(step, rows, pair=pair, number=number, at=at))
        at += run.length
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


class _Layer(NamedTuple):
    """One layer's part in a step; query, key and value are [rows, heads, width]."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float | None
    window: int | None
    cap: float | None
    sinks: torch.Tensor | None

    @property
    def is_plain(self) -> bool:
        """Whether torch's own kernels do all that is asked."""
        return self.cap is None and self.sinks is None


def _decode(step: Pass, rows: _Layer, *, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """All decoding slots in one call. Idle slots between them are computed too, and left out."""
    keys, values = pair
    count = step.decoding
    keys[step.slots, :, step.places] = rows.key[:count]
    values[step.slots, :, step.places] = rows.value[:count]
    query = rows.query[:count]
    if not step.is_dense:
        query = query.new_zeros(step.top, *query.shape[1:])
        query[step.slots] = rows.query[:count]
    grouped = query.reshape(step.top, keys.shape[1], -1, query.shape[2])
    seen = keys[: step.top, :, : step.longest], values[: step.top, :, : step.longest]
    mixed = _mix(rows, grouped, pair=seen, mask=step.decode_mask(rows.window)).reshape(step.top, query.shape[1], -1)
    return mixed if step.is_dense else mixed[step.slots]


def _read(
    step: Pass, rows: _Layer, *, pair: tuple[torch.Tensor, torch.Tensor], number: int, at: int
) -> torch.Tensor:
    """One run of prompt tokens. A prompt's beginning needs no mask, which for a long one would be larger than all else;
    behind it, query heads that share a key head are stacked as more rows of it."""
    run = step.runs[number]
    end = run.start + run.length
    query = rows.query[at : at + run.length]
    key, value = rows.key[at : at + run.length].transpose(0, 1), rows.value[at : at + run.length].transpose(0, 1)
    if run.slot is not None:
        keys, values = pair
        keys[run.slot, :, run.start : end] = key
        values[run.slot, :, run.start : end] = value
        key, value = keys[run.slot, :, :end], values[run.slot, :, :end]
    heads, pair = query.transpose(0, 1), (key[None], value[None])
    if run.start == 0 and rows.is_plain and (rows.window is None or run.length <= rows.window):
        mixed = scaled_dot_product_attention(heads[None], *pair, is_causal=True, scale=rows.scale, enable_gqa=True)
    else:
        shared = query.shape[1] // key.shape[0]
        stacked = heads.reshape(1, key.shape[0], shared * run.length, -1)
        mixed = _mix(rows, stacked, pair=pair, mask=step.run_mask(number, rows.window).repeat(shared, 1))
    return mixed.reshape(query.shape[1], run.length, -1).transpose(0, 1)


def _mix(
    rows: _Layer, query: torch.Tensor, *, pair: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """What each query [slots, key heads, rows, width] takes from the values; the rows of a key head are those of the
    query heads that share it, one head after the other."""
    key, value = pair
    if rows.is_plain:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=rows.scale)
    scores = (query @ key.transpose(2, 3)).float() * (query.shape[-1] ** -0.5 if rows.scale is None else rows.scale)
    if rows.cap is not None:
        scores = torch.tanh(scores / rows.cap) * rows.cap
    scores = scores.masked_fill(~mask, float("-inf"))
    if rows.sinks is not None:
        heads = rows.sinks.float().view(1, key.shape[1], -1)
        sinks = heads.repeat_interleave(query.shape[2] // heads.shape[2], dim=2)[..., None]
        scores = torch.cat([scores, sinks.expand(scores.shape[0], -1, -1, 1)], dim=-1)
    weights = scores.softmax(dim=-1)[..., : key.shape[2]]
    return weights.to(value.dtype) @ value


def _layer(query: torch.Tensor, key: torch.Tensor, *, value: torch.Tensor, asked: dict[str, Any]) -> _Layer:
    """Take out of what is asked all that is done here."""
    named = (asked.pop(name, None) for name in ("scaling", "sliding_window", "softcap", "s_aux"))
    return _Layer(query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), *named)


def _refuse_what_is_not_here(module: Any, asked: dict[str, Any]) -> None:
    strange = {name: given for name, given in asked.items() if name not in _HARMLESS}
    wanted = [name for name, given in strange.items() if given is not None and given is not False]
    if not getattr(module, "is_causal", True):
        wanted.append("attention to later tokens")
    if wanted:
        raise RuntimeFault(FaultKind.BAD_FILE, f"The torch runtime cannot serve this model: it needs {wanted[0]}.")


def _sees(ends: torch.Tensor, length: int, *, window: int | None) -> torch.Tensor:
    """True where a token at place `ends` may look at 0 .. length - 1: itself, and what is before it in the window."""
    places = torch.arange(length, device=ends.device)
    seen = places <= ends
    return seen if window is None else seen & (places > ends - window)
