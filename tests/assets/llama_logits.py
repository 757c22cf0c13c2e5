"""One GGUF in llama.cpp with exact settings (32-bit KV, no flash attention), for comparing logits. Tests only."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt


class LlamaLogits:
    """Own a model and a context; `close` frees both."""

    def __init__(self, path: Path) -> None:
        C.llama_backend_init()
        self._quiet = C.llama_log_callback(lambda level, text, context: None)
        C.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self._model = C.llama_model_load_from_file(str(path).encode(), C.llama_model_default_params())
        assert self._model
        self._vocab = C.llama_model_get_vocab(self._model)
        self._context = C.llama_init_from_model(self._model, _exact_params())
        assert self._context

    def close(self) -> None:
        C.llama_log_set(C.llama_log_callback(), ctypes.c_void_p(0))
        C.llama_free(self._context)
        C.llama_model_free(self._model)

    def meta(self, key: str) -> str:
        text = ctypes.create_string_buffer(4096)
        C.llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        return text.value.decode()

    def tokens(self, text: str) -> list[int]:
        sent = text.encode()
        found = (C.llama_token * 512)()
        count = C.llama_tokenize(self._vocab, sent, len(sent), found, len(found), True, True)
        return list(found[:count])

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """The scores after each token, (length, vocabulary)."""
        C.llama_memory_clear(C.llama_get_memory(self._context), True)
        batch = C.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        assert C.llama_decode(self._context, batch) == 0
        C.llama_batch_free(batch)
        shape = (len(tokens), C.llama_vocab_n_tokens(self._vocab))
        return np.ctypeslib.as_array(C.llama_get_logits(self._context), shape=shape).copy()


def widen_to_f32(source: Path, target: Path) -> None:
    """Write the same weights as 32-bit floats."""
    params = C.llama_model_quantize_default_params()
    params.ftype, params.nthread = C.LLAMA_FTYPE_ALL_F32, 1
    assert C.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0


def _exact_params() -> C.llama_context_params:
    params = C.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 512, 512, 512
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = C.GGML_TYPE_F32
    params.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return params
