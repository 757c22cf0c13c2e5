"""What the command line prints of the state: tables for people, objects for programs.

Pure: state in, text out. Money as decimal strings of the smallest unit in JSON, in the token's own unit for people.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from core.job import FinishReason, Job
from core.node_state import NodeState, Pause
from core.payments.ledger import Earnings
from core.state import earnings

MAX_LISTED_JOBS = 30
MAX_MEASURED_JOBS = 50
LONELY_MARGIN = 0.25


def money(amount: int, *, decimals: int, symbol: str) -> str:
    """An amount in the token's own unit: 1284000 of a token with 6 decimals is 1.284."""
    value = Decimal(amount).scaleb(-decimals)
    return f"{value.normalize():f} {symbol}".strip()


def money_of(state: NodeState, amount: int) -> str:
    """An amount in the unit of this network's token."""
    if state.network is None:
        return f"{amount} units"
    return money(amount, decimals=state.network.decimals, symbol=state.network.symbol)


def status_object(state: NodeState) -> dict[str, Any]:
    """`starling status --json`."""
    return {
        "presence": state.presence.value,
        "paused": None if state.pause is None else state.pause.reason,
        "paused_until": None if state.pause is None else state.pause.until,
        "network": None if state.network is None else state.network.network,
        "peer_id": state.peer_id,
        "addresses": list(state.addresses),
        "peers": state.peers,
        "device": None if state.benchmark is None else state.benchmark.device.name,
        "warning": "" if state.machine is None else state.machine.warning,
        "model": None if state.choice is None else state.choice.plan.model,
        "plan": None if state.choice is None else plan_object(state),
        "sandbox": None if state.worker is None else state.worker.sandbox,
        "jobs_running": len(state.jobs),
        "jobs_finished": state.total.finished,
        "tokens_per_s": state.samples[-1].tokens_per_s if state.samples else 0.0,
        "progress": None if state.progress is None else msgspec.to_builtins(state.progress),
        "trouble": dict(state.trouble),
    }


def plan_object(state: NodeState) -> dict[str, Any]:
    """The plan that serves, why, and predicted beside measured."""
    if state.choice is None:
        return {}
    choice = state.choice
    return {
        "model": choice.plan.model,
        "runtime": choice.plan.runtime,
        "quantization": choice.plan.quantization,
        "reason": choice.reason,
        "predicted_decode_tokens_per_s": round(choice.estimate.decode_tokens_per_s, 2),
        "measured_decode_tokens_per_s": round(measured_decode(state), 2),
        "slots": choice.plan.slots,
    }


def measured_decode(state: NodeState) -> float:
    """What jobs measured of the plan that serves: the median over those with the fewest neighbours, since the
    prediction beside it is for one job alone. Before any job, what the benchmark did, if it was of this plan."""
    jobs = [job for job in state.ended[:MAX_MEASURED_JOBS] if job.tokens_per_s > 0]
    if not jobs:
        return 0.0 if state.choice is None else state.choice.measured_decode_tokens_per_s
    loneliest = min(job.batch for job in jobs)
    speeds = sorted(job.tokens_per_s for job in jobs if job.batch <= loneliest + LONELY_MARGIN)
    return speeds[len(speeds) // 2]


def earnings_object(state: NodeState) -> dict[str, Any]:
    """`starling earnings --json`: decimal strings of the smallest unit."""
    book = earnings(state)
    return {
        "accruing": str(book.accruing),
        "earned": str(book.earned),
        "settling": str(book.settling),
        "withdrawable": str(book.withdrawable),
        "paid": str(book.paid),
        "token": "" if state.network is None else state.network.token,
        "symbol": "" if state.network is None else state.network.symbol,
        "decimals": 0 if state.network is None else state.network.decimals,
    }


def job_object(job: Job) -> dict[str, Any]:
    """One job for `starling jobs --json`; never its words."""
    plain = msgspec.to_builtins(job)
    plain["amount"] = str(job.amount)
    plain["vouchered"] = str(job.vouchered)
    return dict(plain)


def status_text(state: NodeState) -> str:
    """`starling status`."""
    lines = [("State", _headline(state))]
    if state.network is not None:
        peers = f"{state.peers} peer" if state.peers == 1 else f"{state.peers} peers"
        lines.append(("Network", f"{state.network.network} (chain {state.network.chain_id}), {peers}"))
    if state.benchmark is not None:
        lines.append(("Device", f"{state.benchmark.device.name}, {state.benchmark.device.backend}"))
    if state.machine is not None and state.machine.warning:
        lines.append(("Warning", state.machine.warning))
    if state.choice is not None:
        lines.append(("Plan", f"{state.choice.plan.model} · {state.choice.plan.quantization}"))
        lines.append(("Why", state.choice.reason))
    lines.append(("Jobs", f"{len(state.jobs)} live, {state.total.finished} finished, {state.total.failed} failed"))
    lines.append(("Earned", money_of(state, earnings(state).total)))
    lines += [("Trouble", sentence) for sentence in state.trouble.values()]
    return table(lines)


def jobs_text(state: NodeState) -> str:
    """`starling jobs`: live ones in queue order, then the newest that ended."""
    jobs = [*state.jobs.values(), *state.ended[:MAX_LISTED_JOBS]]
    if not jobs:
        return "No jobs yet."
    rows = [("STATE", "MODEL", "PRIORITY", "TOKENS", "TOK/S", "AMOUNT", "ID", "WHY")]
    rows += [_job_row(state, job) for job in jobs]
    return table(rows)


def earnings_text(state: NodeState) -> str:
    """`starling earnings`."""
    book = earnings(state)
    lines = [(label, money_of(state, amount)) for label, amount in _five(book)]
    lines += [(t.kind.value, f"{t.state.value}  {t.transaction}") for t in state.ledger.transactions[:10]]
    return table(lines)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _five(book: Earnings) -> list[tuple[str, int]]:
    return [
        ("Accruing", book.accruing),
        ("Earned", book.earned),
        ("Settling", book.settling),
        ("Withdrawable", book.withdrawable),
        ("Paid", book.paid),
        ("Total", book.total),
    ]


def _headline(state: NodeState) -> str:
    if state.pause is not None:
        return f"{state.presence.value}, {_pause_text(state.pause)}"
    if state.progress is not None:
        return f"{state.presence.value}: {state.progress.text} ({state.progress.fraction:.0%})"
    return state.presence.value


def _pause_text(pause: Pause) -> str:
    until = "" if pause.until is None else time.strftime(" until %H:%M", time.localtime(pause.until))
    return f"paused{until}: {pause.reason}"


def _why(job: Job) -> str:
    """Why it waits or how it ended, in words."""
    match job.reason:
        case FinishReason.STOP:
            return job.why_here or "The answer is whole."
        case FinishReason.LENGTH:
            return job.why_here or "The answer reached its token limit."
        case _:
            return job.why_here or job.reason


def _job_row(state: NodeState, job: Job) -> tuple[str, str, str, str, str, str, str, str]:
    return (
        job.state.value,
        job.terms.model,
        job.terms.priority.value,
        f"{job.usage.completion_tokens} / {job.terms.max_tokens}",
        f"{job.tokens_per_s:.0f}" if job.tokens_per_s else "-",
        money_of(state, job.amount),
        job.terms.job_id,
        _why(job),
    )
