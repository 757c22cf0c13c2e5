"""The sentence of every state: what happens here now, why, what it means for the owner, and which buttons go with it.

Pure: no Qt. Never promises what was not measured, and never shows a figure that the state does not hold.
"""

from __future__ import annotations

from typing import assert_never

from app.gui.figures import DAY_S, Now, ago, duration, money, percent, plural, short_hex, speed, until
from app.gui.served import (
    asked_count,
    asked_lately,
    device_name,
    full_speed,
    is_in_network,
    is_processor,
    joined,
    served_title,
)
from app.gui.views import Hero, HeroAction, Link, LinkPhase, Mark, Step, Tone
from core.job import JobState
from core.node_state import NodeState, Pause, Presence


def hero(state: NodeState | None, link: Link, *, now: Now) -> Hero:
    """The hero of the overview in every state of this computer and of the link to its engine."""
    if link.phase is LinkPhase.FAILED:
        title = "Starling stopped" if state is not None else "Starling could not start"
        return Hero(title, link.text, Tone.DANGER, "triangle-alert", (HeroAction.RETRY,))
    if link.phase is LinkPhase.LOST:
        text = "The engine does not answer. Trying again by itself; what you earned so far is kept."
        return Hero("Reconnecting…", link.text or text, Tone.WARN, "refresh-cw", is_busy=True)
    if state is None or link.phase is LinkPhase.STARTING:
        text = "Opening the engine of this computer. This takes a few seconds."
        return Hero("Starting Starling…", text, Tone.NEUTRAL, "power", is_busy=True)
    return _present(state, now)


def why_idle(state: NodeState, now: Now) -> str:
    """Why no job runs although this computer is in the network: the cause, and what happens next."""
    if state.pause is not None:
        return f"No new jobs while paused. {pause_end(state.pause, now)}"
    if "worker" in state.trouble:
        return state.trouble["worker"]
    if state.worker is None:
        return "The model is not in memory yet. Jobs can start as soon as it is."
    if state.peers == 0:
        return "No other peer is connected yet, so nobody can send jobs. Starling keeps looking."
    return joined_sentences(_declined_lately(state, now), _demand(state, now))


def joined_sentences(*sentences: str) -> str:
    """The sentences that say something, with a blank between."""
    return " ".join(sentence for sentence in sentences if sentence)


def pause_end(pause: Pause, now: Now) -> str:
    """When a pause ends."""
    return "Resumes when you say so." if pause.until is None else f"Resumes at {until(pause.until, now)}."


def reachability(state: NodeState) -> tuple[str, Tone]:
    """How other peers can reach this computer, as far as its own addresses say."""
    if not state.addresses or not is_in_network(state):
        return ("Not joined", Tone.NEUTRAL)
    if all("/p2p-circuit" in address for address in state.addresses):
        return ("Through a relay", Tone.WARN)
    if all("/127.0.0.1/" in address or "/::1/" in address for address in state.addresses):
        return ("This computer only", Tone.INFO)
    return ("Listening", Tone.ACCENT)


def _present(state: NodeState, now: Now) -> Hero:
    match state.presence:
        case Presence.IDLE:
            return _setup(state) if state.benchmark is None or state.choice is None else _idle(state)
        case Presence.JOINING:
            return _joining(state)
        case Presence.JOINED:
            return _joined(state, now)
        case Presence.LEAVING:
            return _leaving(state)
        case _:
            assert_never(state.presence)


def _setup(state: NodeState) -> Hero:
    if state.progress is not None:
        return _measuring(state)
    if state.machine is None:
        text = "Looking at the hardware. Nothing is shared before you join."
        return Hero("Let’s set up this computer", text, Tone.NEUTRAL, "power", is_busy=True)
    text = f"Joining measures your {device_name(state)} first, picks the model plan that fits it, then takes jobs."
    if is_processor(state):
        text = "No usable GPU was found. You can still join with the processor; it is measured first."
    checks = (
        Step(_device_words(state), Mark.DONE),
        Step("Nothing is shared before you join", Mark.DONE),
        *_payout(state),
    )
    return Hero("Let’s set up this computer", text, Tone.NEUTRAL, "power", (HeroAction.JOIN,), checks)


def _measuring(state: NodeState) -> Hero:
    progress = state.progress
    text = progress.text if progress is not None and progress.text else "This takes about a minute."
    fraction = progress.fraction if progress is not None else None
    title = "Measuring this computer…"
    return Hero(title, text, Tone.INFO, "gauge", checks=_payout(state), ring=fraction)


def _idle(state: NodeState) -> Hero:
    if state.progress is not None:
        return _measuring(state)
    checks = [Step(_device_words(state), Mark.DONE)]
    measured = full_speed(state)
    if measured is not None:
        checks.append(Step(f"Benchmark done · {speed(measured)} tok/s", Mark.DONE))
    text = joined_sentences(f"Your {device_name(state)} is idle.", _worth(state))
    return Hero("Ready to join", text, Tone.NEUTRAL, "power", (HeroAction.JOIN,), (*checks, *_payout(state)))


def _worth(state: NodeState) -> str:
    """The meta-model's own figure: a machine that is never idle, lower-bound speed, power taken off."""
    hourly = state.choice.estimate.reward_per_hour if state.choice is not None else 0.0
    if hourly <= 0 or state.network is None:
        return ""
    return f"Fully busy it would earn about {money(state).full(int(hourly))} an hour after power; demand decides."


