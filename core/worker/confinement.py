"""What a worker child gives up before it touches a model: privileges, files, network, programs, and memory beyond its
share. Linux only; elsewhere it holds nothing and says so.

Never fails the child: where a kernel refuses, things stay as they were, and what holds is told to the engine.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.worker import landlock, seccomp
from core.worker.grants import Grants, system_rules
from core.worker.messages import Confined

# "off": for a driver that cannot work inside; then only limits and privileges hold, and that is told like all else.
SANDBOX_VARIABLE = "STARLING_WORKER_SANDBOX"
MEMORY_LIMIT_VARIABLE = "STARLING_WORKER_MEMORY_BYTES"
_PR_SET_NO_NEW_PRIVS = 38
_MODPROBE = ("nvidia-modprobe", "-c", "0", "-u")
_MODPROBE_S = 10.0


class _Refused(Exception):
    """This part of the sandbox cannot be had here; the text says why."""


class _Tally(msgspec.Struct):
    holds: list[str] = []
    lacks: list[str] = []

    def enter(self, name: str, step: Callable[[], None]) -> None:
        """Take one step, and note what came of it."""
        try:
            step()
        except _Refused as refusal:
            self.lacks.append(f"{name}: {refusal}")
        except (OSError, ValueError, AttributeError) as error:
            self.lacks.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        else:
            self.holds.append(name)


def confine(grants: Grants, *, memory_bytes: int | None) -> Confined:
    """Call before any thread starts; what holds from now on. memory_bytes bounds private memory (RLIMIT_DATA), not a
    memory-mapped model."""
    if sys.platform != "linux":
        return Confined((), (f"everything: there is no sandbox for {sys.platform} yet",))
    tally = _Tally()
    _make_gpu_nodes()
    tally.enter("core dumps", lambda: _limit("RLIMIT_CORE", 1))  # 1: a pipe to a crash reporter gets none either
    if memory_bytes is not None:
        tally.enter("memory", lambda: _limit("RLIMIT_DATA", memory_bytes))
    tally.enter("privileges", _give_up_privileges)
    if os.environ.get(SANDBOX_VARIABLE) == "off":
        tally.lacks.append(f"files, network, signals and system calls: {SANDBOX_VARIABLE} is off")
    else:
        _enter_sandbox(tally, grants)
    return Confined(tuple(tally.holds), tuple(tally.lacks))


def _enter_sandbox(tally: _Tally, grants: Grants) -> None:
    abi = landlock.version()
    tally.enter("files", lambda: _restrict(grants, abi))
    tally.enter("system calls", seccomp.refuse_calls)
    # The filter makes no socket and signals nobody; where there is none, a new enough Landlock does as much.
    scoped = abi if "files" in tally.holds else 0
    is_filtered = "system calls" in tally.holds
    tally.enter("network", lambda: None if is_filtered else _has(scoped, 4))
    tally.enter("signals", lambda: None if is_filtered else _has(scoped, 6))


def _limit(name: str, most: int) -> None:
    import resource

    number = getattr(resource, name)
    hard = resource.getrlimit(number)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(number, (limit, limit))


def _give_up_privileges() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _restrict(grants: Grants, abi: int) -> None:
    if not abi:
        raise _Refused("this kernel has no Landlock, or it is switched off")
    landlock.restrict([*system_rules(os.environ), *grants.rules()], abi=abi)


def _has(abi: int, needed: int) -> None:
    if abi < needed:
        raise _Refused(f"it takes seccomp, or version {needed} of Landlock")


def _make_gpu_nodes() -> None:
    """CUDA runs a program to make its device files when they are missing, which it cannot do from inside."""
    if not Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia-uvm").exists():
        return
    try:
        subprocess.run(_MODPROBE, stdin=subprocess.DEVNULL, capture_output=True, timeout=_MODPROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
