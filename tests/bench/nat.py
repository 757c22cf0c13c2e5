"""Peers behind four kinds of NAT, with delay and loss between them: do all find a provider, and again after the worst?

Each peer is a process with a real swarm in a home of its own (tests/netlab); there are two public relays, and the first
is the bootstrap peer that dies. Needs root, iproute2 and nft. A packet takes 50 ms from home to home, and one in a
hundred is lost.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.bench.report import Report
from tests.netlab.homes import Nat, Place, missing
from tests.netlab.lab import Lab, Resident, lab
from tests.netlab.peer import Role

PEERS, QUICK_PEERS = 30, 6
DELAY_S, LOSS = 0.05, 0.01
PORT = 4_001
PROVIDER_EVERY = 3
JOIN_EVERY_S = 2.0
JOIN_WITHIN_S = 15.0
SETTLE_S = 30.0
KILLED_SHARE = 0.3
FLOW_WITHIN_S = 30.0
NOTICE_WITHIN_S = 25.0
WATCH_S = 75.0
STEADY_S = 12.0
SEED = 3
KINDS = (Nat.FULL_CONE, Nat.RESTRICTED, Nat.PORT_RESTRICTED, Nat.SYMMETRIC)


def run(*, is_quick: bool) -> Report:
    """The lab's figures; seconds are from the event to the last peer for which it held, -1 where it never did."""
    if reason := missing():
        print(reason, file=sys.stderr)
        return Report({"peers": 0.0}, failure=reason)
    count = QUICK_PEERS if is_quick else PEERS
    relays = [Place(1, Nat.NONE), Place(2, Nat.NONE)]
    homes = [Place(3 + i, KINDS[i % len(KINDS)]) for i in range(count)]
    load = round(os.getloadavg()[0], 1)
    with lab([*relays, *homes], delay_s=DELAY_S, loss=LOSS) as running:
        _open_relays(running, relays)
        figures = _join(running, homes)
        figures |= _kill_some(running)
        figures |= _partition(running)
    told = {"direct_share_by_nat": _paths_by_nat(running), "failures": _failures(running), "load_before": load}
    return Report(figures, told, failure=_broken(figures))


def _open_relays(running: Lab, places: list[Place]) -> None:
    first = Role(places[0], 1, PORT, is_relay=True)
    second = Role(places[1], 2, PORT, _bootstrap(first), is_relay=True)
    for role in (first, second):
        running.add(role)
        running.watch(2.0)


def _join(running: Lab, homes: list[Place]) -> dict[str, float]:
    """Peers come one after another; every third is a provider, and all ask."""
    known = tuple(address for relay in running.residents for address in _bootstrap(relay.role))
    for number, place in enumerate(homes):
        is_provider = number % PROVIDER_EVERY == 0
        running.add(Role(place, 3 + number, PORT, known, is_provider=is_provider, is_requester=True))
        running.watch(JOIN_EVERY_S)
    running.watch(60.0, lambda: all(peer.first_job_after_s() is not None for peer in running.requesters()))
    firsts = [peer.first_job_after_s() for peer in running.requesters()]
    found = [first for first in firsts if first is not None]
    running.watch(SETTLE_S)
    jobs = [job for peer in running.requesters() for job in peer.jobs if job["job"]]
    recent = [job for job in jobs if job["from"] > time.monotonic() - SETTLE_S / 2]
    return {
        "peers": float(len(homes)),
        "found_within_15_s_share": sum(first <= JOIN_WITHIN_S for first in found) / len(firsts),
        "first_job_p50_s": statistics.median(found) if found else -1.0,
        "first_job_max_s": max(found) if len(found) == len(firsts) else -1.0,
        "direct_share": _share(job["path"] == "direct" for job in recent),
        "job_direct_p50_s": _median(job["job_s"] for job in recent if job["path"] == "direct"),
        "job_relayed_p50_s": _median(job["job_s"] for job in recent if job["path"] == "relayed"),
    }


