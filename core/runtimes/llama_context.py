"""A llama.cpp context: the KV of all slots, and one call that decodes a step's rows over reused numpy buffers.

Never knows a job: rows carry slots, tokens and positions. KV full and failed steps come out as RuntimeFault.
"""

from __future__ import annotations

import ctypes

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.plan import Plan
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.worker.messages import FaultKind

KV_TYPES = {"F32": C.GGML_TYPE_F32, "F16": C.GGML_TYPE_F16, "Q8_0": C.GGML_TYPE_Q8_0, "Q4_0": C.GGML_TYPE_Q4_0}
_FLASH = {True: C.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: C.LLAMA_FLASH_ATTN_TYPE_DISABLED}
_NO_SLOT, _ALLOC_FAILED = 1, -2

Logits = npt.NDArray[np.float32]


class LlamaContext:
    """Owns the KV and the batch buffers. Raises RuntimeFault when it cannot be made; close frees it."""

    def __init__(self, model: LlamaModel, plan: Plan, *, log: LlamaLog) -> None:
        self._rows = plan.slots + max(plan.prefill_chunk, 1)
        self.handle = C.llama_init_from_model(model.handle, _params(plan, self._rows))
        if not self.handle:
            if log.speaks_of_memory:
                raise OutOfMemory("The context of this plan does not fit into memory.")
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"llama.cpp refuses this plan: {log.last_error()}")
        self._memory = C.llama_get_memory(self.handle)
        self._vocabulary = model.vocabulary
        self._tokens = np.zeros(self._rows, np.int32)
        self._positions = np.zeros(self._rows, np.int32)
        self._slots = np.zeros(self._rows, np.int32)
        self._draws = np.zeros(self._rows, np.int8)
        self._counts = np.ones(self._rows, np.int32)
        self._slot_pointers = self._slots.ctypes.data + 4 * np.arange(self._rows, dtype=np.uintp)
        self._batch = self._make_batch()
        # the binding's own function makes a new pointer object a call; the address alone tells whether the view holds
        self._get_logits = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", C._lib))
        self._logits: Logits = np.zeros((0, self._vocabulary), np.float32)
        self._logits_at: int | None = None
        self._most_outputs = plan.slots
        self._filled = 0

    def close(self) -> None:
        """Free KV and buffers."""
        if self.handle:
            C.llama_free(self.handle)
            self.handle = None

    def begin(self) -> None:
        """Start to fill a step."""
        self._filled = 0

    def put(self, tokens: list[int], *, slot: int, position: int, draws: bool) -> int:
        """Add consecutive tokens of one slot; slots must come in rising order. The row of the last one."""
        start, end = self._filled, self._filled + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = range(position, position + len(tokens))
        self._slots[start:end] = slot
        self._draws[start:end] = 0
        self._draws[end - 1] = draws
        self._filled = end
        return end - 1

    def put_each(self, tokens: list[int], *, slots: list[int], positions: list[int]) -> None:
        """Add one drawing token for each of several slots, in rising order: a pure decode step at the cost of one."""
        start, end = self._filled, self._filled + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = positions
        self._slots[start:end] = slots
        self._draws[start:end] = 1
        self._filled = end

    def decode(self) -> None:
        """Run the step. Raises OutOfMemory or RuntimeFault; then the KV of the rows is not to be trusted."""
        self._batch.n_tokens = self._filled
        code = C.llama_decode(self.handle, self._batch)
        if code == 0:
            return
        if code in (_NO_SLOT, _ALLOC_FAILED):
            raise OutOfMemory("There was no memory left for the next step.")
        raise RuntimeFault(FaultKind.INTERNAL, f"llama.cpp could not run the step (code {code}).")

    def logits(self, outputs: int) -> Logits:
        """The last step's logits by drawing row: float32 [outputs, vocabulary], valid until the next step."""
        address = self._get_logits(self.handle)
        if address != self._logits_at:
            floats = ctypes.c_float * (self._most_outputs * self._vocabulary)
            flat = np.frombuffer(memoryview(floats.from_address(address)), np.float32)
            self._logits = flat.reshape(-1, self._vocabulary)
            self._logits_at = address
        return self._logits[:outputs]

    def forget(self, slot: int) -> None:
        """Empty a slot."""
        C.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def move(self, source: int, target: int) -> None:
        """Take a whole slot's KV over to an empty one."""
        C.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        C.llama_memory_seq_rm(self._memory, source, -1, -1)

    def clear(self) -> None:
        """Empty every slot."""
        C.llama_memory_clear(self._memory, False)

    def _make_batch(self) -> C.llama_batch:
        batch = C.llama_batch()
        batch.token = _pointer(self._tokens, C.llama_token)
        batch.pos = _pointer(self._positions, C.llama_pos)
        batch.n_seq_id = _pointer(self._counts, ctypes.c_int32)
        batch.seq_id = _pointer(self._slot_pointers, ctypes.POINTER(C.llama_seq_id))
        batch.logits = _pointer(self._draws, ctypes.c_int8)
        return batch


def _pointer(array: npt.NDArray[np.generic], of: type) -> ctypes._Pointer[ctypes.c_int32]:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(of))


def _params(plan: Plan, rows: int) -> C.llama_context_params:
    if plan.kv_type not in KV_TYPES:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"There is no KV type {plan.kv_type}.")
    params = C.llama_context_default_params()
    params.n_ctx = plan.slots * _padded(plan.slot_context_tokens)
    params.n_batch = params.n_ubatch = rows
    params.n_seq_max = params.n_outputs_max = plan.slots
    params.n_threads = params.n_threads_batch = max(1, plan.threads)
    params.flash_attn_type = _FLASH[plan.flash_attention]
    params.type_k = params.type_v = KV_TYPES[plan.kv_type]
    params.kv_unified = plan.unified_kv
    params.offload_kqv = params.op_offload = plan.gpu_layers > 0
    params.no_perf = True
    return params


def _padded(tokens: int) -> int:
    return -(-tokens // 256) * 256
