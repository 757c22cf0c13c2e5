"""Do peers run the model that they sell? The same small greedy job at two of them, and at a third where they differ.

Pure: randomness comes in as a function. It finds who answers with another model or with nothing of worth; it can't tell
one good quantization from another, and peers of unlike hardware may differ at a near-tie of two tokens. So the question
leaves little choice, is never the same twice, and one odd answer is not yet a ban (p2p.trust).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from core.job import ChatMessage, JobId, JobRequest, JobTerms, PeerId, PriorityClass, Sampling, Usage, charge
from core.offer import Offer
from p2p.messages import SignedOffer
from p2p.peer_address import groups_of
from p2p.placement import Draw

ANSWER_TOKENS = 24
PROMPT_TOKENS = 96  # with its template: what it may cost at most is reckoned with this
NUMBERS = 5
DEADLINE_S = 120.0


def twins(found: Sequence[SignedOffer], draw: Draw) -> tuple[SignedOffer, ...]:
    """Up to three peers that sell the very same file and say so, of as many neighbourhoods as there are; none where
    there is no pair."""
    by_file = sorted(found, key=lambda signed: _file(signed.offer))
    groups = [tuple(group) for _, group in groupby(by_file, key=lambda signed: _file(signed.offer))]
    pairs = [group for group in groups if len(group) >= 2]
    if not pairs:
        return ()
    group = sorted(pairs[int(draw() * len(pairs))], key=lambda signed: (draw(), signed.offer.peer_id))
    apart: list[SignedOffer] = []
    seen: set[str] = set()
    for signed in group:
        if not (of := groups_of(signed.addresses)) & seen:
            apart.append(signed)
            seen |= of
    rest = [signed for signed in group if signed not in apart]
    return tuple([*apart, *rest][:3])


def question(model: str, job_id: JobId, *, draw: Draw, max_total: int) -> JobRequest:
    """A small greedy job whose answer is nearly forced, and not to be known beforehand."""
    numbers = " ".join(str(1_000 + int(9_000 * draw())) for _ in range(NUMBERS))
    words = f"Repeat these numbers exactly, and say nothing else: {numbers}"
    terms = JobTerms(
        job_id=job_id,
        model=model,
        priority=PriorityClass.STANDARD,
        deadline_s=DEADLINE_S,
        max_tokens=ANSWER_TOKENS,
        max_total=max_total,
        prompt_bytes=len(words),
    )
    sampling = Sampling(max_tokens=ANSWER_TOKENS, temperature=0.0)
    return JobRequest(terms, (ChatMessage("user", words),), sampling)


def most_cost(offer: Offer) -> int:
    """What one such job may cost at this peer at most, in smallest units."""
    return charge(offer.price, Usage(PROMPT_TOKENS, ANSWER_TOKENS))


def wrong(texts: Mapping[PeerId, str]) -> tuple[PeerId, ...]:
    """Who answered unlike the others: of two, both are suspect; of three, the one that stands alone; where all three
    differ, nobody knows."""
    values = list(texts.values())
    if len(set(values)) <= 1:
        return ()
    if len(values) == 2:
        return tuple(texts)
    return tuple(peer for peer, text in texts.items() if values.count(text) == 1) if len(set(values)) == 2 else ()


def _file(offer: Offer) -> tuple[str, str, str]:
    return offer.model, offer.quantization, offer.source_sha256
