"""A GGUF model opened by llama.cpp: its facts, its words as tokens and back, its chat template.

The file may be hostile: open it first in a child that may die of it. Never decodes: llama_context does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence

import llama_cpp.llama_cpp as C  # noqa: N812
from llama_cpp._ggml import libggml

from core.job import ChatMessage
from core.plan import Plan
from core.runtimes.chat_template import ChatTemplate, TemplateBroken, TemplateRefused
from core.runtimes.llama_log import LlamaLog
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.worker.messages import FaultKind

MAX_PIECE_BYTES = 4096
MAX_META_BYTES = 1 << 20
ALL_LAYERS = 1 << 20
_PREFIXES = re.compile(r"^(\w+: )*(error loading model( \w+)?: )?")


class LlamaModel:
    """One open file. plan None reads everything but the weights; is_simulated lays them out by the plan and allocates
    nothing. Raises RuntimeFault; close frees it."""

    def __init__(
        self,
        path: str,
        *,
        log: LlamaLog,
        plan: Plan | None = None,
        on_progress: Callable[[float], None] | None = None,
        is_simulated: bool = False,
    ) -> None:
        C.llama_backend_init()
        self._devices = _device_list(plan)
        self._split = _split_of(plan)
        self._progress = _progress_callback(on_progress)
        params = self._params(plan)
        if is_simulated or plan is None:
            params.no_alloc, params.load_mode = True, C.LLAMA_LOAD_MODE_NONE
        self.handle = C.llama_model_load_from_file(path.encode(), params)
        if not self.handle:
            raise _load_fault(log)
        self._vocab = C.llama_model_get_vocab(self.handle)
        self._pieces: dict[int, bytes | None] = {}
        self._adds_bos = bool(C.llama_vocab_get_add_bos(self._vocab))
        self._bos = self._special(C.llama_vocab_bos(self._vocab))
        self._template = self._read_template()

    def close(self) -> None:
        """Free the weights."""
        if self.handle:
            C.llama_model_free(self.handle)
            self.handle = None

    @property
    def description(self) -> str:
        """llama.cpp's own line, such as "llama 7B Q4_0"."""
        buffer = ctypes.create_string_buffer(256)
        C.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(C.llama_vocab_n_tokens(self._vocab))

    def meta(self, key: str) -> str:
        """One value of the header as text; empty when it is absent."""
        buffer = ctypes.create_string_buffer(MAX_META_BYTES)
        length = C.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""

    def meta_int(self, key: str) -> int:
        """One value of the header as a number; 0 when it is absent or no number."""
        text = self.meta(key)
        return int(text) if text.isdecimal() else 0

    def piece(self, token: int) -> bytes | None:
        """The bytes that a token stands for (a control token: none), or None when it ends the model's turn."""
        if token not in self._pieces:
            is_end = C.llama_vocab_is_eog(self._vocab, token)
            self._pieces[token] = None if is_end else self._to_piece(token, is_special=False)
        return self._pieces[token]

    def tokenize(self, text: str) -> list[int]:
        """A rendered prompt as tokens; the model's own begin token is put first if it wants one."""
        if self._adds_bos and self._bos and text.startswith(self._bos):
            text = text[len(self._bos) :]
        raw = text.encode("utf-8", "surrogatepass")
        room = len(raw) + 8
        tokens = (C.llama_token * room)()
        count = C.llama_tokenize(self._vocab, raw, len(raw), tokens, room, True, True)
        if count < 0:
            raise RuntimeFault(FaultKind.BAD_REQUEST, "The prompt cannot be read by this model's tokenizer.")
        return list(tokens[:count])

    def prompt(self, messages: Sequence[ChatMessage]) -> list[int]:
        """A conversation as prompt tokens. Raises RuntimeFault (BAD_REQUEST) when the model's template refuses it."""
        return self.tokenize(self._render(messages))

    def _params(self, plan: Plan | None) -> C.llama_model_params:
        params = C.llama_model_default_params()
        params.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        params.n_gpu_layers = 0
        params.progress_callback = self._progress
        if plan is None:
            return params
        params.n_gpu_layers = min(plan.gpu_layers, ALL_LAYERS)
        is_alone = bool(plan.device_id) and not plan.more_devices
        params.split_mode = C.LLAMA_SPLIT_MODE_NONE if is_alone else C.LLAMA_SPLIT_MODE_LAYER
        if self._split is not None:
            params.tensor_split = ctypes.cast(self._split, ctypes.POINTER(ctypes.c_float))
        return params

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        if self._template is not None:
            try:
                return self._template.render(messages)
            except TemplateRefused as refusal:
                sentence = f"The model's template refuses these messages: {refusal}."
                raise RuntimeFault(FaultKind.BAD_REQUEST, sentence) from refusal
            except TemplateBroken:
                pass
        return self._render_natively(messages)

    def _render_natively(self, messages: Sequence[ChatMessage]) -> str:
        turns = (C.llama_chat_message * len(messages))()
        for turn, message in zip(turns, messages, strict=True):
            turn.role, turn.content = message.role.encode(), message.content.encode("utf-8", "surrogatepass")
        room = 4096 + 2 * sum(len(m.content.encode("utf-8", "surrogatepass")) + 64 for m in messages)
        buffer = ctypes.create_string_buffer(room)
        own = C.llama_model_chat_template(self.handle, None)
        for template in filter(None, (own, b"chatml")):
            length = C.llama_chat_apply_template(template, turns, len(messages), True, buffer, room)
            if 0 < length <= room:
                return buffer.raw[:length].decode("utf-8", "replace")
        raise RuntimeFault(FaultKind.BAD_REQUEST, "These messages cannot be written in the model's chat format.")

    def _read_template(self) -> ChatTemplate | None:
        source = C.llama_model_chat_template(self.handle, None)
        if not source:
            return None
        eos = self._special(C.llama_vocab_eos(self._vocab))
        try:
            return ChatTemplate(source.decode("utf-8", "replace"), bos=self._bos, eos=eos)
        except TemplateBroken:
            return None

    def _special(self, token: int) -> str:
        return self._to_piece(token, is_special=True).decode("utf-8", "replace") if token >= 0 else ""

    def _to_piece(self, token: int, *, is_special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(MAX_PIECE_BYTES)
        length = C.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, is_special)
        return buffer.raw[: max(0, length)]


