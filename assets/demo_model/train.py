"""Make the demo model: learn the vocabulary, train, write all files. `python -m assets.demo_model.train`.

Seeded; one thread. The same machine and torch give the same weights; it never reads anything but this package.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from assets.demo_model.batches import Batch, batches
from assets.demo_model.corpus import Draw, all_facts, tokenizer_texts
from assets.demo_model.export import write_files
from assets.demo_model.network import Network, Shape, random_weights
from assets.demo_model.optimizer import Optimizer
from assets.demo_model.tokenizer import learn_tokenizer

SEED = 1
TOKENS_IN_BATCH = 3072
WARM_UP_STEPS = 40
STEPS_BETWEEN_FILES = 300
LOG = logging.getLogger(__name__)


def train(network: Network, tokenizer: Tokenizer, *, steps: int) -> Iterator[tuple[int, float]]:
    """Change the network's weights step by step; yield step and loss after each."""
    optimizer = Optimizer(network.weights)
    draw = Draw(all_facts(), SEED)
    stream = batches(draw, tokenizer, tokens_in_batch=TOKENS_IN_BATCH, context=network.shape.context)
    for step in range(1, steps + 1):
        loss = _loss(network, next(stream))
        loss.backward()
        optimizer.step(rate_scale(step, steps))
        yield step, loss.item()


def rate_scale(step: int, steps: int) -> float:
    """Rise over the warm-up, stay, then fall to zero over the last half."""
    return min(1.0, step / WARM_UP_STEPS, (steps - step + 1) / (steps / 2))


def _loss(network: Network, batch: Batch) -> Tensor:
    learnt = batch.learnt[:, 1:]
    states = network.states(batch.tokens[:, :-1])[learnt]
    return cross_entropy(network.logits(states), batch.tokens[:, 1:][learnt])


def _untrained(shape: Shape) -> Network:
    return Network(shape, {name: weight.requires_grad_() for name, weight in random_weights(shape, SEED).items()})


def main() -> None:
    """Train and write the files; at every few hundred steps too, so that a stopped run leaves a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    started = time.process_time()
    network = _untrained(Shape())
    tokenizer = learn_tokenizer(tokenizer_texts())
    smooth = 0.0
    for step, loss in train(network, tokenizer, steps=arguments.steps):
        smooth = loss if step == 1 else 0.95 * smooth + 0.05 * loss
        if step % 20 == 0:
            LOG.info("step %d, loss %.4f, %.0f CPU-seconds", step, smooth, time.process_time() - started)
        if step % STEPS_BETWEEN_FILES == 0 or step == arguments.steps:
            write_files(arguments.into, network=network, tokenizer=tokenizer)


if __name__ == "__main__":
    main()
