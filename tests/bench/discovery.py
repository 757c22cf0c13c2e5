"""Finding each other among 30 to 1,000 simulated peers: what it costs each, how long it takes, and what is stale.

The decisions are the real ones (tests/simulation/discovery_world.py says what is simulated). Then the harder half: all
bootstrap peers and three in ten of the others crash at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

from tests.bench.curve import Curve, Panel, curves_svg
from tests.bench.report import Report
from tests.simulation.discovery_world import Search, World

SIZES = (30, 100, 300, 1_000)
QUICK_SIZES = (30, 300)
WARM_S, QUICK_WARM_S = 900.0, 300.0
LASTS_S, QUICK_LASTS_S = 2_700.0, 600.0
SEARCHES = 300
CRASHED, HEALING_S, LOOKERS, AT_ONCE_S = 0.3, 60, 20, 2.0
MOST_FIND_S, MOST_REJOIN_S = 15.0, 30.0
PICTURE = Path(__file__).parent / "discovery.svg"


@dataclass(frozen=True)
class Found:
    """What one size showed. joined_s: from a newcomer's start to its first provider, of each that came for it."""

    peers: int
    bytes_per_peer_hour: float
    joined_s: Sequence[float]
    find_s: Sequence[float]
    found_percent: float
    stale_percent: float
    rejoin_s: float
    healed: Sequence[tuple[float, float]]


def run(*, is_quick: bool) -> Report:
    """All sizes, the picture, and whether what issue 5 asks for holds."""
    sizes = QUICK_SIZES if is_quick else SIZES
    found = [measure(size, is_quick=is_quick) for size in sizes]
    PICTURE.write_text(picture(found), encoding="utf-8")
    least, most = found[0], found[-1]
    growth, bound = most.bytes_per_peer_hour / least.bytes_per_peer_hour, log2(most.peers) / log2(least.peers)
    figures = {f"kb_per_peer_hour_{size.peers}": size.bytes_per_peer_hour / 1_000 for size in found} | {
        "peers": float(most.peers),
        "growth": growth,
        "logarithmic_growth": bound,
        "join_and_find_p50_s": _rank(most.joined_s, 0.5),
        "join_and_find_p99_s": _rank(most.joined_s, 0.99),
        "find_p50_s": _rank(most.find_s, 0.5),
        "find_p99_s": _rank(most.find_s, 0.99),
        "found_percent": min(size.found_percent for size in found),
        "stale_offers_percent": most.stale_percent,
        "rejoin_s": most.rejoin_s,
    }
    return Report(figures, {"picture": PICTURE.name}, failure=_broken(figures))


def measure(size: int, *, is_quick: bool) -> Found:
    """One network of this size, from its first minute on."""
    world = World(size)
    world.run(QUICK_WARM_S if is_quick else WARM_S)
    before = {peer.name: peer.bytes for peer in world.up()}
    lasts_s = QUICK_LASTS_S if is_quick else LASTS_S
    world.run(lasts_s)
    rates = [3_600 * (p.bytes - before[p.name]) / lasts_s for p in world.up() if p.name in before]
    searches = [_searched(world) for _ in range(SEARCHES)]
    newcomers = [world.look_for_provider(world.join()) for _ in range(max(3, size // 20))]
    world.run(60)
    asked = [s for s in (*searches, *newcomers) if s.took_s is not None or (s.peer.is_up and s.is_served)]
    seen = sum(search.offers_seen for search in searches)
    rejoin_s, healed = _crash(world)
    return Found(
        size,
        statistics.mean(rates),
        _took(newcomers),
        _took(searches),
        100 * len(_took(asked)) / len(asked),
        100 * sum(search.stale_seen for search in searches) / max(1, seen),
        rejoin_s,
        healed,
    )


def picture(found: Sequence[Found]) -> str:
    """Cost and times over the number of peers, and how a crash heals."""
    costs = [(f.peers, f.bytes_per_peer_hour / 1_000) for f in found]
    bound = [(x, costs[0][1] * log2(x) / log2(costs[0][0])) for x, _ in costs]
    logarithm = Curve("as log2", bound, is_dashed=True)
    times = [
        Curve("join and find, p99", [(f.peers, _rank(f.joined_s, 0.99)) for f in found]),
        Curve("find, p99", [(f.peers, _rank(f.find_s, 0.99)) for f in found]),
    ]
    stale = [(f.peers, f.stale_percent) for f in found]
    return curves_svg(
        [
            Panel("What it costs", "peers", "kB/peer/hour", [Curve("simulated", costs), logarithm], True),
            Panel("How long it takes", "peers", "seconds", times, True),
            Panel("Offers whose peer is gone", "peers", "percent", [Curve("stale", stale)], True),
            Panel(
                f"After all bootstrap peers and 30 % of {found[-1].peers:,} crash",
                "seconds",
                "percent",
                [Curve("find a provider", found[-1].healed)],
            ),
        ]
    )


def _searched(world: World) -> Search:
    world.run(1.0)
    return world.look_for_provider(world.chance.choice(world.up()))


def _crash(world: World) -> tuple[float, list[tuple[float, float]]]:
    """Seconds until whoever looks for a provider finds one within two seconds again, and the way there."""
    world.kill_bootstraps()
    peers = world.up()
    for peer in world.chance.sample(peers, int(CRASHED * len(peers))):
        world.kill(peer)
    rounds = []
    for _ in range(HEALING_S):
        left = [peer for peer in peers if peer.is_up]
        rounds.append([world.look_for_provider(world.chance.choice(left)) for _ in range(LOOKERS)])
        world.run(1.0)
    world.run(60)
    healed = [(float(second), 100 * _share_at_once(asked)) for second, asked in enumerate(rounds)]
    return max((second + 1 for second, share in healed if share < 100), default=0.0), healed


def _share_at_once(asked: Sequence[Search]) -> float:
    able = [search for search in asked if search.is_served and search.peer.is_up]
    return sum(search.took_s is not None and search.took_s <= AT_ONCE_S for search in able) / max(1, len(able))


def _took(searches: Sequence[Search]) -> list[float]:
    return sorted(search.took_s for search in searches if search.took_s is not None)


def _rank(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")


def _broken(figures: dict[str, float]) -> str:
    promises = {
        "the cost grows faster than the logarithm of the peers": figures["growth"] > figures["logarithmic_growth"],
        "a newcomer finds no provider in time": figures["join_and_find_p99_s"] > MOST_FIND_S,
        "not everyone is back in time": figures["rejoin_s"] > MOST_REJOIN_S,
    }
    return "; ".join(promise for promise, is_broken in promises.items() if is_broken)
