"""The frame around every page, and the overview, as values made from the node's state.

Pure: no Qt. Never shows a figure that the state does not hold: "–" and a sentence stand where there is none.
"""

from __future__ import annotations

from app.gui import hero as words
from app.gui.figures import (
    DAY_S,
    NONE,
    Now,
    clock_time,
    count,
    gigabytes,
    money,
    percent,
    plural,
    short_id,
    speed,
)
from app.gui.job_words import job_row
from app.gui.served import (
    asked_count,
    asked_lately,
    device,
    device_name,
    full_speed,
    is_in_network,
    is_processor,
    joined,
    live_by_age,
    model_title,
    waiting,
)
from app.gui.views import (
    BarRow,
    DeviceCard,
    Frame,
    Link,
    LinkPhase,
    Meter,
    NetworkCard,
    Notice,
    Overview,
    PillView,
    Point,
    Running,
    Throughput,
    Tile,
    Tone,
)
from core.job import Job, JobState
from core.node_state import NodeState, Presence, Served

RUNNING_ROWS = 3
DEMAND_ROWS = 3
HOTTEST_C = 100.0
STALE_S = 30.0


def frame(state: NodeState | None, link: Link) -> Frame:
    """The sidebar: network, live jobs, and the one-line status."""
    if state is None or link.phase is not LinkPhase.CONNECTED:
        status, tone = ("Not running", Tone.DANGER) if link.phase is LinkPhase.FAILED else ("Connecting…", Tone.INFO)
        return Frame("", 0, status, "", tone)
    status, tone = _status(state)
    reading = state.reading
    heat = f"{reading.temperature_c:.0f} °C" if reading is not None and reading.temperature_c is not None else ""
    name = device_name(state) if device(state) is not None else ""
    return Frame(
        network=_network_name(state),
        live_jobs=len(state.jobs),
        status=status,
        status_note=joined(name, heat),
        status_tone=tone,
    )


def overview(state: NodeState | None, link: Link, *, now: Now) -> Overview:
    """The whole first page."""
    shown = state if state is not None else NodeState()
    return Overview(
        hero=words.hero(state, link, now=now),
        tiles=_tiles(shown, now),
        throughput=_throughput(shown, now),
        device=_device(shown, now),
        running=_running(shown, now),
        network=_network(shown, now),
        notices=_notices(shown, link),
    )


def _network_name(state: NodeState) -> str:
    if state.network is None:
        return ""
    name = state.network.network
    return {"devnet": "Test net", "testnet": "Test net", "mainnet": "Main net"}.get(name, name)


def _status(state: NodeState) -> tuple[str, Tone]:
    if state.presence is Presence.JOINED:
        if state.pause is not None:
            return "Paused", Tone.WARN
        return ("Contributing", Tone.ACCENT) if "swarm" not in state.trouble else ("Offline", Tone.WARN)
    if state.presence is Presence.JOINING:
        return "Joining…", Tone.INFO
    return ("Leaving…", Tone.INFO) if state.presence is Presence.LEAVING else ("Not joined", Tone.NEUTRAL)


def _notices(state: NodeState, link: Link) -> tuple[Notice, ...]:
    """Trouble that the hero does not already tell."""
    if link.phase is not LinkPhase.CONNECTED:
        return ()
    told = {"swarm"} if state.presence is Presence.JOINED else set(state.trouble) if _is_joining(state) else set()
    sentences = [sentence for place, sentence in sorted(state.trouble.items()) if place not in told]
    if state.machine is not None and state.machine.warning:
        sentences.insert(0, state.machine.warning)
    return tuple(Notice(sentence) for sentence in sentences)


def _is_joining(state: NodeState) -> bool:
    return state.presence is Presence.JOINING


