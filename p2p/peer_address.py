"""What an address of a peer says: its IP, and the neighbourhood that one owner is likely to hold whole.

Pure, and never raises: addresses come from strangers. Counts neighbourhoods as /24 (IPv4) and /48 (IPv6).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

MAX_ADDRESSES = 8
MAX_ADDRESS_CHARS = 200
IPV6_GROUP_BITS = 48
REMEMBERED = 4_096

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=REMEMBERED)
def ip_of(address: str) -> Ip | None:
    """The IP that this multiaddr begins with; None when it begins with none."""
    parts = address[:MAX_ADDRESS_CHARS].split("/")
    if len(parts) < 3 or parts[0] or parts[1] not in ("ip4", "ip6"):
        return None
    return as_ip(parts[2])


def as_ip(text: str) -> Ip | None:
    """This IP; an IPv4 address written as IPv6 is the IPv4 one."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


@lru_cache(maxsize=REMEMBERED)
def group_of(ip: Ip | None) -> str:
    """The neighbourhood of an IP, such as 192.0.2.0/24; empty for none, and for this very machine."""
    if ip is None or ip.is_loopback:
        return ""
    if ip.version == 4:
        return f"{str(ip).rpartition('.')[0]}.0/24"
    return str(ipaddress.IPv6Network((int(ip), IPV6_GROUP_BITS), strict=False))


def groups_of(addresses: tuple[str, ...]) -> set[str]:
    """The neighbourhoods of all these addresses."""
    return {group for address in addresses if (group := group_of(ip_of(address)))}


def ips_of(addresses: tuple[str, ...]) -> set[str]:
    """The IPs of all these addresses, without this very machine's."""
    found = (ip_of(address) for address in addresses)
    return {str(ip) for ip in found if ip is not None and not ip.is_loopback}


@lru_cache(maxsize=REMEMBERED)
def is_plausible(address: str) -> bool:
    """Whether anyone could be asked to dial this: an IP, not a wildcard, multicast or link-local, and a port."""
    ip = ip_of(address)
    if ip is None or len(address) > MAX_ADDRESS_CHARS or ip.is_unspecified or ip.is_multicast or ip.is_link_local:
        return False
    parts = address.split("/")
    is_tcp = len(parts) >= 5 and parts[3] == "tcp" and parts[4].isascii() and parts[4].isdigit()
    return is_tcp and 0 < int(parts[4][:6]) <= 65_535


def is_of_this_machine(address: str) -> bool:
    """Whether this is a loopback address: no use to anyone elsewhere."""
    ip = ip_of(address)
    return ip is not None and ip.is_loopback


def worth_trying(addresses: tuple[str, ...], *, told_from: str) -> tuple[str, ...]:
    """Those of these addresses that are of use here: loopback ones only from someone on this machine too."""
    if is_of_this_machine(told_from):
        return addresses
    return tuple(address for address in addresses if not is_of_this_machine(address))
