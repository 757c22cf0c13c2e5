"""The demo's requester: other people's jobs, of all three classes, sent to whoever serves the demo model.

A process of its own with a home, a wallet and a swarm identity of its own. Prints one JSON line a job that is over.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import trio

from app.logs import log_to
from app.requester import Requester, open_requester
from core.home import Home
from core.job import ChatMessage, JobId, JobRequest, JobState, JobTerms, PriorityClass, Sampling
from p2p.job_request import JobOver

MODEL = "starling-demo"
AT_ONCE = 4
AT_ONCE_WITHOUT_END = 10
PATIENCE_S = 240.0
RETRY_S = 1.0
PAUSE_S = (0.1, 0.8)
LAST_OF_BURST = 0.15
CLASSES = (PriorityClass.INTERACTIVE, PriorityClass.STANDARD, PriorityClass.BATCH)
QUESTIONS = (
    "Count from 1 to 50.",
    "Tell me a story.",
    "List the Python keywords.",
    "List the HTTP client error codes.",
    "Count from 1 to 30.",
    "Write a poem about birds.",
    "Show the 7 times table.",
    "List the days of each month.",
    "What does HTTP status 404 mean?",
    "List the words of the NATO alphabet.",
    "Count from 1 to 45.",
    "List the planets.",
    "What is signal SIGTERM?",
)


class Load(msgspec.Struct, frozen=True):
    """How many jobs (0: without end) and the seed of their draw."""

    jobs: int
    seed: int = 7


def main() -> int:
    """Send the jobs, then stay in the network until stdin ends."""
    parser = argparse.ArgumentParser(prog="demo_requester")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=0)
    arguments = parser.parse_args()
    log_to(Home(arguments.home), "requester")
    try:
        trio.run(partial(_run, Home(arguments.home), arguments.network, load=Load(arguments.jobs)))
    except KeyboardInterrupt:
        return 130
    return 0


async def _run(home: Home, network: Path, *, load: Load) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_with_stdin, nursery.cancel_scope)
        async with open_requester(home, network) as requester:
            await (_send(requester, load) if load.jobs else _send_without_end(requester, load))
            await trio.sleep_forever()


async def _end_with_stdin(scope: trio.CancelScope) -> None:
    await trio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
    scope.cancel()


async def _send(requester: Requester, load: Load) -> None:
    places = trio.Semaphore(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for number in range(load.jobs):
            await places.acquire()
            nursery.start_soon(partial(_one, requester, load, number=number, places=places))


async def _send_without_end(requester: Requester, load: Load) -> None:
    """In bursts, as people ask: some run, some wait, and there are quiet moments."""
    places = trio.Semaphore(AT_ONCE_WITHOUT_END)
    draw = random.Random(load.seed)
    async with trio.open_nursery() as nursery:
        for number in count():
            await places.acquire()
            nursery.start_soon(partial(_one, requester, load, number=number, places=places))
            if draw.random() < LAST_OF_BURST:
                await trio.sleep(draw.uniform(*PAUSE_S))


async def _one(requester: Requester, load: Load, *, number: int, places: trio.Semaphore) -> None:
    """One job, asked again while peers decline it for now."""
    over = JobOver(JobState.DECLINED, "No peer took this job in time.")
    with trio.move_on_after(PATIENCE_S):
        for attempt in count():
            over = await requester.run(_request(load, number, attempt=attempt), _ignore)
            if over.state in (JobState.FINISHED, JobState.FAILED, JobState.CANCELLED):
                break
            await trio.sleep(max(RETRY_S, over.retry_after_s))
    places.release()
    line = {
        "job": number,
        "priority": CLASSES[number % 3].value,
        "state": over.state.value,
        "reason": over.reason,
        "completion_tokens": over.usage.completion_tokens,
        "amount": str(over.amount),
        "paid": str(over.paid),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _ignore(update: object) -> None:
    """The demo shows jobs from the provider's side; the words are for nobody."""


def _request(load: Load, number: int, *, attempt: int) -> JobRequest:
    draw = random.Random(f"{load.seed}-{number}")
    question = QUESTIONS[number % len(QUESTIONS)]
    max_tokens = draw.choice((96, 160, 256))
    terms = JobTerms(
        job_id=JobId(f"demo-{load.seed}-{number}-{attempt}-{random.SystemRandom().getrandbits(32):08x}"),
        model=MODEL,
        priority=CLASSES[number % 3],
        deadline_s=(30.0, 60.0, 600.0)[number % 3],
        max_tokens=max_tokens,
        prompt_bytes=len(question),
    )
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0 if number % 2 else 0.7, seed=number)
    return JobRequest(terms, (ChatMessage("user", question),), sampling)


if __name__ == "__main__":
    sys.exit(main())
