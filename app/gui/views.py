"""What the pages show, as plain values: every word and number is made already.

Never holds a Qt type or a rule; the presenters make these, the pages draw them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Tone(StrEnum):
    """What a colour means; the theme says which colour that is."""

    NEUTRAL = "neutral"
    ACCENT = "accent"
    INFO = "info"
    WARN = "warn"
    DANGER = "danger"


class Mark(StrEnum):
    """How far a step is."""

    DONE = "done"
    NOW = "now"
    LATER = "later"
    WRONG = "wrong"


class LinkPhase(StrEnum):
    """How the window stands to its engine."""

    STARTING = "starting"
    CONNECTED = "connected"
    LOST = "lost"
    FAILED = "failed"


class Link(msgspec.Struct, frozen=True):
    """text says why a link failed, in a sentence."""

    phase: LinkPhase = LinkPhase.STARTING
    text: str = ""


class HeroAction(StrEnum):
    """The buttons that the hero can show."""

    JOIN = "join_network"
    PAUSE = "pause_work"
    RESUME = "resume_work"
    LEAVE = "leave_network"
    CANCEL = "cancel_joining"
    LEAVE_NOW = "leave_now"
    RETRY = "start_engine"


class Step(msgspec.Struct, frozen=True):
    """One step or check with how far it is; value stands at the right, where there is room for it."""

    text: str
    mark: Mark
    value: str = ""


class Hero(msgspec.Struct, frozen=True):
    """The state of this computer. ring: how far the work is, None for a full ring; is_busy: nobody knows how far."""

    title: str
    sentence: str
    tone: Tone
    icon: str
    actions: tuple[HeroAction, ...] = ()
    checks: tuple[Step, ...] = ()
    ring: float | None = None
    is_busy: bool = False


class Tile(msgspec.Struct, frozen=True):
    """One figure of the top row; points make its sparkline."""

    icon: str
    label: str
    value: str
    unit: str = ""
    note: str = ""
    note_tone: Tone = Tone.NEUTRAL
    points: tuple[float, ...] = ()


class Point(msgspec.Struct, frozen=True):
    """One point of the throughput chart."""

    at: float
    value: float
    title: str
    note: str


class Throughput(msgspec.Struct, frozen=True):
    """The throughput chart; ends at now."""

    points: tuple[Point, ...]
    now: float
    benchmark: float | None = None
    benchmark_text: str = ""
    empty_title: str = ""
    empty_text: str = ""


class Meter(msgspec.Struct, frozen=True):
    """A labelled bar; fraction None: the device does not say. ours is the part of it that is this app's."""

    label: str
    text: str
    fraction: float | None = None
    ours: float | None = None


class DeviceCard(msgspec.Struct, frozen=True):
    """The hardware that serves."""

    title: str
    name: str
    load: float | None
    load_text: str
    meters: tuple[Meter, ...]
    footer: str


class PillView(msgspec.Struct, frozen=True):
    """A small coloured word; icon empty draws a dot."""

    text: str
    tone: Tone
    icon: str = ""


class BarRow(msgspec.Struct, frozen=True):
    """A named share."""

    label: str
    fraction: float
    text: str
    note: str = ""


class NetworkCard(msgspec.Struct, frozen=True):
    """How this computer stands in the network, and what was asked of it."""

    pill: PillView
    stats: tuple[tuple[str, str], ...]
    caption: str
    rows: tuple[BarRow, ...]
    empty_text: str


class JobRow(msgspec.Struct, frozen=True):
    """One job in a table."""

    job_id: str
    pill: PillView
    title: str
    variant: str
    quality: str
    priority: str
    priority_level: int
    tokens: str
    fraction: float | None
    bar_tone: Tone
    speed: str
    deadline: str
    deadline_tone: Tone
    amount: str
    ended: str = ""


class Running(msgspec.Struct, frozen=True):
    """The Running now card."""

    title: str
    rows: tuple[JobRow, ...]
    footer: str
    empty_title: str
    empty_text: str
    empty_icon: str


class Notice(msgspec.Struct, frozen=True):
    """A line above the hero that needs the owner's eye."""

    text: str
    tone: Tone = Tone.WARN


class Overview(msgspec.Struct, frozen=True):
    """The whole first page."""

    hero: Hero
    tiles: tuple[Tile, ...]
    throughput: Throughput
    device: DeviceCard
    running: Running
    network: NetworkCard
    notices: tuple[Notice, ...] = ()


class Frame(msgspec.Struct, frozen=True):
    """What stands around every page."""

    network: str
    live_jobs: int
    status: str
    status_note: str
    status_tone: Tone


class Jobs(msgspec.Struct, frozen=True):
    """The jobs page: two live groups in the order they run, and what is over."""

    running: tuple[JobRow, ...]
    waiting: tuple[JobRow, ...]
    history: tuple[JobRow, ...]
    unit: str
    summary: str
    summary_note: str
    average: str
    empty_title: str
    empty_text: str


class JobDetails(msgspec.Struct, frozen=True):
    """One job, without its words."""

    job_id: str
    short_id: str
    pill: PillView
    tokens: str
    of_tokens: str
    fraction: float
    speed: str
    to_go: str
    steps: tuple[Step, ...]
    facts: tuple[tuple[str, str], ...]
    why: str
    can_cancel: bool


class Sum(msgspec.Struct, frozen=True):
    """One of the sums on top of the earnings page."""

    icon: str
    label: str
    value: str
    unit: str
    note: str


class Bar(msgspec.Struct, frozen=True):
    """One day (or month); parts are amounts by model, in the order of Bars.models."""

    label: str
    parts: tuple[int, ...]
    title: str
    note: str

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts)


class Bars(msgspec.Struct, frozen=True):
    """Earnings by day; unit is how many smallest units make one of the axis."""

    bars: tuple[Bar, ...]
    models: tuple[str, ...]
    unit: int
    note: str


class TransactionRow(msgspec.Struct, frozen=True):
    """One transaction of ours; transaction is the whole hash."""

    when: str
    icon: str
    what: str
    pill: PillView
    transaction: str
    short: str
    amount: str
    amount_tone: Tone


class EarningsPage(msgspec.Struct, frozen=True):
    """The whole earnings page. can_withdraw False comes with its reason."""

    withdrawable: Sum
    sums: tuple[Sum, ...]
    can_withdraw: bool
    withdraw_reason: str
    bars: dict[str, Bars]
    by_model: tuple[BarRow, ...]
    by_model_note: str
    transactions: tuple[TransactionRow, ...]
    payout: str
