"""How fast the processor reads memory and multiplies matrices, with as many threads as serving uses.

Never measures a model: model_speed does.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from core.runtimes.steadiness import Effort, Sampled, steady


def host_bandwidth(threads: int, effort: Effort) -> Sampled:
    """GB/s of reading, by dot products over more than any cache holds: what decoding is bound by."""
    parts = [np.ones(effort.buffer_bytes // 4 // threads, np.float32) for _ in range(threads)]
    gigabytes = sum(part.nbytes for part in parts) / 1e9
    with ThreadPoolExecutor(threads) as pool:

        def sample() -> float:
            began = time.perf_counter()
            list(pool.map(lambda part: np.dot(part, part), parts))
            return gigabytes / (time.perf_counter() - began)

        return steady(effort, sample)


def host_matrix_rate(threads: int, effort: Effort) -> Sampled:
    """TFLOP/s of single-threaded float32 products side by side (the child's BLAS has one thread): no spinning."""
    left = np.ones((effort.matrix, effort.matrix), np.float32)
    outs = [np.empty_like(left) for _ in range(threads)]
    teraflop = threads * 2 * effort.matrix**3 / 1e12
    with ThreadPoolExecutor(threads) as pool:

        def sample() -> float:
            began = time.perf_counter()
            list(pool.map(lambda out: np.matmul(left, left, out=out), outs))
            return teraflop / (time.perf_counter() - began)

        return steady(effort, sample)
