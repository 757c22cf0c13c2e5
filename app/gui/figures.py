"""How numbers, money, times and lengths of time are written for the owner.

Pure: no Qt, no clock, no locale of the machine. Never rounds money up.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from core.node_state import NodeState

NONE = "–"
MINUTE_S = 60
HOUR_S = 3_600
DAY_S = 86_400
GIB = 1 << 30
MIB = 1 << 20
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Now(msgspec.Struct, frozen=True):
    """The time, in seconds since the epoch, and how far local clocks are ahead of UTC."""

    at: float
    utc_offset_s: int = 0

    def local(self, at: float) -> datetime:
        """A moment as the owner's clock shows it."""
        return datetime.fromtimestamp(at, UTC) + timedelta(seconds=self.utc_offset_s)


class Money(msgspec.Struct, frozen=True):
    """How the payment token is written."""

    symbol: str
    decimals: int

    def text(self, amount: int) -> str:
        """An amount in whole tokens, rounded down: 3 places from 1 on, else 5, or 6 below a thousandth."""
        places = self._places(abs(amount))
        shown = abs(amount) // 10 ** max(0, self.decimals - places)
        places = min(places, self.decimals)
        whole, part = divmod(shown, 10**places)
        sign = "−" if amount < 0 else ""
        return f"{sign}{whole:,}.{part:0{places}d}" if places else f"{sign}{whole:,}"

    def full(self, amount: int) -> str:
        """An amount with its symbol."""
        return f"{self.text(amount)} {self.symbol}".rstrip()

    def exact(self, amount: int) -> str:
        """Every decimal place and no grouping, for spreadsheets."""
        whole, part = divmod(abs(amount), 10**self.decimals)
        sign = "-" if amount < 0 else ""
        return f"{sign}{whole}.{part:0{self.decimals}d}" if self.decimals else f"{sign}{whole}"

    def _places(self, amount: int) -> int:
        unit = 10**self.decimals
        if amount == 0 or amount >= unit:
            return 3
        return 5 if amount * 1_000 >= unit else 6


def money(state: NodeState) -> Money:
    """How this network writes its money."""
    if state.network is None:
        return Money("", 6)
    return Money(state.network.symbol, state.network.decimals)


def count(number: int) -> str:
    """1207 as 1,207."""
    return f"{number:,}"


def plural(number: int, word: str) -> str:
    """1 job, 2 jobs, 1,207 jobs."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def speed(tokens_per_s: float) -> str:
    """Tokens per second, one decimal below ten."""
    return f"{tokens_per_s:.1f}" if 0 < tokens_per_s < 9.95 else f"{tokens_per_s:,.0f}"


def percent(part: float, whole: float) -> str:
    """part of whole; 100 % only when it is all of it."""
    if whole <= 0:
        return NONE
    share = 100 * part / whole
    if 99 < share < 100:
        return f"{min(99.9, int(share * 10) / 10)} %"
    return f"{share:.0f} %"


def gigabytes(size: int) -> str:
    """Bytes in GB (2**30), one decimal below a hundred."""
    value = size / GIB
    return f"{value:.0f}" if value >= 99.95 or value == int(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """45 ms, 0.6 s, 42 s, 12 min, 4 h 12 min, 3 d 4 h."""
    if 0 < seconds < 0.095:
        return f"{max(1.0, seconds * 1000):.0f} ms"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = int(seconds // MINUTE_S)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(seconds: float) -> str:
    """How long ago, without false precision."""
    if seconds < 10:
        return "just now"
    return f"{duration(seconds)} ago"


def clock_time(at: float, now: Now, *, seconds: bool = False) -> str:
    """14:03, or 14:03:11."""
    return now.local(at).strftime("%H:%M:%S" if seconds else "%H:%M")


def moment(at: float, now: Now) -> str:
    """Today, 13:00 | Yesterday, 18:20 | 3 Sep, 09:00."""
    there, here = now.local(at), now.local(now.at)
    days = (here.date() - there.date()).days
    if days in (0, 1):
        return f"{'Today' if days == 0 else 'Yesterday'}, {there:%H:%M}"
    return f"{there.day} {MONTHS[there.month - 1]}, {there:%H:%M}"


def until(at: float, now: Now) -> str:
    """The time today, or with its day when that is another one."""
    if now.local(at).date() == now.local(now.at).date():
        return clock_time(at, now)
    return moment(at, now)


def day_label(day: int) -> str:
    """A day since the epoch (UTC) as 19 Nov."""
    date = datetime.fromtimestamp(day * DAY_S, UTC)
    return f"{date.day} {MONTHS[date.month - 1]}"


def short_hex(text: str) -> str:
    """0x7a3f…c41e."""
    return text if len(text) <= 12 else f"{text[:6]}…{text[-4:]}"


def short_id(text: str) -> str:
    """The start of an id, enough to tell it from its neighbours."""
    return text if len(text) <= 16 else f"{text[:8]}…{text[-4:]}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 11th."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
