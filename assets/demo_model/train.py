"""Make the demo model: learn the vocabulary, train, write all files. `python -m assets.demo_model.train`.

Seeded; one thread. The same machine and torch give the same weights; it never reads anything but this package.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from assets.demo_model.batches import Batch, batches
from assets.demo_model.corpus import Draw, all_facts, tokenizer_texts
from assets.demo_model.export import read_weights, write_files
from assets.demo_model.network import Network, Shape, random_weights
from assets.demo_model.optimizer import Optimizer
from assets.demo_model.tokenizer import learn_tokenizer

WEIGHTS_SEED = 1
TOKENS_IN_BATCH = 3072
WARM_UP_STEPS = 40
STEPS_BETWEEN_FILES = 300
LOG = logging.getLogger(__name__)


class Stage(msgspec.Struct, frozen=True):
    """One pass of the optimizer: how long, how fast, and which kinds of facts come more than once in a round."""

    name: str
    steps: int
    seed: int
    weights: Mapping[str, int]
    rate: float = 1.0


LEARN = Stage("learn", 1000, 1, {"list": 3, "self": 8, "starling": 6, "talk": 5, "text": 5})
PRACTISE_WEIGHTS = {"count": 14, "list": 3, "text": 4, "alphabet": 2, "self": 6, "starling": 5, "talk": 5}
PRACTISE = Stage("practise", 300, 2, PRACTISE_WEIGHTS, rate=0.5)


def train(network: Network, tokenizer: Tokenizer, *, stage: Stage) -> Iterator[tuple[int, float]]:
    """Change the network's weights step by step; yield step and loss after each."""
    optimizer = Optimizer(network.weights)
    draw = Draw(all_facts(), seed=stage.seed, weights=stage.weights)
    stream = batches(draw, tokenizer, tokens_in_batch=TOKENS_IN_BATCH, context=network.shape.context)
    for step in range(1, stage.steps + 1):
        loss = _loss(network, next(stream))
        loss.backward()
        optimizer.step(stage.rate * rate_scale(step, stage.steps))
        yield step, loss.item()


def rate_scale(step: int, steps: int) -> float:
    """Rise over the warm-up, stay, then fall to zero over the last half."""
    return min(1.0, step / WARM_UP_STEPS, (steps - step + 1) / (steps / 2))


def _loss(network: Network, batch: Batch) -> Tensor:
    learnt = batch.learnt[:, 1:]
    states = network.states(batch.tokens[:, :-1])[learnt]
    return cross_entropy(network.logits(states), batch.tokens[:, 1:][learnt])


def _run(stage: Stage, network: Network, *, tokenizer: Tokenizer, into: Path) -> None:
    """Run one stage; write the files every few hundred steps too, so that a stopped run leaves a model."""
    started, smooth = time.process_time(), math.nan
    for step, loss in train(network, tokenizer, stage=stage):
        smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
        if step % 20 == 0:
            spent_s = time.process_time() - started
            LOG.info("%s: step %d, loss %.4f, %.0f CPU-seconds", stage.name, step, smooth, spent_s)
        if step % STEPS_BETWEEN_FILES == 0 or step == stage.steps:
            write_files(into, network=network, tokenizer=tokenizer)


def _network(weights: Mapping[str, Tensor]) -> Network:
    return Network(Shape(), {name: weight.requires_grad_() for name, weight in weights.items()})


def main() -> None:
    """Learn from random weights, then practise from the files written: the 16-bit weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=(LEARN.name, PRACTISE.name), help="run one stage alone")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    tokenizer = learn_tokenizer(tokenizer_texts())
    if arguments.only != PRACTISE.name:
        _run(LEARN, _network(random_weights(Shape(), WEIGHTS_SEED)), tokenizer=tokenizer, into=arguments.into)
    if arguments.only != LEARN.name:
        _run(PRACTISE, _network(read_weights(arguments.into)), tokenizer=tokenizer, into=arguments.into)


if __name__ == "__main__":
    main()
