"""Can strangers dial us? Decides it from what was heard, and decides whom we let be dialled for others. Pure.

Never believes an answer that says we are reachable: only a nonce that a stranger brought does that. Never lets us be
made to dial anybody but the peer that asks, at the IP address that it was seen at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from enum import Enum

import msgspec

from core.job import PeerId

TRIES_FOR_PRIVATE = 2
DIALS_A_MINUTE = 20
DIALS_A_MINUTE_AND_IP = 4
CHECKS_A_MINUTE_AND_PEER = 6
MINUTE_S = 60.0
MAX_REMEMBERED = 512
RECHECK_PUBLIC_S = 900.0
RECHECK_PRIVATE_S = 300.0
RECHECK_UNKNOWN_S = 0.5
SLOWEST_RECHECK_S = 60.0


class Reachability(Enum):
    """PRIVATE: behind a NAT or firewall, so strangers need a relay. UNKNOWN: nobody could tell yet."""

    PUBLIC = "public"
    PRIVATE = "private"
    UNKNOWN = "unknown"


class Standing(msgspec.Struct, frozen=True):
    """What we know of ourselves. addresses: where strangers reached us; seen: IP and port at which others see us."""

    reachability: Reachability = Reachability.UNKNOWN
    addresses: tuple[str, ...] = ()
    seen: tuple[tuple[str, int], ...] = ()
    failures: int = 0


def after_reached(standing: Standing, address: str) -> Standing:
    """A stranger has dialled us at this address."""
    addresses = tuple(dict.fromkeys((address, *standing.addresses)))[:4]
    return Standing(Reachability.PUBLIC, addresses, standing.seen, 0)


def after_failed(standing: Standing) -> Standing:
    """A stranger has dialled us in vain: after TRIES_FOR_PRIVATE of them in a row we are private."""
    failures = standing.failures + 1
    if failures < TRIES_FOR_PRIVATE:
        return msgspec.structs.replace(standing, failures=failures)
    return Standing(Reachability.PRIVATE, (), standing.seen, failures)


def after_seen(standing: Standing, *, ip: str, port: int) -> Standing:
    """A peer sees us there. Another IP address than before means another network: all that was known is void. Raises
    ValueError for what is no IP address."""
    ipaddress.ip_address(ip)
    if standing.seen and all(ip != known for known, _ in standing.seen):
        standing = Standing()
    seen = tuple(dict.fromkeys(((ip, port), *standing.seen)))[:4]
    return msgspec.structs.replace(standing, seen=seen)


def seen_addresses(standing: Standing, ports: Sequence[int]) -> tuple[str, ...]:
    """Where a NAT that keeps ports would let others in, then where it was seen to send from."""
    found = [(ip, port) for ip, _ in standing.seen[:1] for port in ports] + list(standing.seen)
    return tuple(f"/ip{ipaddress.ip_address(ip).version}/{ip}/tcp/{port}" for ip, port in dict.fromkeys(found) if port)


def needs_relay(standing: Standing, own_ips: Sequence[str]) -> bool:
    """Whether strangers need a relay to reach us. While nobody could tell, a machine without a public address does."""
    match standing.reachability:
        case Reachability.PUBLIC:
            return False
        case Reachability.PRIVATE:
            return True
        case Reachability.UNKNOWN:
            return not any(ipaddress.ip_address(ip).is_global for ip in own_ips)


def recheck_after_s(standing: Standing, tries: int) -> float:
    """Seconds until the next look at a standing that tries looks in a row have left as it is."""
    match standing.reachability:
        case Reachability.PUBLIC:
            return RECHECK_PUBLIC_S
        case Reachability.PRIVATE:
            return RECHECK_PRIVATE_S
        case Reachability.UNKNOWN:
            return min(RECHECK_UNKNOWN_S * 2.0 ** min(tries, 8), SLOWEST_RECHECK_S)


def dial_back_addresses(ip: str, ports: Sequence[int], *, seen_port: int) -> tuple[str, ...]:
    """The addresses to try for a peer that is seen at ip: the ports that it says, and the one that its NAT shows."""
    version = ipaddress.ip_address(ip).version
    return tuple(f"/ip{version}/{ip}/tcp/{port}" for port in dict.fromkeys((*ports[:3], seen_port)))


def address_fault(addresses: Sequence[str], *, asker_ip: str) -> str | None:
    """Why we would not dial these for a peer that we see at asker_ip, or None: all must have one IP address, and one
    inside a private network is dialled only for who is in one too."""
    try:
        found = {ipaddress.ip_address(address.split("/")[2]) for address in addresses}
        is_inside = not ipaddress.ip_address(asker_ip).is_global
    except (ValueError, IndexError):
        return "an address is malformed"
    if len(found) != 1:
        return "the addresses are not of one machine"
    (ip,) = found
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved or (not ip.is_global and not is_inside):
        return "the address is not one to dial for a stranger"
    return None


def is_public(ip: str) -> bool:
    """Whether an IP address is one of the internet's."""
    return ipaddress.ip_address(ip).is_global


def third_peers(peers: Sequence[PeerId], *, ip_of: dict[PeerId, str], asker: PeerId) -> list[PeerId]:
    """Who may dial the asker: peers at another IP address than the asker's first, since one behind the asker's own NAT
    proves nothing. Where all share one address (one machine, one LAN) anybody may."""
    others = [peer for peer in peers if peer != asker and peer in ip_of]
    elsewhere = [peer for peer in others if ip_of[peer] != ip_of.get(asker)]
    is_one_lan = asker in ip_of and not ipaddress.ip_address(ip_of[asker]).is_global
    return elsewhere or (others if is_one_lan else [])


class DialBackLimit:
    """How often we dial for others. now: seconds, of any clock that only goes forward."""

    def __init__(self) -> None:
        self._dialled: list[tuple[float, str]] = []
        self._checks: list[tuple[float, PeerId]] = []

    def may_dial(self, ip: str, *, now: float) -> bool:
        """Whether one more dial to this IP address is within the rate; it is counted when it is."""
        self._dialled = [one for one in self._dialled if one[0] > now - MINUTE_S]
        of_this_ip = sum(other == ip for _, other in self._dialled)
        if len(self._dialled) >= DIALS_A_MINUTE or of_this_ip >= DIALS_A_MINUTE_AND_IP:
            return False
        self._dialled.append((now, ip))
        return True

    def may_check(self, peer: PeerId, *, now: float) -> bool:
        """Whether this peer may have itself checked once more; it is counted when it may."""
        self._checks = [one for one in self._checks if one[0] > now - MINUTE_S]
        of_this_peer = sum(other == peer for _, other in self._checks)
        if len(self._checks) >= MAX_REMEMBERED or of_this_peer >= CHECKS_A_MINUTE_AND_PEER:
            return False
        self._checks.append((now, peer))
        return True
