"""Muon for the matrices, AdamW for embedding and norms. torch's own Muon works in bfloat16, slow on many CPUs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MATRIX_RATE = 0.02
VECTOR_RATE = 0.004
MOMENTUM = 0.95
# The quintic of the Newton-Schulz iteration in Jordan et al., "Muon" (2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5


class Optimizer:
    """Owns the momenta. `step(scale)` moves all weights by their gradients, then forgets the gradients."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        matrices = [name for name, weight in weights.items() if weight.ndim == 2 and "embed" not in name]
        self._matrices = [weights[name] for name in matrices]
        self._momenta = [torch.zeros_like(matrix) for matrix in self._matrices]
        rest = [weight for name, weight in weights.items() if name not in matrices]
        self._adam = torch.optim.AdamW(rest, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, scale: float) -> None:
        """Take one step at `scale` (0 to 1) of the full rates."""
        for group in self._adam.param_groups:
            group["lr"] = VECTOR_RATE * scale
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
                _turn(matrix, momentum, rate=MATRIX_RATE * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with nearly the same singular vectors and all singular values near one."""
    tall = matrix.shape[0] > matrix.shape[1]
    turned = matrix.T if tall else matrix
    turned = turned / (turned.norm() + 1e-7)
    linear_part, cubic, quintic = QUINTIC
    for _ in range(STEPS):
        square = turned @ turned.T
        turned = linear_part * turned + (cubic * square + quintic * square @ square) @ turned
    return turned.T if tall else turned


def _turn(matrix: Tensor, momentum: Tensor, *, rate: float) -> None:
    gradient = matrix.grad
    if gradient is None:
        raise ValueError("a matrix has no gradient; call backward first")
    momentum.mul_(MOMENTUM).add_(gradient)
    rows, columns = matrix.shape
    size = max(1.0, rows / columns) ** 0.5
    matrix.mul_(1 - rate * 0.01).add_(orthogonal(gradient + MOMENTUM * momentum), alpha=-rate * size)
    matrix.grad = None
