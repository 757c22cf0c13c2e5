"""Draw the next token of every sequence of a step at once, where the logits are: on the GPU, if there is one.

The order is llama.cpp's: bias, penalties, top-k, top-p, min-p, temperature, draw. Chance comes from each sequence's own
seed, one number a token, so that its company never changes what it draws. Never decides when to stop.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import torch

from core.job import Sampling
from core.runtimes.grammar import Grammar, open_grammar
from core.runtimes.logit_adjustment import has_penalties
from core.runtimes.logit_bias import NOTHING_LEFT, bias_of
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_words import Words
from core.worker.messages import FaultKind


class TorchSampler:
    """What one sequence draws by. Raises RuntimeFault (BAD_REQUEST) when made for what no token can meet."""

    def __init__(self, sampling: Sampling, words: Words) -> None:
        self.sampling = sampling
        self.grammar: Grammar | None = None
        if sampling.json_schema or sampling.grammar:
            self.grammar = open_grammar(sampling, words.grammar_words)
        self._bias = bias_of(sampling, size=words.size, ends=words.ends.tolist(), suppressed=words.suppressed)
        self._chance = random.Random(sampling.seed)  # noqa: S311  not for secrets
        self._penalizes = has_penalties(sampling)

    @property
    def is_plain(self) -> bool:
        """Whether its token is simply the largest of its row."""
        is_bare = not self._bias and not self._penalizes and self.grammar is None
        return is_bare and self.sampling.temperature <= 0

    def close(self) -> None:
        """Nothing to free."""

    def chance(self) -> float:
        """The next number of its own luck, from 0 to below 1."""
        return self._chance.random()

    def adjust(self, row: torch.Tensor, tokens: Sequence[int]) -> None:
        """Bias and penalties on a row of logits, float32 [vocabulary], in place; tokens are all so far."""
        if self._bias:
            where = torch.tensor(list(self._bias), dtype=torch.long, device=row.device)
            row[where] += torch.tensor(list(self._bias.values()), dtype=row.dtype, device=row.device)
        if self._penalizes:
            self._penalize(row, Counter(tokens[-self.sampling.penalty_tokens :]))

    def _penalize(self, row: torch.Tensor, counts: Counter[int]) -> None:
        asked = self.sampling
        where = torch.tensor(list(counts), dtype=torch.long, device=row.device)
        often = torch.tensor(list(counts.values()), dtype=row.dtype, device=row.device)
        said = row[where]
        said = torch.where(said <= 0, said * asked.repeat_penalty, said / asked.repeat_penalty)
        row[where] = said - often * asked.frequency_penalty - asked.presence_penalty


def draw(
    logits: torch.Tensor, samplers: Sequence[TorchSampler], *, tokens: Sequence[Sequence[int]]
) -> list[int | RuntimeFault]:
    """One token for each row, float32 [rows, vocabulary], or why there is none. tokens: what each sequence has."""
    drawn: list[int | RuntimeFault] = logits.argmax(dim=-1).tolist()
    special = [number for number, sampler in enumerate(samplers) if not sampler.is_plain]
    if not special:
        return drawn
    rows = logits[special]  # a copy: what is reported of a token's odds is from before all this
    chosen = [samplers[number] for number in special]
    for row, sampler, number in zip(rows, chosen, special, strict=True):
        sampler.adjust(row, tokens[number])
    picked = _pick(rows, chosen)
    found = rows.gather(-1, torch.tensor(picked, device=rows.device)[:, None])[:, 0].tolist()
    for place, number in enumerate(special):
        drawn[number] = _settle(chosen[place], rows[place], token=picked[place], logit=found[place])
    return drawn


def _pick(rows: torch.Tensor, samplers: Sequence[TorchSampler]) -> list[int]:
    """The largest of greedy rows, a draw from the others."""
    picked: list[int] = rows.argmax(dim=-1).tolist()
    warm = [number for number, sampler in enumerate(samplers) if sampler.sampling.temperature > 0]
    if warm:
        found = _sample(rows[warm], [samplers[number] for number in warm])
        for number, token in zip(warm, found, strict=True):
            picked[number] = token
    return picked


def _sample(rows: torch.Tensor, samplers: Sequence[TorchSampler]) -> list[int]:
    """Filters keep the head of each row in falling order; one number of chance falls somewhere on it."""
    asked = [sampler.sampling for sampler in samplers]
    size = rows.shape[-1]
    limits = [min(s.top_k, size) if s.top_k > 0 else size for s in asked]
    ordered, ids = rows.topk(max(limits), dim=-1)
    places = torch.arange(ordered.shape[-1], device=rows.device)
    kept = places < _column(limits, rows)
    odds = ordered.masked_fill(~kept, -math.inf).softmax(dim=-1)
    kept &= (odds.cumsum(dim=-1) - odds) < _column([s.top_p if s.top_p < 1 else 2.0 for s in asked], rows)
    floor = _column([math.log(s.min_p) if s.min_p > 0 else -math.inf for s in asked], rows)
    kept &= ordered >= ordered[:, :1] + floor
    kept[:, 0] = True
    heat = _column([s.temperature for s in asked], rows)
    weights = ((ordered - ordered[:, :1]) / heat).exp().masked_fill(~kept, 0.0)
    reached = weights.cumsum(dim=-1)
    falls = reached[:, -1:] * _column([sampler.chance() for sampler in samplers], rows)
    spot = torch.minimum((reached <= falls).sum(dim=-1, keepdim=True), kept.sum(dim=-1, keepdim=True) - 1)
    picked: list[int] = ids.gather(-1, spot)[:, 0].tolist()
    return picked


def _settle(sampler: TorchSampler, row: torch.Tensor, *, token: int, logit: float) -> int | RuntimeFault:
    """The token, if it may be said; by a grammar's rules another one, or none. Most draws obey a grammar anyway, and
    one token is quicker to check than a vocabulary."""
    grammar = sampler.grammar
    try:
        if grammar is not None and not grammar.allows(token):
            allowed = torch.from_numpy(grammar.mask()).to(row.device)
            row[: len(allowed)].masked_fill_(~allowed, -math.inf)
            row[len(allowed) :] = -math.inf
            token = _pick(row[None], [sampler])[0]
            logit = float(row[token])
        if not math.isfinite(logit):
            return RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
        if grammar is not None:
            grammar.accept(token)
    except RuntimeFault as fault:
        return fault
    return token


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
