"""The laws of availability: the owner first, every limit kept, every reason a sentence."""

from __future__ import annotations

import msgspec

from core.availability import Available, Circumstances, Paused, availability
from core.device import DeviceKind, Reading
from core.node_state import Pause, Presence
from core.settings import Settings

SETTINGS = Settings(max_temperature_c=84, max_memory_percent=90)
JOINED = Circumstances(presence=Presence.JOINED)


def hot(degrees: float) -> Reading:
    return Reading(at=0.0, temperature_c=degrees)


def memory(used: int, ours: int) -> Reading:
    return Reading(at=0.0, memory_used_bytes=used, memory_total_bytes=100, memory_ours_bytes=ours)


def reason(now_is: Circumstances, *, now: float = 0.0) -> str:
    found = availability(now_is, SETTINGS, now=now)
    return found.reason if isinstance(found, Paused) else ""


def test_a_joined_machine_within_its_limits_is_available() -> None:
    assert availability(JOINED, SETTINGS, now=0.0) == Available()


def test_no_work_is_taken_before_joining_or_while_leaving() -> None:
    for presence in (Presence.IDLE, Presence.JOINING, Presence.LEAVING):
        assert reason(Circumstances(presence=presence))


def test_the_owners_pause_ends_at_its_time() -> None:
    paused = msgspec.structs.replace(JOINED, pause=Pause("Paused by you.", since=0.0, until=60.0))
    assert availability(paused, SETTINGS, now=59.0) == Paused("Paused by you.", 60.0)
    assert availability(paused, SETTINGS, now=60.0) == Available()


def test_the_owners_pause_comes_before_every_rule() -> None:
    paused = msgspec.structs.replace(JOINED, pause=Pause("Paused by you.", 0.0, None), is_on_battery=True)
    assert reason(paused) == "Paused by you."


def test_battery_pauses_only_where_the_owner_wants_it() -> None:
    unplugged = msgspec.structs.replace(JOINED, is_on_battery=True)
    assert reason(unplugged) == "Paused on battery. Resumes on mains power."
    assert availability(unplugged, Settings(pause_on_battery=False), now=0.0) == Available()


def test_heat_pauses_until_it_is_well_below_the_limit() -> None:
    at_limit = msgspec.structs.replace(JOINED, reading=hot(85.0))
    assert reason(at_limit) == "Cooling down · 85 °C, resumes below 78 °C."
    cooling = msgspec.structs.replace(JOINED, reading=hot(80.0), is_cooling=True)
    assert availability(cooling, SETTINGS, now=0.0) == Paused("Cooling down · 80 °C, resumes below 78 °C.")
    assert not reason(msgspec.structs.replace(JOINED, reading=hot(80.0)))
    assert not reason(msgspec.structs.replace(cooling, reading=hot(77.0)))


def test_memory_that_others_take_is_given_to_them() -> None:
    ours_fits = msgspec.structs.replace(JOINED, reading=memory(used=80, ours=50), plan_bytes=50)
    assert not reason(ours_fits)
    crowded = msgspec.structs.replace(JOINED, reading=memory(used=95, ours=50), plan_bytes=50)
    assert reason(crowded) == "GPU needed by another app. Resumes when it is free again."
    assert reason(msgspec.structs.replace(crowded, kind=DeviceKind.CPU)).startswith("Memory needed")


def test_a_machine_that_says_nothing_is_available() -> None:
    assert not reason(msgspec.structs.replace(JOINED, reading=Reading(at=0.0)))
