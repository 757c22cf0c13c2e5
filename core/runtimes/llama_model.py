"""A GGUF model opened by llama.cpp: its facts, its words, its chat template, and a request as its prompt.

The file may be hostile: open it first in a child that may die of it. Never decodes: llama_context does.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt
from llama_cpp._ggml import libggml

from core.job import ChatMessage
from core.plan import Plan
from core.runtimes.chat_template import ChatTemplate, TemplateBroken, TemplateRefused
from core.runtimes.grammar import GrammarWords
from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_vocabulary import LlamaVocabulary
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.runtimes.turn_marks import TurnMarks
from core.worker.messages import Count, FaultKind, Generate

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
        self.words = LlamaVocabulary(self.handle)
        self._template = self._read_template()
        self._marks: TurnMarks | None = None

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
        return self.words.size

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The tokens that end the model's turn."""
        return self.words.ends

    @property
    def suppressed(self) -> tuple[int, ...]:
        """The tokens that the model file says are never to be drawn."""
        return self.words.suppressed

    @property
    def grammar_words(self) -> GrammarWords:
        """The vocabulary as grammars read it."""
        return self.words.grammar_words

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
        return self.words.piece(token)

    def prompt_of(self, asked: Generate | Count) -> list[int]:
        """What is asked as prompt tokens: the conversation through the template, or the text as it stands. Raises
        RuntimeFault (BAD_REQUEST) when the model's template refuses it."""
        if not asked.messages:
            return self.words.tokenize(asked.text)
        messages, cut = self._turn_marks().cut(asked.messages)
        text = self._render(messages)
        return self.words.tokenize(text) if cut is None else self.words.tokenize_cut(text, cut)

    def _turn_marks(self) -> TurnMarks:
        """Control tokens, and those of the added ones that the template itself writes: the others are words."""
        if self._marks is None:
            source = (C.llama_model_chat_template(self.handle, None) or b"").decode("utf-8", "replace")
            written = [t for t in self.words.added_texts if t.startswith(("<", "[")) and t in source]
            self._marks = TurnMarks([*self.words.control_texts, *written])
        return self._marks

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
        """By the model's own template; where that cannot be run, by what llama.cpp knows of its like."""
        reason = self._template
        if isinstance(self._template, ChatTemplate):
            try:
                return self._template.render(messages)
            except TemplateRefused as refusal:
                sentence = f"The model's template refuses these messages: {refusal}."
                raise RuntimeFault(FaultKind.BAD_REQUEST, sentence) from refusal
            except TemplateBroken as broken:
                reason = broken
        text = self._render_natively(messages)
        if text is None:
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"The model's chat template cannot be run: {reason}.")
        return text

    def _render_natively(self, messages: Sequence[ChatMessage]) -> str | None:
        """None when llama.cpp does not know the template. A model without any gets the most common format."""
        turns = (C.llama_chat_message * len(messages))()
        for turn, message in zip(turns, messages, strict=True):
            turn.role, turn.content = message.role.encode(), message.content.encode("utf-8", "replace")
        room = 4096 + 2 * sum(len(m.content.encode("utf-8", "replace")) + 64 for m in messages)
        buffer = ctypes.create_string_buffer(room)
        template = C.llama_model_chat_template(self.handle, None) or b"chatml"
        length = C.llama_chat_apply_template(template, turns, len(messages), True, buffer, room)
        return buffer.raw[:length].decode("utf-8", "replace") if 0 < length <= room else None

    def _read_template(self) -> ChatTemplate | TemplateBroken | None:
        source = C.llama_model_chat_template(self.handle, None)
        if not source:
            return None
        try:
            return ChatTemplate(source.decode("utf-8", "replace"), bos=self.words.bos, eos=self.words.eos)
        except TemplateBroken as broken:
            return broken


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
