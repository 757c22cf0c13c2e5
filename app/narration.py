"""What a headless engine says of itself on stderr: one line for whatever its owner would want to know.

Pure but for the watching. Never tells of single jobs (`starling jobs` does), and never a prompt, an answer or a key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from core import events as e
from core.journal import Journal
from core.worker.messages import NOT_CONFINED

PROGRESS_EVERY_S = 1.0

Tell = Callable[[str], None]


async def narrate(journal: Journal, tell: Tell) -> None:
    """Tell what happens until cancelled; events that were missed under load stay untold."""
    told = _ToldProgress()
    while True:
        async for event in _events(journal):
            if told.is_news(event) and (line := line_of(event)):
                tell(line)
        await trio.lowlevel.checkpoint()


def ready_line(*, is_join_wanted: bool) -> str:
    """The first line: commands are heard from now on."""
    if is_join_wanted:
        return "Starling runs and joins the network. Ctrl-C or `starling quit` stops it."
    return "Starling runs. Nothing is shared until `starling join`; Ctrl-C or `starling quit` stops it."


def line_of(event: e.Event) -> str:
    """One line, or nothing for what is not told."""
    match event:
        case e.WorkProgressed():
            return "" if event.fraction >= 1.0 else f"{event.text} ({event.fraction:.0%})"
        case e.PlanChosen():
            return event.choice.reason
        case e.NetworkJoined():
            return "Joined the network; jobs can come."
        case e.NetworkLeft():
            return "Left the network."
        case e.WorkPaused():
            return f"Taking no new jobs. {event.reason}"
        case e.WorkResumed():
            return "Taking jobs again."
        case e.WorkerStarted(sandbox=sandbox) if NOT_CONFINED in sandbox:
            return f"The worker runs strangers' models. {sandbox}"
        case e.WorkerDied():
            return f"The worker stopped: {event.reason} It starts again in {event.retry_s:.0f} s."
        case e.TroubleFound():
            return event.sentence
        case _:
            return ""


async def _events(journal: Journal) -> AsyncIterator[e.Event]:
    with journal.watch() as watcher:
        async for numbered in watcher.events:
            yield numbered.event


class _ToldProgress:
    """Holds progress to a line a second."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0.0

    def is_news(self, event: e.Event) -> bool:
        if not isinstance(event, e.WorkProgressed):
            return True
        if event.text == self._text or event.at - self._at < PROGRESS_EVERY_S:
            return False
        self._text, self._at = event.text, event.at
        return True
