"""Which addresses to listen on: a wildcard becomes every address of this machine that others could dial.

libp2p advertises 0.0.0.0 as 0.0.0.0, where nobody can reach anybody.
"""

from __future__ import annotations

import ipaddress
import socket

import psutil

WILDCARDS = ("0.0.0.0", "::")


def listen_addresses(ip: str) -> list[str]:
    """The IP addresses behind this one. Link-local ones are left out: they need a zone that addresses don't carry."""
    if ip not in WILDCARDS:
        return [ip]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == family]
    found = sorted({entry.address for entry in entries}, key=ipaddress.ip_address)
    return [address for address in found if not ipaddress.ip_address(address).is_link_local] or [ip]
