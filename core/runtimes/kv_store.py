"""Carry out what kv_slots decided: KV between slots, to host memory and back, and how fast that goes here.

Never decides what is worth keeping. In a split KV a copy goes through host memory: only the cells in use are moved, at
once, while llama.cpp's own copy takes a slot's whole stream, and only at the next step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import assert_never

import numpy as np

from core.runtimes.kv_slots import Copy, Discard, Forget, KvOrder, Restore, Save, Trim
from core.runtimes.llama_context import LlamaContext, State
from core.runtimes.prefix_cache import Costs

# One slow copy (new pages) must not decide for ever.
_WEIGHT = 0.3


class KvStore:
    """Owns what was saved to host memory, one buffer that copies go through, and one to save into again.

    Buffers are used again because new memory costs more than what is copied into it.
    """

    def __init__(self, context: LlamaContext, costs: Costs) -> None:
        self._context = context
        self._costs = costs
        self._saved: dict[int, State] = {}
        self._sizes: dict[int, int] = {}
        self._reusable: State | None = None
        self._spare: State = np.empty(0, np.uint8)
        self._in_spare: int | None = None
        self._spare_bytes = 0

    def carry_out(self, orders: Sequence[KvOrder]) -> set[int]:
        """Do all of this in order; the slots that are empty now although they should not be."""
        self._in_spare = None
        failed = set()
        for order in orders:
            slot = self._carry_out(order)
            if slot is not None:
                failed.add(slot)
        return failed

    def _carry_out(self, order: KvOrder) -> int | None:
        """Do one; the slot that it failed for."""
        match order:
            case Copy(source, target, tokens):
                return self._copy(source, target, tokens=tokens)
            case Trim(slot, tokens):
                return self._changed(slot, self._context.trim(slot, tokens))
            case Forget(slot):
                self._context.forget(slot)
                return self._changed(slot, True)
            case Save(slot, key):
                self._save(slot, key)
            case Restore(key, slot, tokens):
                return self._changed(slot, self._restore(key, slot, tokens=tokens))
            case Discard(key):
                self._reusable = self._saved.pop(key, self._reusable)
                self._sizes.pop(key, None)
            case _:
                assert_never(order)
        return None

    def _changed(self, slot: int, is_done: bool) -> int | None:
        if slot == self._in_spare:
            self._in_spare = None
        return None if is_done else slot

    def _copy(self, source: int, target: int, *, tokens: int) -> int | None:
        context = self._context
        if tokens == 0 or (context.can_trim and not context.is_split):
            context.forget(target)
            context.share(source, target, tokens=tokens)
            return self._changed(target, True)
        if self._in_spare != source:
            self._spare_bytes = self._read(source)
            self._in_spare = source if self._spare_bytes else None
        if target == self._in_spare:
            self._in_spare = None
        is_done = self._spare_bytes > 0 and context.load(target, self._spare[: self._spare_bytes])
        return None if is_done and context.trim(target, tokens) else target

    def _read(self, slot: int) -> int:
        """A slot's state into the buffer; its size, 0 when there is no memory for it."""
        size = self._context.state_bytes(slot)
        try:
            if self._spare.nbytes < size:
                self._spare = np.zeros(size, np.uint8)
        except MemoryError:
            return 0
        began = time.perf_counter()
        written = self._context.save(slot, self._spare[:size])
        self._learn(time.perf_counter() - began, written)
        return written

    def _save(self, slot: int, key: int) -> None:
        """What cannot be saved is missed at its restore, and read again."""
        size = self._context.state_bytes(slot)
        state, self._reusable = self._reusable, None
        if state is None or not size <= state.nbytes <= 2 * size:
            try:
                state = np.empty(size, np.uint8)
            except MemoryError:
                return
        began = time.perf_counter()
        written = self._context.save(slot, state)
        self._learn(time.perf_counter() - began, written)
        if written:
            self._saved[key], self._sizes[key] = state, written

    def _restore(self, key: int, slot: int, *, tokens: int) -> bool:
        state = self._saved.get(key)
        if state is None:
            self._context.forget(slot)
            return False
        return self._context.load(slot, state[: self._sizes[key]]) and self._context.trim(slot, tokens)

    def _learn(self, took_s: float, size: int) -> None:
        if size:
            self._costs.copy_s_per_byte += _WEIGHT * (took_s / size - self._costs.copy_s_per_byte)
