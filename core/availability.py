"""May this machine take work now? Available, or Paused with the reason that the owner reads.

Pure: readings and settings come in. Never pauses anything itself, and the owner's own word comes before every rule.
"""

from __future__ import annotations

import msgspec

from core.device import DeviceKind, Reading
from core.node_state import Pause, Presence
from core.settings import Settings

COOL_DOWN_C = 6


class Available(msgspec.Struct, frozen=True):
    """Work is welcome."""


class Paused(msgspec.Struct, frozen=True):
    """No new work. reason is a sentence; resumes_at (epoch seconds) only where a time is known.

    is_over_limit: heat or memory is past its limit now, so that running jobs should be given up too, not finished.
    """

    reason: str
    resumes_at: float | None = None
    is_over_limit: bool = False


class Circumstances(msgspec.Struct, frozen=True):
    """What is true now. None: the machine does not say. plan_bytes is what the loaded plan takes on its device."""

    presence: Presence
    pause: Pause | None = None
    reading: Reading | None = None
    is_on_battery: bool | None = None
    is_cooling: bool = False
    plan_bytes: int = 0
    kind: DeviceKind = DeviceKind.GPU


def availability(now_is: Circumstances, settings: Settings, *, now: float) -> Available | Paused:
    """The first reason that holds, the owner's own first; is_cooling says that heat was the reason a moment ago."""
    return (
        _not_joined(now_is)
        or _by_owner(now_is, now)
        or _on_battery(now_is, settings)
        or _too_hot(now_is, settings)
        or _crowded_out(now_is, settings)
        or Available()
    )


def _not_joined(now_is: Circumstances) -> Paused | None:
    match now_is.presence:
        case Presence.JOINED:
            return None
        case Presence.JOINING:
            return Paused("Still joining the network.")
        case Presence.LEAVING:
            return Paused("Leaving the network; running jobs are finished first.")
        case Presence.IDLE:
            return Paused("Not joined. Join the network to take work.")


def _by_owner(now_is: Circumstances, now: float) -> Paused | None:
    pause = now_is.pause
    if pause is None or (pause.until is not None and pause.until <= now):
        return None
    return Paused(pause.reason, pause.until)


def _on_battery(now_is: Circumstances, settings: Settings) -> Paused | None:
    if not (settings.pause_on_battery and now_is.is_on_battery):
        return None
    return Paused("Paused on battery. Resumes on mains power.")


def _too_hot(now_is: Circumstances, settings: Settings) -> Paused | None:
    heat = now_is.reading.temperature_c if now_is.reading is not None else None
    if heat is None:
        return None
    limit, resumes_below = settings.max_temperature_c, settings.max_temperature_c - COOL_DOWN_C
    if heat <= limit and not (now_is.is_cooling and heat >= resumes_below):
        return None
    return Paused(f"Cooling down · {heat:.0f} °C, resumes below {resumes_below} °C.", is_over_limit=heat > limit)


def _crowded_out(now_is: Circumstances, settings: Settings) -> Paused | None:
    """Other programs want the memory that the plan lives in: they come first, the machine is the owner's."""
    r = now_is.reading
    if r is None or r.memory_used_bytes is None or r.memory_total_bytes is None or r.memory_ours_bytes is None:
        return None
    others_bytes = max(0, r.memory_used_bytes - r.memory_ours_bytes)
    if others_bytes + now_is.plan_bytes <= r.memory_total_bytes * settings.max_memory_percent / 100:
        return None
    what = "Memory" if now_is.kind is DeviceKind.CPU else "GPU"
    return Paused(f"{what} needed by another app. Resumes when it is free again.", is_over_limit=True)
