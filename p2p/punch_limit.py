"""Which addresses are worth a hole punch, and how often one is tried. Pure.

Never lets a stranger send us dialling all over the place: few addresses, of one machine, and seldom.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from core.job import PeerId

MAX_ADDRESSES = 4
TRY_AGAIN_S = 300.0
ANSWERS_A_MINUTE = 30
ANSWERS_A_MINUTE_AND_PEER = 4
MINUTE_S = 60.0
MAX_REMEMBERED = 1_024


def worth_dialling(addresses: Sequence[str], own: Sequence[str]) -> list[str]:
    """Of a peer's addresses those of its first public IP; where we ourselves are seen at none, private ones will do."""
    is_inside = not any(_is_global(address) for address in own)
    usable = [address for address in addresses if _is_global(address) or (is_inside and _ip(address) is not None)]
    return [address for address in usable if _ip(address) == _ip(usable[0])][:MAX_ADDRESSES]


class PunchLimit:
    """now: seconds, of any clock that only goes forward."""

    def __init__(self) -> None:
        self._tried: dict[PeerId, float] = {}
        self._answered: list[tuple[float, PeerId]] = []

    def may_try(self, peer: PeerId, *, now: float) -> bool:
        """Whether to try this peer now; it is counted when so. One that was tried is left relayed for a while."""
        self._tried = {other: at for other, at in self._tried.items() if at > now - TRY_AGAIN_S}
        if peer in self._tried or len(self._tried) >= MAX_REMEMBERED:
            return False
        self._tried[peer] = now
        return True

    def may_answer(self, peer: PeerId, *, now: float) -> bool:
        """Whether to dial for a peer that asks; it is counted when so."""
        self._answered = [one for one in self._answered if one[0] > now - MINUTE_S]
        of_this_peer = sum(other == peer for _, other in self._answered)
        if len(self._answered) >= ANSWERS_A_MINUTE or of_this_peer >= ANSWERS_A_MINUTE_AND_PEER:
            return False
        self._answered.append((now, peer))
        return True


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address.split("/")[2])
    except (ValueError, IndexError):
        return None


def _is_global(address: str) -> bool:
    ip = _ip(address)
    return ip is not None and ip.is_global