def _tiles(state: NodeState, now: Now) -> tuple[Tile, ...]:
    today = state.days.get(int(now.at // DAY_S), Served())
    earned = _earned_tile(state, today, now=now)
    return (earned, _speed_tile(state, now), _jobs_tile(today, state), _network_tile(state))


def _earned_tile(state: NodeState, today: Served, *, now: Now) -> Tile:
    yesterday = state.days.get(int(now.at // DAY_S) - 1, Served())
    note = "Starts when you join" if state.presence is Presence.IDLE else "Counts each finished job"
    tone = Tone.NEUTRAL
    if today.amount and yesterday.amount:
        change = 100 * (today.amount - yesterday.amount) / yesterday.amount
        note, tone = _change_words(change)
    elif today.amount:
        note = f"from {plural(today.finished + today.failed + today.cancelled, 'job')}"
    coin = money(state)
    value = coin.text(today.amount)
    return Tile("coins", "Earned today", value, coin.symbol, note, tone, _earned_points(state, today, now=now))


def _change_words(change: float) -> tuple[str, Tone]:
    if abs(change) < 0.5:
        return "As much as yesterday", Tone.NEUTRAL
    if change > 0:
        return f"▲ {change:,.0f} % on yesterday", Tone.ACCENT
    return f"▼ {-change:.0f} % on yesterday", Tone.NEUTRAL


def _earned_points(state: NodeState, today: Served, *, now: Now) -> tuple[float, ...]:
    """Today's sum after each of the last remembered jobs."""
    start = now.at // DAY_S * DAY_S
    amounts = [job.amount for job in reversed(state.ended) if (job.ended_at or 0) >= start and job.amount]
    total = today.amount - sum(amounts)
    points = [float(total)]
    for amount in amounts:
        total += amount
        points.append(float(total))
    return tuple(points[-60:]) if len(amounts) >= 2 else ()


def _speed_tile(state: NodeState, now: Now) -> Tile:
    measured = full_speed(state)
    last = state.samples[-1] if state.samples and now.at - state.samples[-1].at < STALE_S else None
    note = f"Benchmark {speed(measured)}" if measured else "Not measured yet"
    if last is None or not is_in_network(state):
        return Tile("gauge", "Throughput", NONE, "", note)
    if measured and last.tokens_per_s > 0:
        note = f"{percent(last.tokens_per_s, measured)} of benchmark"
    points = tuple(sample.tokens_per_s for sample in state.samples[-60:])
    has_shape = any(points)
    return Tile("gauge", "Throughput", speed(last.tokens_per_s), "tok/s", note, points=points if has_shape else ())


def _jobs_tile(today: Served, state: NodeState) -> Tile:
    note = "No jobs yet"
    if today.finished:
        note = words.on_time_words(today.finished, today.on_time)
    elif state.jobs:
        note = f"{plural(len(state.jobs), 'job')} in progress"
    return Tile("list-checks", "Jobs today", count(today.finished), "", note)


def _network_tile(state: NodeState) -> Tile:
    if not is_in_network(state):
        is_joining = state.presence is Presence.JOINING
        return Tile("heart-pulse", "Network", NONE, "", "Joining" if is_joining else "Not joined")
    if "swarm" in state.trouble:
        return Tile("heart-pulse", "Network", "Offline", "", "Trying again", Tone.WARN)
    value = "Connected" if state.peers else "Alone"
    note = f"{plural(state.peers, 'peer')} connected" if state.peers else "Looking for peers"
    return Tile("heart-pulse", "Network", value, "", note)


def _throughput(state: NodeState, now: Now) -> Throughput:
    measured = full_speed(state)
    is_in = is_in_network(state)
    empty = "Throughput appears here with the first job." if is_in else "Throughput appears here as soon as you join."
    points = tuple(
        Point(
            sample.at,
            sample.tokens_per_s,
            f"{speed(sample.tokens_per_s)} tok/s",
            joined(clock_time(sample.at, now, seconds=True), plural(sample.jobs, "job")),
        )
        for sample in state.samples
    )
    return Throughput(
        points=points,
        now=now.at,
        benchmark=measured,
        benchmark_text=f"your benchmark, {speed(measured)}" if measured else "",
        empty_title="No activity yet",
        empty_text=empty,
    )


def _device(state: NodeState, now: Now) -> DeviceCard:
    found, reading = device(state), state.reading
    load = reading.load_percent if reading is not None else None
    return DeviceCard(
        title="Processor" if is_processor(state) else "GPU",
        name=found.name if found is not None else "",
        load=load / 100 if load is not None else None,
        load_text=f"{load:.0f} %" if load is not None else NONE,
        meters=(_memory(state), _power(state), _heat(state)),
        footer=_device_footer(state),
    )


def _memory(state: NodeState) -> Meter:
    reading = state.reading
    if reading is None or reading.memory_used_bytes is None or not reading.memory_total_bytes:
        return Meter("Memory", NONE)
    used, total = reading.memory_used_bytes, reading.memory_total_bytes
    ours = reading.memory_ours_bytes / total if reading.memory_ours_bytes is not None else None
    return Meter("Memory", f"{gigabytes(used)} / {gigabytes(total)} GB", used / total, ours)


def _power(state: NodeState) -> Meter:
    reading = state.reading
    if reading is None or reading.power_w is None:
        return Meter("Power", NONE)
    if not reading.power_limit_w:
        return Meter("Power", f"{reading.power_w:.0f} W")
    fraction = reading.power_w / reading.power_limit_w
    return Meter("Power", f"{reading.power_w:.0f} / {reading.power_limit_w:.0f} W", fraction)


def _heat(state: NodeState) -> Meter:
    reading = state.reading
    if reading is None or reading.temperature_c is None:
        return Meter("Temperature", NONE)
    return Meter("Temperature", f"{reading.temperature_c:.0f} °C", reading.temperature_c / HOTTEST_C)


def _device_footer(state: NodeState) -> str:
    reading = state.reading
    if reading is None:
        return "No reading yet"
    if reading.memory_ours_bytes:
        return f"Starling holds {gigabytes(reading.memory_ours_bytes)} GB of its memory"
    return "Starling holds none of its memory" if state.worker is None else "“–” means the device does not say"


def _running(state: NodeState, now: Now) -> Running:
    live, queue = live_by_age(state), waiting(state)
    rows = tuple(job_row(state, job, now=now) for job in live[:RUNNING_ROWS])
    title, text, icon = _running_empty(state, now)
    if queue:
        title, text = "Starting the next job", _queue_words(state, live, queue=queue)
    return Running("Running now", rows, _queue_words(state, live, queue=queue), title, text, icon)


def _running_empty(state: NodeState, now: Now) -> tuple[str, str, str]:
    if state.presence is Presence.JOINED and state.pause is not None:
        return "Paused", words.why_idle(state, now), "pause"
    if state.presence is Presence.JOINED:
        return "Waiting for the next job", words.why_idle(state, now), "clock"
    return "Nothing running", "Jobs show up here the moment you join.", "moon"


def _queue_words(state: NodeState, live: list[Job], *, queue: list[Job]) -> str:
    parts = []
    if len(live) > RUNNING_ROWS:
        parts.append(f"{count(len(live) - RUNNING_ROWS)} more running")
    if queue:
        first = queue[0].terms
        parts.append(f"{count(len(queue))} waiting")
        parts.append(f"next: {model_title(state, first.model)}, {first.priority.value}")
    return " · ".join(parts) or ("No job waiting" if live else "")


def _network(state: NodeState, now: Now) -> NetworkCard:
    text, tone = words.reachability(state)
    asked = asked_lately(state, now)
    declined = sum(1 for job in asked if job.state is JobState.DECLINED)
    is_in = is_in_network(state)
    stats = (
        (count(state.peers) if is_in else NONE, "peers"),
        (asked_count(state, asked), "asked, last hour"),
        (count(declined), "declined"),
    )
    pill = PillView(text, tone, "check" if tone is Tone.ACCENT else "")
    caption = "Asked of you by model, last hour" if asked else "Asked of you by model"
    empty = "Requests of the last hour appear here." if not state.peer_id else _own_id(state)
    return NetworkCard(pill, stats, caption, _demand(state, asked), empty)


def _own_id(state: NodeState) -> str:
    return f"No request in the last hour. Your peer id is {short_id(state.peer_id)}."


def _demand(state: NodeState, asked: list[Job]) -> tuple[BarRow, ...]:
    by_model: dict[str, int] = {}
    for job in asked:
        by_model[job.terms.model] = by_model.get(job.terms.model, 0) + 1
    ranked = sorted(by_model.items(), key=lambda entry: -entry[1])[:DEMAND_ROWS]
    return tuple(
        BarRow(model_title(state, model), number / len(asked), percent(number, len(asked))) for model, number in ranked
    )
