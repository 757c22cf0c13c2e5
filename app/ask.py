"""`starling ask MODEL "prompt"`: place one job in the network and stream its answer to stdout.

A requester of its own, beside any engine of the same home: the prompt never crosses the control link.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys

import trio

from app.cli_text import money
from app.lockfile import HomeLocked
from app.logs import log_to
from app.requester import open_requester
from core.home import Home
from core.job import ChatMessage, FinishReason, JobId, JobRequest, JobState, JobTerms, PriorityClass, Sampling, Usage
from core.network import Network, NetworkError
from core.payments.chain_values import ChainError
from core.payments.keystore import WalletLocked
from core.store import StoreError
from core.trouble import Trouble, innermost, trouble_of
from p2p.job_request import JobOver, JobText, JobUpdate

KNOWN = (NetworkError, StoreError, ChainError, WalletLocked, HomeLocked, OSError)
INTERRUPTED = 130


def run_ask(arguments: argparse.Namespace, home: Home) -> int:
    """0 when the answer is whole, 130 when it was cancelled, else 1 with one sentence."""
    try:
        log_to(home, "requester")
        return trio.run(_ask, arguments, home)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge: unknown ones are raised again
        if isinstance(innermost(error), KeyboardInterrupt):
            return _cancelled_early()
        if isinstance(innermost(error), BrokenPipeError):
            raise BrokenPipeError from error
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _cancelled_early()


def _cancelled_early() -> int:
    print("Cancelled before the job was placed. Nothing was charged.", file=sys.stderr)
    return INTERRUPTED


async def _ask(arguments: argparse.Namespace, home: Home) -> int:
    answer = _Answer(is_json=arguments.json)
    request = _request(arguments)
    over: JobOver | None = None
    async with open_requester(home, arguments.network) as requester:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_interrupt, nursery.cancel_scope)
            over = await requester.run(request, answer.take)
            nursery.cancel_scope.cancel()
        if over is None:
            over = answer.cancelled(requester.spent)
    return answer.close(over, requester.network)


async def _cancel_on_interrupt(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


class _Answer:
    """Writes what arrives, and at the end what it cost."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._text: list[str] = []
        self._usage = Usage()

    async def take(self, update: JobUpdate) -> None:
        if not isinstance(update, JobText):
            return
        self._text.append(update.text)
        self._usage = Usage(0, update.completion_tokens)
        if not self._is_json:
            sys.stdout.write(update.text)
            sys.stdout.flush()

    def cancelled(self, spent: int) -> JobOver:
        """The end of a job that its user stopped: what was signed for is what was delivered."""
        return JobOver(JobState.CANCELLED, "You cancelled the job.", self._usage, spent, spent)

    def close(self, over: JobOver, network: Network) -> int:
        if self._is_json:
            print(json.dumps(self._object(over)))
        elif self._text:
            print()
        cost = money(over.amount, decimals=network.decimals, symbol=network.symbol)
        print(_sentence(over, cost), file=sys.stderr)
        if over.state is JobState.CANCELLED:
            return INTERRUPTED
        return 0 if over.state is JobState.FINISHED else 1

    def _object(self, over: JobOver) -> dict[str, object]:
        return {
            "state": over.state.value,
            "reason": over.reason,
            "text": "".join(self._text),
            "prompt_tokens": over.usage.prompt_tokens,
            "completion_tokens": over.usage.completion_tokens,
            "amount": str(over.amount),
            "paid": str(over.paid),
        }


def _sentence(over: JobOver, cost: str) -> str:
    number = over.usage.completion_tokens
    tokens = f"{number} {'token' if number == 1 else 'tokens'} for {cost}."
    match over.state:
        case JobState.FINISHED if over.reason == FinishReason.LENGTH:
            return f"{tokens} The answer was cut off there, at --max-tokens."
        case JobState.FINISHED:
            return tokens
        case JobState.CANCELLED:
            return f"Cancelled. {tokens}"
        case _:
            return f"{over.reason} {tokens if over.amount else 'Nothing was charged.'}"


def _request(arguments: argparse.Namespace) -> JobRequest:
    if not 0 < arguments.max_tokens <= 1 << 20 or arguments.deadline <= 0:
        raise Trouble("--max-tokens and --deadline must be above zero.")
    try:
        prompt_bytes = len(arguments.prompt.encode())
    except UnicodeEncodeError:
        raise Trouble("The prompt is not UTF-8 text.") from None
    terms = JobTerms(
        job_id=JobId(secrets.token_hex(12)),
        model=arguments.model,
        priority=PriorityClass(arguments.priority),
        deadline_s=arguments.deadline,
        max_tokens=arguments.max_tokens,
        prompt_bytes=prompt_bytes,
    )
    sampling = Sampling(max_tokens=arguments.max_tokens, temperature=arguments.temperature, seed=arguments.seed)
    return JobRequest(terms, (ChatMessage("user", arguments.prompt),), sampling)
