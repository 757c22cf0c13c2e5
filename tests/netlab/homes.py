"""Homes behind routers: network namespaces with one of four kinds of NAT each, joined by an internet of one process.

Every home is two namespaces: its peer at 192.168.N.2, and its router with a public address. Needs root, ip and nft.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.netlab.internet import Internet, open_tun

PREFIX = "starling-lab"
OURS = f"{PREFIX}-{os.getpid()}"  # labs of several processes may run side by side


class Nat(Enum):
    """Whom a router lets in to a port that its peer uses, and under which port it sends it out."""

    FULL_CONE = "full cone"  # anybody; the same port
    RESTRICTED = "restricted"  # whose address the peer has sent to; the same port
    PORT_RESTRICTED = "port restricted"  # what the peer has sent to, address and port; the same port
    SYMMETRIC = "symmetric"  # as above, and a port by chance for each
    NONE = "none"  # no router: a public machine


@dataclass(frozen=True)
class Place:
    """One home. namespace: where its peer runs; public_ip: what others see."""

    number: int
    nat: Nat

    @property
    def namespace(self) -> str:
        return f"{OURS}-{self.number}"

    @property
    def router(self) -> str:
        return self.namespace if self.nat is Nat.NONE else f"{OURS}-r{self.number}"

    @property
    def public_ip(self) -> str:
        return f"45.{self.number}.0.1"

    @property
    def private_ip(self) -> str:
        return f"192.168.{self.number}.2"


def missing() -> str:
    """What this machine lacks for the lab, in one line; empty: nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "The NAT lab needs root, for network namespaces."
    lacking = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if lacking:
        return f"The NAT lab needs {' and '.join(lacking)}: install iproute2 and nftables."
    if not Path("/dev/net/tun").exists():
        return "The NAT lab needs /dev/net/tun."
    try:
        _run(["ip", "netns", "add", f"{OURS}-try"])
        _nft(f"{OURS}-try", Place(1, Nat.SYMMETRIC))
    except subprocess.CalledProcessError:
        return "The NAT lab needs a kernel with network namespaces and nft's NAT."
    finally:
        subprocess.run(["ip", "netns", "del", f"{OURS}-try"], check=False, capture_output=True)
    return ""


@contextmanager
def neighbourhood(places: list[Place], *, delay_s: float, loss: float) -> Iterator[int]:
    """All these homes, and the internet between them; yields the pipe that cuts and heals it (Internet.run)."""
    tear_down()
    try:
        internet = Internet(delay_s, loss)
        for place in places:
            _build(place, internet)
        control, cut = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(cut)
            try:
                internet.run(control)
            finally:
                os._exit(0)
        os.close(control)
        for descriptor in internet.links.values():
            os.close(descriptor)
        try:
            yield cut
        finally:
            os.close(cut)
            os.waitpid(child, 0)
    finally:
        tear_down()


def tear_down() -> None:
    """Remove every namespace of this process's lab, and of those whose process is gone."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for name in (line.split()[0] for line in listed.splitlines() if line.startswith(f"{PREFIX}-")):
        owner = name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if owner == str(os.getpid()) or not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _build(place: Place, internet: Internet) -> None:
    for name in {place.namespace, place.router}:
        _run(["ip", "netns", "add", name])
        _run(["ip", "-n", name, "link", "set", "lo", "up"])
    internet.links[bytes(map(int, place.public_ip.split(".")))] = open_tun(place.router)
    _in(place.router, f"addr add {place.public_ip}/32 dev wan", "link set wan up", "route add default dev wan")
    if place.nat is Nat.NONE:
        return
    _run(["ip", "link", "add", "lan", "netns", place.router, "type", "veth", "peer", "name", "eth", "netns",
          place.namespace])  # fmt: skip
    _in(place.router, f"addr add 192.168.{place.number}.1/24 dev lan", "link set lan up")
    _in(place.namespace, f"addr add {place.private_ip}/24 dev eth", "link set eth up",
        f"route add default via 192.168.{place.number}.1")  # fmt: skip
    _run(["ip", "netns", "exec", place.router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    _nft(place.router, place)


def _nft(namespace: str, place: Place) -> None:
    """The router's rules. What nobody asked for is dropped, as routers at home do, not answered with a reset."""
    let_in = {
        Nat.FULL_CONE: f'iifname "wan" tcp dport 1024-65535 dnat to {place.private_ip}',
        Nat.RESTRICTED: f'iifname "wan" ip saddr @contacted tcp dport 1024-65535 dnat to {place.private_ip}',
    }.get(place.nat, "")
    flags = "fully-random" if place.nat is Nat.SYMMETRIC else ""
    rules = f"""
    table ip lab {{
      set contacted {{ type ipv4_addr; flags dynamic,timeout; timeout 5m; }}
      chain prerouting {{ type nat hook prerouting priority -100; {let_in}; }}
      chain postrouting {{ type nat hook postrouting priority 100; oifname "wan" masquerade {flags}; }}
      chain input {{ type filter hook input priority 0; iifname "wan" drop; }}
      chain forward {{
        type filter hook forward priority 0;
        iifname "lan" add @contacted {{ ip daddr }};
        iifname "wan" ct state new ct status ! dnat drop;
      }}
    }}
    """.replace("; ; }", "; }")
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, check=True, text=True,
                   capture_output=True)  # fmt: skip


def _in(namespace: str, *lines: str) -> None:
    for line in lines:
        _run(["ip", "-n", namespace, *line.split()])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
