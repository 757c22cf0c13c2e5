"""An internet of one process: a TUN device in each home's router, and between any two of them a delay and some loss.

Stands in for `tc netem`, which many kernels lack. It can be cut in two and healed. Linux and root alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
CLONE_NEWNET = 0x40000000
MTU = 1_500
MAX_WAITING = 50_000
SEED = 7


@dataclass
class Internet:
    """delay_s: one way. links: the descriptor behind each public address. halves: who can't reach the others now."""

    delay_s: float
    loss: float
    links: dict[bytes, int] = field(default_factory=dict)
    halves: dict[bytes, int] = field(default_factory=dict)

    def run(self, control: int) -> None:
        """Carry packets until the control pipe ends. A line of addresses and 0 or 1 cuts; an empty line heals."""
        chance = random.Random(SEED)
        waiting: list[tuple[float, int, int, bytes]] = []
        poll = select.epoll()
        for descriptor in (*self.links.values(), control):
            os.set_blocking(descriptor, False)
            poll.register(descriptor, select.EPOLLIN)
        count = 0
        while True:
            pause_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
            for descriptor, _ in poll.poll(pause_s):
                if descriptor == control:
                    if not self._obey(control):
                        return
                    continue
                for packet in _packets(descriptor):
                    target = self._target(packet)
                    if target is not None and chance.random() >= self.loss and len(waiting) < MAX_WAITING:
                        count += 1
                        heapq.heappush(waiting, (time.monotonic() + self.delay_s, count, target, packet))
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, target, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    os.write(target, packet)

    def _target(self, packet: bytes) -> int | None:
        source, target = packet[12:16], packet[16:20]
        if self.halves.get(source, 0) != self.halves.get(target, 0):
            return None
        return self.links.get(target)

    def _obey(self, control: int) -> bool:
        line = os.read(control, 65_536).decode()
        if not line:
            return False
        words = line.strip().splitlines()[-1].split() if line.strip() else []
        pairs = (word.partition("=") for word in words)
        self.halves = {socket.inet_aton(ip): int(half) for ip, _, half in pairs}
        return True


def open_tun(namespace: str, name: str = "wan") -> int:
    """A TUN device in this network namespace; the descriptor works from anywhere."""
    fcntl = import_module("fcntl")  # not on every system, and the other benchmarks run there
    with inside(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
    return descriptor


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in another network namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        enter(namespace)
        yield
    finally:
        _setns(home)
        os.close(home)


def enter(namespace: str) -> None:
    """This thread moves into a network namespace, and what it starts with it."""
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        _setns(there)
    finally:
        os.close(there)


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _packets(descriptor: int) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            packet = os.read(descriptor, MTU + 100)
            if len(packet) >= 20 and packet[0] >> 4 == 4:
                yield packet