def _kill_some(running: Lab) -> dict[str, float]:
    """Kill the bootstrap peer and three in ten of the others, a third of them providers, and count until all flows."""
    peers = running.requesters()
    victims = random.Random(SEED).sample(peers, round(KILLED_SHARE * len(peers)))
    for victim in (running.residents[0], *victims):
        running.kill(victim)
    moment = time.monotonic()
    running.watch(WATCH_S, lambda: _flows(running, moment) is not None)
    return {"killed": len(victims) + 1.0, "flows_again_s": _after(_flows(running, moment), moment)}


def _partition(running: Lab) -> dict[str, float]:
    """Cut half of the homes off from the others and from the relay; count until all noticed, heal, count again."""
    peers = running.requesters()
    cut_off = peers[: len(peers) // 2]
    inside = {peer.peer_id for peer in cut_off}
    running.cut([peer.role.place for peer in cut_off])
    moment = time.monotonic()

    def is_noticed() -> bool:
        return all(peer.status["at"] > moment and not _crossing(peer, inside) for peer in running.living())

    has_noticed = running.watch(WATCH_S, is_noticed)
    noticed_s = time.monotonic() - moment if has_noticed else -1.0
    running.watch(5.0)
    running.heal()
    healed = time.monotonic()

    def is_healed() -> bool:
        return _flows(running, healed) is not None and all(_crossing(peer, inside) for peer in cut_off)

    has_healed = running.watch(2 * WATCH_S, is_healed)
    return {"partition_noticed_s": noticed_s, "healed_s": time.monotonic() - healed if has_healed else -1.0}


def _crossing(peer: Resident, inside: set[str]) -> set[str]:
    """The peers of the other side that it believes to be connected to."""
    is_inside = peer.peer_id in inside
    return {other for other in peer.status.get("paths", {}) if (other in inside) != is_inside}


def _flows(running: Lab, moment: float) -> float | None:
    """Since when all jobs flow; None until every one has done some seconds of jobs without a failure."""
    since = [peer.flows_since(moment) for peer in running.requesters()]
    if any(one is None for one in since):
        return None
    latest = max(one for one in since if one is not None)
    return latest if time.monotonic() - latest > STEADY_S else None


def _after(when: float | None, moment: float) -> float:
    return -1.0 if when is None else when - moment


def _broken(figures: dict[str, float]) -> str:
    promises = (
        (figures["found_within_15_s_share"] >= 1.0, "not every peer found a provider in 15 s"),
        (0 <= figures["flows_again_s"] <= FLOW_WITHIN_S, "jobs did not flow again in 30 s"),
        (0 <= figures["partition_noticed_s"] <= NOTICE_WITHIN_S, "25 s did not do to notice a partition"),
        (figures["healed_s"] >= 0, "the partition did not heal"),
    )
    return "; ".join(fault for is_kept, fault in promises if not is_kept)


def _paths_by_nat(running: Lab) -> dict[str, float]:
    """Of finished jobs, by the requester's NAT: the share that went directly."""
    found: dict[str, list[bool]] = {}
    for peer in running.residents:
        paths = [job["path"] == "direct" for job in peer.jobs if job["job"]]
        found.setdefault(peer.role.place.nat.value, []).extend(paths)
    return {nat: round(_share(direct), 2) for nat, direct in found.items() if direct}


def _failures(running: Lab) -> dict[str, int]:
    """Why jobs were not done, and how often, over the whole run: killed providers and the partition included."""
    reasons = Counter(job["why"][:60] for peer in running.residents for job in peer.jobs if not job["job"])
    return dict(reasons.most_common(8))


def _bootstrap(role: Role) -> tuple[str, ...]:
    return (f"/ip4/{role.place.public_ip}/tcp/{PORT}/p2p/{role.identity.peer_id}",)


def _share(truths: Iterable[bool]) -> float:
    listed = list(truths)
    return sum(listed) / len(listed) if listed else 0.0


def _median(numbers: Iterable[float]) -> float:
    listed = list(numbers)
    return statistics.median(listed) if listed else -1.0
