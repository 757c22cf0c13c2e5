"""Ways to choose a method for a cell that was never seen: those that the paper compares, learned from other cells.

Each learns from cells and answers with the odds that it picks each method. Never sees the cell it chooses for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightgbm
import numpy as np

from tests.bench.choice_cells import METHODS, Cell, Vector

Chooser = Callable[[Cell], Vector]
Learner = Callable[[Sequence[Cell]], Chooser]

CLUSTERS = 6
FACTORS = 2
RIDGE = 1.0
_COMMON = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 7, "verbosity": -1}
FOREST = _COMMON | {
    "boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.8, "feature_fraction": 0.6, "num_leaves": 31,
    "min_data_in_leaf": 2,
}  # fmt: skip
BOOSTING = _COMMON | {"learning_rate": 0.08, "num_leaves": 7, "min_data_in_leaf": 5, "feature_fraction": 0.8}
TREES = 150


def picks(gains: Vector) -> Vector:
    """All odds on the highest."""
    return np.asarray(np.eye(len(METHODS))[int(np.argmax(gains))])


def at_random(train: Sequence[Cell]) -> Chooser:
    """Any method."""
    return lambda cell: np.full(len(METHODS), 1 / len(METHODS))


def single_best(train: Sequence[Cell]) -> Chooser:
    """The method with the highest mean gain, always."""
    best = np.mean([cell.gain for cell in train], axis=0)
    return lambda cell: picks(best)


def clusters(train: Sequence[Cell]) -> Chooser:
    """Like ISAC: the best method of the nearest cluster of cells."""
    scaled = _scaler(train)
    points = np.array([scaled(cell) for cell in train])
    gains = np.array([cell.gain for cell in train])
    centres = _centres(points)
    nearest = np.argmin(((points[:, None] - centres) ** 2).sum(axis=2), axis=1)
    best = [gains[nearest == k].mean(axis=0) for k in range(len(centres))]
    return lambda cell: picks(best[int(np.argmin(((scaled(cell) - centres) ** 2).sum(axis=1)))])


def factors(train: Sequence[Cell]) -> Chooser:
    """Like ALORS: the matrix of gains in a few factors, and those of a new cell from its features."""
    scaled = _scaler(train)
    points = np.array([[1.0, *scaled(cell)] for cell in train])
    gains = np.array([cell.gain for cell in train])
    middle = gains.mean(axis=0)
    left, strength, right = np.linalg.svd(gains - middle, full_matrices=False)
    hidden = left[:, :FACTORS] * strength[:FACTORS]
    slope = np.linalg.solve(points.T @ points + RIDGE * np.eye(points.shape[1]), points.T @ hidden)
    return lambda cell: picks(middle + np.array([1.0, *scaled(cell)]) @ slope @ right[:FACTORS])


def forest(train: Sequence[Cell]) -> Chooser:
    """A random forest for each method's gain."""
    return _trees(train, FOREST)


def boosting(train: Sequence[Cell]) -> Chooser:
    """Gradient boosting for each method's gain."""
    return _trees(train, BOOSTING)


def oracle(train: Sequence[Cell]) -> Chooser:
    """What is best; no way to choose, but the most that one can reach."""
    return lambda cell: picks(cell.gain)


def _trees(train: Sequence[Cell], settings: dict[str, object]) -> Chooser:
    points = np.array([cell.features for cell in train])
    gains = np.array([cell.gain for cell in train])
    grown = [
        lightgbm.train(dict(settings), lightgbm.Dataset(points, gains[:, method]), num_boost_round=TREES)
        for method in range(len(METHODS))
    ]
    return lambda cell: picks(np.array([tree.predict(cell.features[None])[0] for tree in grown]))


def _scaler(train: Sequence[Cell]) -> Callable[[Cell], Vector]:
    points = np.array([cell.features for cell in train])
    middle, spread = points.mean(axis=0), np.maximum(points.std(axis=0), 1e-9)
    return lambda cell: np.asarray((cell.features - middle) / spread)


def _centres(points: Vector) -> Vector:
    """k-means, begun from points that lie far apart."""
    chosen = [points[0]]
    while len(chosen) < min(CLUSTERS, len(points)):
        away = np.min([((points - centre) ** 2).sum(axis=1) for centre in chosen], axis=0)
        chosen.append(points[int(np.argmax(away))])
    centres = np.array(chosen)
    for _ in range(50):
        nearest = np.argmin(((points[:, None] - centres) ** 2).sum(axis=2), axis=1)
        centres = np.array([points[nearest == k].mean(axis=0) for k in np.unique(nearest)])
    return centres
