"""Texts as vectors: a second context beside the generating one, on the same weights.

Never keeps a text. The vectors have length 1, so that their product is the cosine of the angle between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import llama_cpp.llama_cpp as C  # noqa: N812
import numpy as np
import numpy.typing as npt

from core.runtimes.llama_log import LlamaLog
from core.runtimes.llama_model import LlamaModel
from core.runtimes.runtime import OutOfMemory, RuntimeFault
from core.worker.messages import FaultKind

MAX_TOKENS = 2048
MAX_TEXTS = 256
MOST_AT_ONCE = 16
MAX_BYTES_PER_TOKEN = 128

Vector = tuple[float, ...]


class Embedder:
    """Pools as the model file says, else the mean over a text's tokens. Raises RuntimeFault; close frees it."""

    def __init__(self, model: LlamaModel, *, threads: int, log: LlamaLog) -> None:
        self._model = model
        self._tokens = max(1, min(MAX_TOKENS, int(C.llama_model_n_ctx_train(model.handle))))
        self._handle = self._open(C.LLAMA_POOLING_TYPE_UNSPECIFIED, threads, log=log)
        if C.llama_pooling_type(self._handle) == C.LLAMA_POOLING_TYPE_NONE:
            C.llama_free(self._handle)
            self._handle = self._open(C.LLAMA_POOLING_TYPE_MEAN, threads, log=log)
        if C.llama_pooling_type(self._handle) == C.LLAMA_POOLING_TYPE_RANK:
            self.close()
            raise RuntimeFault(FaultKind.BAD_REQUEST, "This model ranks texts; it makes no embeddings.")
        self._width = int(C.llama_model_n_embd_out(model.handle))
        self._batch = C.llama_batch_init(self._tokens, 0, 1)

    def close(self) -> None:
        """Free the context and its buffers."""
        if self._handle:
            C.llama_free(self._handle)
            self._handle = None
            if hasattr(self, "_batch"):
                C.llama_batch_free(self._batch)

    def embed(self, texts: Sequence[str]) -> tuple[tuple[Vector, ...], int]:
        """One vector a text, in their order, and how many tokens they had. Raises RuntimeFault (BAD_REQUEST)."""
        prompts = self._read(texts)
        vectors: list[Vector] = []
        for group in _groups(prompts, self._tokens):
            vectors += self._run(group)
        return tuple(vectors), sum(map(len, prompts))

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        if not 0 < len(texts) <= MAX_TEXTS:
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"There may be 1 to {MAX_TEXTS} texts.")
        longest = max(len(text.encode("utf-8", "replace")) for text in texts)
        if longest > MAX_BYTES_PER_TOKEN * self._tokens:
            sentence = f"A text has {longest} bytes; one may have {self._tokens} tokens."
            raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        prompts = [self._model.words.tokenize(text) for text in texts]
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self._tokens:
                sentence = f"Text {number + 1} has {len(prompt)} tokens; one may have 1 to {self._tokens}."
                raise RuntimeFault(FaultKind.BAD_REQUEST, sentence)
        return prompts

    def _run(self, prompts: list[list[int]]) -> list[Vector]:
        """One pass over the weights for several texts, each a sequence of its own."""
        C.llama_memory_clear(C.llama_get_memory(self._handle), True)
        batch, row = self._batch, 0
        for number, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                batch.token[row], batch.pos[row] = token, position
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, number
                batch.logits[row] = 1
                row += 1
        batch.n_tokens = row
        code = C.llama_decode(self._handle, batch)
        if code != 0:
            raise RuntimeFault(FaultKind.INTERNAL, f"llama.cpp could not read these texts (code {code}).")
        return [self._vector(number) for number in range(len(prompts))]

    def _vector(self, number: int) -> Vector:
        pooled = C.llama_get_embeddings_seq(self._handle, number)
        if not pooled:
            raise RuntimeFault(FaultKind.INTERNAL, "llama.cpp gave no embedding for a text.")
        return _unit(np.ctypeslib.as_array(pooled, shape=(self._width,)))

    def _open(self, pooling: int, threads: int, *, log: LlamaLog) -> C.llama_context_p:
        params = C.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self._tokens
        params.n_seq_max = MOST_AT_ONCE
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = max(1, threads)
        params.embeddings = True
        params.pooling_type = pooling
        params.no_perf = True
        handle = C.llama_init_from_model(self._model.handle, params)
        if handle:
            return handle
        if log.speaks_of_memory:
            raise OutOfMemory("The context for embeddings does not fit into memory.")
        raise RuntimeFault(FaultKind.BAD_REQUEST, f"This model makes no embeddings: {log.last_error()}")


def _groups(prompts: list[list[int]], room: int) -> Iterator[list[list[int]]]:
    """As many texts together as fit into one pass, in their order."""
    group: list[list[int]] = []
    size = 0
    for prompt in prompts:
        if group and (size + len(prompt) > room or len(group) == MOST_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(prompt)
        size += len(prompt)
    if group:
        yield group


def _unit(vector: npt.NDArray[np.float32]) -> Vector:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    scaled: list[float] = (vector / max(length, 1e-30)).astype(np.float32).tolist()
    return tuple(scaled)
