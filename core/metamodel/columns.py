"""Many cases side by side, one array a quantity: five hundred candidates cost little more than one.

Pure. Holds the same numbers as the cases, in the same order; adds nothing and rounds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.metamodel.features import Case

Vector = NDArray[np.float64]


class Columns(msgspec.Struct, frozen=True):
    """The fields of Case as arrays of equal length; unified is 0 or 1."""

    bandwidth_gbs: Vector
    matrix_tflops: Vector
    file_bytes: Vector
    active_bytes: Vector
    parameters: Vector
    active_parameters: Vector
    layers: Vector
    hidden: Vector
    bits: Vector
    dequant_class: Vector
    kv_bytes_per_token: Vector
    batch: Vector
    depth: Vector
    prompt_tokens: Vector
    chunk_tokens: Vector
    host_share: Vector
    gpus: Vector
    unified: Vector
    flash: Vector
    backend: tuple[str, ...]
    runtime: tuple[str, ...]


def columns(cases: Sequence[Case]) -> Columns:
    """The cases' numbers, turned. No case gives empty columns."""
    rows = [msgspec.structs.astuple(c) for c in cases]
    names = Case.__struct_fields__[:-2]
    numbers = np.array([row[:-2] for row in rows], dtype=np.float64).reshape(len(rows), len(names))
    return Columns(
        **dict(zip(names, numbers.T, strict=True)),
        backend=tuple(row[-2] for row in rows),
        runtime=tuple(row[-1] for row in rows),
    )