def _device_list(plan: Plan | None) -> ctypes.Array[ctypes.c_void_p]:
    """NULL-terminated: the plan's GPUs, or none at all. Without a list llama.cpp would take every GPU for itself."""
    if plan is None or plan.gpu_layers <= 0:
        return (ctypes.c_void_p * 1)(None)
    by_name = libggml.ggml_backend_dev_by_name
    by_name.argtypes, by_name.restype = [ctypes.c_char_p], ctypes.c_void_p
    names = (plan.device_id, *plan.more_devices)
    devices = [by_name(name.encode()) for name in names]
    if None in devices:
        missing = names[devices.index(None)]
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"There is no device {missing} on this machine.")
    return (ctypes.c_void_p * (len(devices) + 1))(*devices, None)


def _split_of(plan: Plan | None) -> ctypes.Array[ctypes.c_float] | None:
    """Each device's share of the layers, as many floats as llama.cpp reads; None leaves it to the free memory."""
    if plan is None or not plan.layer_split:
        return None
    room = int(C.llama_max_devices())
    if len(plan.layer_split) != 1 + len(plan.more_devices) or len(plan.layer_split) > room:
        raise RuntimeFault(FaultKind.BAD_REQUEST, "This plan's split does not fit its devices.")
    return (ctypes.c_float * room)(*plan.layer_split)


def _progress_callback(on_progress: Callable[[float], None] | None) -> C.llama_progress_callback:
    def tell(fraction: float, _user: object) -> bool:
        if on_progress is not None:
            on_progress(fraction)
        return True

    return C.llama_progress_callback(tell)


def _load_fault(log: LlamaLog) -> RuntimeFault:
    if log.speaks_of_memory:
        return OutOfMemory("The model does not fit into memory.")
    said = [line for line in log.errors if "failed to load model" not in line]
    reason = re.sub(_PREFIXES, "", said[-1]).rstrip(".!") if said else "it is no model that llama.cpp can read"
    return RuntimeFault(FaultKind.BAD_FILE, f"The model file cannot be opened: {reason}.")
