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
_NO_ROOM, _ABORTED, _ALLOC_FAILED = 1, 2, -2
# Without chunks a prompt of any length goes into one step; llama.cpp takes it in passes of this many tokens.
WHOLE_PASS_TOKENS = 512
# From so many tokens of one sequence on, llama.cpp's flash attention on a CPU takes another kernel.
STEADY_CHUNK = 63

Logits = npt.NDArray[np.float32]
State = npt.NDArray[np.uint8]


class KvFull(OutOfMemory):
    """There are too few free cells for the step's rows; nothing has changed."""


class StepAborted(RuntimeFault):
    """The step ended early; some of its rows may be in the KV."""


class LlamaContext:
    """Owns the KV and the batch buffers. Raises RuntimeFault when it cannot be made; close frees it.

    is_split: whether each slot has a KV of its own. can_trim: whether a slot can forget its last tokens.
    """

    def __init__(self, model: LlamaModel, plan: Plan, *, log: LlamaLog) -> None:
        self.is_split = is_split(plan)
        self.can_trim = not (C.llama_model_is_recurrent(model.handle) or C.llama_model_is_hybrid(model.handle))
        self._most_outputs = plan.slots * max(1 + plan.draft_tokens, 1 + plan.steady)
        self._rows = self._most_outputs + most_read(plan)
        self.handle = C.llama_init_from_model(model.handle, _params(plan, rows=self._rows, outputs=self._most_outputs))
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
        self._decode = C.llama_decode
        # the binding's own function makes a new pointer object a call; the address alone tells whether the view holds
        self._get_logits = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", C._lib))
        self._logits: Logits = np.zeros((0, self._vocabulary), np.float32)
        self._logits_at: int | None = None
        self._filled = 0

    def close(self) -> None:
        """Free KV and buffers."""
        if self.handle:
            C.llama_free(self.handle)
            self.handle = None

    def begin(self) -> None:
        """Start to fill a step."""
        self._filled = 0

    def put(self, tokens: list[int], *, slot: int, position: int, draws: int) -> int:
        """Add consecutive tokens of one slot, the last few of which give logits; slots must come in rising order. The
        row of the last one."""
        start, end = self._filled, self._filled + len(tokens)
        self._tokens[start:end] = tokens
        self._positions[start:end] = range(position, position + len(tokens))
        self._slots[start:end] = slot
        self._draws[start:end] = 0
        self._draws[end - draws : end] = 1
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
        """Run the step. Raises KvFull, StepAborted, OutOfMemory or RuntimeFault; `held` then says what is in the KV."""
        self._batch.n_tokens = self._filled
        code = self._decode(self.handle, self._batch)
        match code:
            case 0:
                return
            case _ if code == _NO_ROOM:
                raise KvFull("There was no memory left for the next step.")
            case _ if code == _ABORTED:
                raise StepAborted(FaultKind.INTERNAL, "The step was aborted.")
            case _ if code == _ALLOC_FAILED:
                raise OutOfMemory("There was no memory left for the next step.")
            case _:
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

    def held(self, slot: int) -> int:
        """How many tokens a slot holds."""
        return int(C.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def trim(self, slot: int, tokens: int) -> bool:
        """Let a slot forget all but its first tokens; False when it cannot, and is empty now."""
        if tokens >= self.held(slot) or C.llama_memory_seq_rm(self._memory, slot, tokens, -1):
            return True
        self.forget(slot)
        return False

    def share(self, source: int, target: int, *, tokens: int) -> None:
        """Unified KV only: let an empty slot hold the first tokens of another, in the same cells."""
        if tokens > 0:
            C.llama_memory_seq_cp(self._memory, source, target, 0, tokens)

    def state_bytes(self, slot: int) -> int:
        """The size of a slot's saved state."""
        return int(C.llama_state_seq_get_size(self.handle, slot))

    def save(self, slot: int, into: State) -> int:
        """Copy a slot's state out; how many bytes it has, 0 when it failed."""
        return int(C.llama_state_seq_get_data(self.handle, _pointer(into, ctypes.c_uint8), into.nbytes, slot))

    def load(self, slot: int, state: State) -> bool:
        """Let a slot hold a saved state; False when it cannot, and is empty now."""
        if C.llama_state_seq_set_data(self.handle, _pointer(state, ctypes.c_uint8), state.nbytes, slot):
            return True
        self.forget(slot)
        return False

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


def is_split(plan: Plan) -> bool:
    """Whether each slot has a KV of its own: steady plans need that, as a shared one mixes up the cells' order."""
    return plan.steady or not plan.unified_kv


def most_read(plan: Plan) -> int:
    """The most prompt tokens in a step: a whole context when there is no chunking."""
    if plan.steady:
        return max(2, min(plan.prefill_chunk or STEADY_CHUNK, STEADY_CHUNK))
    return plan.prefill_chunk or plan.slot_context_tokens


def _params(plan: Plan, *, rows: int, outputs: int) -> C.llama_context_params:
    if plan.kv_type not in KV_TYPES:
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"There is no KV type {plan.kv_type}.")
    params = C.llama_context_default_params()
    params.n_ctx = plan.slots * _padded(plan.slot_context_tokens)
    params.n_batch = rows
    params.n_ubatch = rows if plan.prefill_chunk else min(rows, WHOLE_PASS_TOKENS)
    params.n_seq_max = plan.slots
    params.n_outputs_max = outputs
    params.n_threads = params.n_threads_batch = max(1, plan.threads)
    params.flash_attn_type = _FLASH[plan.flash_attention or plan.steady]
    params.type_k = params.type_v = KV_TYPES[plan.kv_type]
    params.kv_unified = not is_split(plan)
    params.offload_kqv = params.op_offload = plan.gpu_layers > 0
    params.no_perf = True
    return params


def _padded(tokens: int) -> int:
    return -(-tokens // 256) * 256
