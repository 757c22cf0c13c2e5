"""Which few peers to ask for one job: no single owner's crowd, and no big job for a stranger.

Pure: randomness comes in as a function. A newcomer is asked for small jobs first; what may be at stake with it doubles
with each job that it finished. A share of the jobs goes to newcomers first, so that they can grow. Where only newcomers
are left, they are asked for any job: each is paid a window at a time, so that no more than that is ever lost to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from core.job import JobRequest, PeerId
from p2p.messages import SignedOffer, prompt_bytes
from p2p.peer_address import groups_of
from p2p.placement import ASKED, Draw, sample
from p2p.trust import Standing

CANARY_TOKENS = 256
GROWN_JOBS = 4
NEWCOMERS_SHARE = 0.1
BYTES_A_TOKEN = 4

Known = Callable[[PeerId], Standing]


class Picked(msgspec.Struct, frozen=True):
    """Whom to ask, and who of them should get the job if its quote will do: a newcomer on trial, or nobody."""

    offers: tuple[SignedOffer, ...]
    on_trial: PeerId | None = None


def pick(found: Sequence[SignedOffer], request: JobRequest, *, known: Known, draw: Draw, k: int = ASKED) -> Picked:
    """Up to k offers for this job, one a neighbourhood (/24, or /48 of IPv6) as far as there are others."""
    by_peer = {PeerId(signed.offer.peer_id): signed for signed in found}
    drawn = sample(
        [signed.offer for signed in by_peer.values()],
        reputation=lambda peer: known(peer).reputation,
        draw=draw,
        bid_per_mtok=request.terms.bid_per_mtok,
        k=len(by_peer),
    )
    order = [PeerId(offer.peer_id) for offer in drawn]
    trusted = [peer for peer in order if tokens_at_stake(request) <= most_at_stake(known(peer).finished)]
    newcomers = [peer for peer in trusted if known(peer).finished < GROWN_JOBS]
    on_trial = newcomers[0] if newcomers and draw() < NEWCOMERS_SHARE else None
    first = [on_trial] if on_trial is not None else []
    ranked = list(dict.fromkeys((*first, *trusted, *order)))
    return Picked(tuple(_apart([by_peer[peer] for peer in ranked], k)), on_trial)


def tokens_at_stake(request: JobRequest) -> int:
    """How big a job is, roughly: its prompt and the longest answer."""
    return prompt_bytes(request) // BYTES_A_TOKEN + request.terms.max_tokens


def most_at_stake(finished: int) -> int:
    """How big a job a peer is trusted with that has finished so many."""
    return CANARY_TOKENS << min(finished, 32)


def _apart(ranked: list[SignedOffer], k: int) -> list[SignedOffer]:
    """The first k, no two of one neighbourhood while there are others; those who name no address count as one."""
    taken: list[SignedOffer] = []
    left: list[SignedOffer] = []
    groups: set[str] = set()
    for signed in ranked:
        of = groups_of(signed.addresses) or {""}
        (left if of & groups else taken).append(signed)
        groups |= of
    return [*taken, *left][:k]
