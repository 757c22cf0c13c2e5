"""The keys and values of all slots in torch tensors, and carrying out what kv_slots orders to be done with them.

Never decides what is worth keeping. Copies are bit by bit, so that no answer changes by being moved or put aside.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import assert_never

import torch

from core.runtimes.kv_slots import Copy, Discard, Forget, KvOrder, Restore, Save, Trim
from core.runtimes.prefix_cache import Costs

# One slow copy (new pages) must not decide for ever.
_WEIGHT = 0.3

Pair = tuple[torch.Tensor, torch.Tensor]


class TorchKv:
    """By layer two tensors [slots, heads, context, width], made when the layer is first written.

    costs learn how fast copies to host memory are.
    """

    def __init__(self, *, slots: int, context: int, costs: Costs) -> None:
        self._shape = slots, context
        self._layers: dict[int, Pair] = {}
        self._held = [0] * slots
        self._saved: dict[int, list[Pair]] = {}
        self._costs = costs

    @property
    def layer_count(self) -> int:
        """How many layers have written here."""
        return len(self._layers)

    @property
    def used_bytes(self) -> int:
        """What all slots take together, whether full or not."""
        return sum(tensor.nbytes for pair in self._layers.values() for tensor in pair)

    @property
    def token_bytes(self) -> float:
        """What one token takes."""
        slots, context = self._shape
        return self.used_bytes / (slots * context)

    def layer(self, number: int, *, key: torch.Tensor, value: torch.Tensor) -> Pair:
        """This layer's keys and values; key and value show the kind: [1, heads, rows, width]."""
        found = self._layers.get(number)
        if found is None:
            found = self._layers[number] = self._room(key), self._room(value)
        return found

    def hold(self, slot: int, tokens: int) -> None:
        """A step writes so many tokens of a slot."""
        self._held[slot] = max(self._held[slot], tokens)

    def carry_out(self, orders: Sequence[KvOrder]) -> set[int]:
        """Do all of this in order; the slots that are empty now although they should not be."""
        with torch.inference_mode():
            return {slot for order in orders if (slot := self._carry_out(order)) is not None}

    def clear(self) -> None:
        """Empty every slot."""
        self.carry_out([Forget(slot) for slot in range(len(self._held))])

    def _carry_out(self, order: KvOrder) -> int | None:
        """Do one; the slot that it failed for."""
        match order:
            case Copy(source, target, tokens):
                self._copy(source, target, tokens=tokens)
            case Trim(slot, tokens):
                self._wipe(slot, tokens)
            case Forget(slot):
                self._wipe(slot, 0)
            case Save(slot, key):
                self._save(slot, key)
            case Restore(key, slot, tokens):
                return None if self._restore(key, slot, tokens=tokens) else slot
            case Discard(key):
                self._saved.pop(key, None)
            case _:
                assert_never(order)
        return None

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        slots, context = self._shape
        shape = (slots, like.shape[1], context, like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _wipe(self, slot: int, tokens: int) -> None:
        """Forget all but the first tokens. Hidden values still meet a weight of zero, and zero times an infinity, which
        a 16-bit model can leave behind, is no number."""
        held = self._held[slot]
        if held > tokens:
            for _, values in self._layers.values():
                values[slot, :, tokens:held] = 0
        self._held[slot] = min(held, tokens)

    def _copy(self, source: int, target: int, *, tokens: int) -> None:
        self._wipe(target, tokens)
        for pair in self._layers.values():
            for tensor in pair:
                tensor[target, :, :tokens] = tensor[source, :, :tokens]
        self._held[target] = tokens

    def _save(self, slot: int, key: int) -> None:
        """What cannot be saved is missed at its restore, and read again."""
        held = self._held[slot]
        began = time.perf_counter()
        try:
            saved = [(_on_host(k[slot, :, :held]), _on_host(v[slot, :, :held])) for k, v in self._layers.values()]
        except (MemoryError, RuntimeError):
            return
        size = sum(tensor.nbytes for pair in saved for tensor in pair)
        if size:
            self._saved[key] = saved
            took_s = time.perf_counter() - began
            self._costs.copy_s_per_byte += _WEIGHT * (took_s / size - self._costs.copy_s_per_byte)

    def _restore(self, key: int, slot: int, *, tokens: int) -> bool:
        self._wipe(slot, 0)
        saved = self._saved.get(key)
        if saved is None or saved[0][0].shape[1] < tokens:
            return False
        for pair, copies in zip(self._layers.values(), saved, strict=True):
            for tensor, copy in zip(pair, copies, strict=True):
                tensor[slot, :, :tokens] = copy[:, :tokens].to(tensor.device)
        self._held[slot] = tokens
        return True


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("cpu", copy=True)
