"""A running NAT lab: peers in their homes, and all that they have told, to be asked about."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.netlab.homes import Place, neighbourhood
from tests.netlab.peer import Role, start

Line = dict[str, Any]


@dataclass
class Resident:
    """One peer: its process, and its lines: of jobs, in order, and the last of its status."""

    role: Role
    pid: int
    pipe: int
    born: float
    jobs: list[Line] = field(default_factory=list)
    status: Line = field(default_factory=dict)
    is_alive: bool = True
    _rest: bytes = b""

    @property
    def peer_id(self) -> str:
        return str(self.role.identity.peer_id)

    def take(self, received: bytes) -> None:
        lines = (self._rest + received).split(b"\n")
        self._rest = lines.pop()
        for line in map(json.loads, lines):
            if "job" in line:
                self.jobs.append(line)
            else:
                self.status = line

    def first_job_after_s(self) -> float | None:
        """Seconds from its start to its first finished job."""
        return next((line["to"] - line["born"] for line in self.jobs if line["job"]), None)

    def flows_since(self, moment: float) -> float | None:
        """Since when every job that was asked for after this moment has been finished; None: not yet."""
        asked = [line for line in self.jobs if line["from"] >= moment]
        since = None
        for line in asked:
            if not line["job"]:
                since = None
            elif since is None:
                since = line["to"]
        return since


class Lab:
    """Starts peers, reads what they tell, cuts and heals. One thread; nothing happens outside watch."""

    def __init__(self, cut: int) -> None:
        self.residents: list[Resident] = []
        self._cut = cut
        self._poll = select.epoll()

    def add(self, role: Role) -> Resident:
        pid, pipe = start(role)
        os.set_blocking(pipe, False)
        resident = Resident(role, pid, pipe, time.monotonic())
        self._poll.register(pipe, select.EPOLLIN)
        self.residents.append(resident)
        return resident

    def watch(self, within_s: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Read until this is so, or the time is over; whether it was so."""
        by_pipe = {resident.pipe: resident for resident in self.residents}
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            for pipe, _ in self._poll.poll(min(0.2, within_s)):
                with contextlib.suppress(BlockingIOError):
                    by_pipe[pipe].take(os.read(pipe, 1 << 20))
            if is_done():
                return True
        return is_done()

    def kill(self, resident: Resident) -> None:
        """As the kernel kills: nobody is told."""
        resident.is_alive = False
        self._poll.unregister(resident.pipe)
        os.kill(resident.pid, signal.SIGKILL)
        os.waitpid(resident.pid, 0)

    def cut(self, places: list[Place]) -> None:
        """These homes and all others no longer reach each other."""
        os.write(self._cut, (" ".join(f"{place.public_ip}=1" for place in places) + "\n").encode())

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        os.write(self._cut, b"\n")

    def living(self) -> list[Resident]:
        return [resident for resident in self.residents if resident.is_alive]

    def requesters(self) -> list[Resident]:
        return [resident for resident in self.living() if resident.role.is_requester]


@contextmanager
def lab(places: list[Place], *, delay_s: float, loss: float) -> Iterator[Lab]:
    """A lab without peers yet. Kills what it started, whatever happens."""
    with neighbourhood(places, delay_s=delay_s, loss=loss) as cut:
        running = Lab(cut)
        try:
            yield running
        finally:
            for resident in running.living():
                running.kill(resident)
