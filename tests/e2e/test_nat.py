"""Peers behind NATs of four kinds find a provider through a relay, directly or not, and again after the relay's death.

A small version of `python -m tests.bench nat`; needs root, iproute2 and nft, and is skipped where they are not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")]

JOIN_S = 60.0
HEAL_S = 90.0


@pytest.fixture(scope="module")
def homes() -> Iterator[None]:
    from tests.netlab.homes import missing

    if reason := missing():
        pytest.skip(reason)
    yield


def test_four_kinds_of_nat_find_a_provider_and_again_without_the_bootstrap_peer(homes: None) -> None:
    from tests.netlab.homes import Nat, Place
    from tests.netlab.lab import lab
    from tests.netlab.peer import Role

    kinds = (Nat.PORT_RESTRICTED, Nat.SYMMETRIC, Nat.RESTRICTED, Nat.FULL_CONE)
    relays = [Place(1, Nat.NONE), Place(2, Nat.NONE)]
    places = [Place(3 + number, kind) for number, kind in enumerate(kinds)]
    with lab([*relays, *places], delay_s=0.02, loss=0.01) as running:
        first = Role(relays[0], 1, 4_001, is_relay=True)
        second = Role(relays[1], 2, 4_001, address_of(first), is_relay=True)
        known = (*address_of(first), *address_of(second))
        for role in (first, second):
            running.add(role)
            running.watch(2.0)
        for number, place in enumerate(places):
            running.add(Role(place, 3 + number, 4_001, known, is_provider=number < 2, is_requester=True))
        assert running.watch(JOIN_S, lambda: all(peer.first_job_after_s() for peer in running.requesters()))
        running.kill(running.residents[0])
        moment = time.monotonic()
        assert running.watch(
            HEAL_S, lambda: all(peer.flows_since(moment) is not None for peer in running.requesters())
        )


def address_of(role) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    return (f"/ip4/{role.place.public_ip}/tcp/{role.port}/p2p/{role.identity.peer_id}",)
