"""Whether this computer slept or its clock was set: then nothing that was known of connections holds.

Pure: both clocks are arguments.
"""

from __future__ import annotations

import msgspec

JUMP_S = 15.0


class Moment(msgspec.Struct, frozen=True):
    """One look at both clocks: seconds since the epoch, and steady seconds that may stand still in sleep."""

    wall_s: float
    steady_s: float


def jumped(before: Moment, after: Moment, *, expected_s: float) -> bool:
    """Whether more time went by than was waited for, or the wall clock was set."""
    steady_s, wall_s = after.steady_s - before.steady_s, after.wall_s - before.wall_s
    return abs(wall_s - steady_s) > JUMP_S or steady_s - expected_s > JUMP_S