def _joining(state: NodeState) -> Hero:
    progress = state.progress
    text = progress.text if progress is not None and progress.text else "Getting ready to take jobs."
    fraction = progress.fraction if progress is not None else None
    return Hero(
        "Joining the network…",
        joined_sentences(text, *state.trouble.values()),
        Tone.ACCENT,
        "power",
        (HeroAction.CANCEL,),
        _joining_steps(state),
        ring=fraction,
        is_busy=fraction is None,
    )


def _joining_steps(state: NodeState) -> tuple[Step, ...]:
    """Done as far as the state proves it; the first one that is not is the one under way."""
    proven = (
        ("Measured", state.benchmark is not None),
        ("Plan chosen", state.choice is not None),
        ("Model in memory", state.worker is not None),
        ("Announced to peers", False),
    )
    steps = []
    is_next = True
    for words, is_done in proven:
        mark = Mark.DONE if is_done else Mark.NOW if is_next else Mark.LATER
        is_next = is_next and is_done
        steps.append(Step(words, mark))
    return tuple(steps)


def _joined(state: NodeState, now: Now) -> Hero:
    if state.pause is not None:
        return _paused(state, state.pause, now=now)
    if "swarm" in state.trouble:
        text = f"{state.trouble['swarm']} Trying again by itself; nothing is lost."
        return Hero("You’re offline", text, Tone.WARN, "wifi-off", (HeroAction.LEAVE,), _joined_checks(state))
    is_relayed = reachability(state)[0] == "Through a relay"
    title = "Limited" if is_relayed else "You’re contributing"
    text = _serving(state, now)
    if is_relayed:
        text = "Other peers can’t reach you directly, so jobs come through a relay."
    tone = Tone.WARN if is_relayed else Tone.ACCENT
    return Hero(title, text, tone, "zap", (HeroAction.PAUSE, HeroAction.LEAVE), _joined_checks(state))


def _serving(state: NodeState, now: Now) -> str:
    since = f"joined {ago(now.at - state.joined_at)}" if state.joined_at is not None else ""
    if state.jobs:
        return joined(f"Serving {plural(len(state.jobs), 'job')} for the network", since)
    idle_s = now.at - state.idle_since if state.idle_since is not None else 0.0
    has_worked = state.idle_since != state.joined_at
    idle = f"none for {duration(idle_s)}" if idle_s >= 60 and has_worked else ""
    return joined("Waiting for the next job", idle, since)


def _paused(state: NodeState, pause: Pause, *, now: Now) -> Hero:
    running = f"{plural(len(state.jobs), 'job')} in progress will still finish." if state.jobs else ""
    reason = pause.reason.strip().rstrip(".")
    why = f"{reason[:1].upper()}{reason[1:]}." if reason and reason.lower() not in ("paused", "paused by you") else ""
    text = joined_sentences(why, pause_end(pause, now), running)
    return Hero("Paused", text, Tone.WARN, "pause", (HeroAction.RESUME, HeroAction.LEAVE), _joined_checks(state))


def _leaving(state: NodeState) -> Hero:
    if not state.jobs:
        text = "Withdrawing the offer and freeing the memory."
        return Hero("Leaving the network…", text, Tone.NEUTRAL, "log-out", is_busy=True)
    amount = sum(job.amount for job in state.jobs.values())
    text = "Leaving now would cost you these payments."
    if amount:
        text = f"They are worth {money(state).full(amount)} so far. Leaving now would cost you what they still earn."
    title = f"Finishing {plural(len(state.jobs), 'job')}…"
    return Hero(title, text, Tone.WARN, "log-out", (HeroAction.LEAVE_NOW,), is_busy=True)


def _joined_checks(state: NodeState) -> tuple[Step, ...]:
    words, tone = reachability(state)
    checks = [Step(_device_words(state), Mark.DONE)]
    if state.worker is not None:
        checks.append(Step(f"{served_title(state)} in memory", Mark.DONE))
    checks.append(Step(words, Mark.WRONG if tone is Tone.WARN else Mark.DONE))
    return (*checks, *_payout(state))


def _payout(state: NodeState) -> tuple[Step, ...]:
    if state.network is None or not state.network.owner:
        return ()
    return (Step(f"Payout {short_hex(state.network.owner)}", Mark.DONE),)


def _device_words(state: NodeState) -> str:
    return f"{device_name(state)} · processor" if is_processor(state) else f"{device_name(state)} ready"


def _declined_lately(state: NodeState, now: Now) -> str:
    declined = [job for job in asked_lately(state, now) if job.state is JobState.DECLINED]
    if not declined:
        return ""
    last = declined[0].reason.strip().rstrip(".")
    return f"{plural(len(declined), 'request')} declined in the last hour, the last because: {last}."


def _demand(state: NodeState, now: Now) -> str:
    asked = asked_lately(state, now)
    day = state.days.get(int(now.at // DAY_S))
    if asked:
        requests = f"{asked_count(state, asked)} {'request' if len(asked) == 1 else 'requests'}"
        return f"{requests} came in the last hour; the next job starts by itself."
    if day is not None and day.finished:
        return "No requester has asked in the last hour; the next job starts by itself."
    return f"{plural(state.peers, 'peer')} connected, but no requester has asked yet. The next job starts by itself."


def on_time_words(finished: int, on_time: int) -> str:
    """99.6 % on time."""
    return f"{percent(on_time, finished)} on time"
