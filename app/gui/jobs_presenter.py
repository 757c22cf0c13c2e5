"""The jobs page as values: running, waiting in the order the scheduler takes them, and history.

Pure: no Qt. Never shows a prompt or an answer.
"""

from __future__ import annotations

from app.gui.figures import DAY_S, Now, count, money
from app.gui.hero import on_time_words, why_idle
from app.gui.job_words import job_details, job_row
from app.gui.served import live_by_age, waiting
from app.gui.views import JobDetails, Jobs
from core.job import Job, JobState
from core.node_state import NodeState, Presence, Served

MAX_HISTORY_ROWS = 200


def jobs(state: NodeState, now: Now) -> Jobs:
    """Everything on the jobs page but the details."""
    title, text = _empty(state, now)
    today = state.days.get(int(now.at // DAY_S), Served())
    return Jobs(
        running=tuple(job_row(state, job, now=now) for job in live_by_age(state)),
        waiting=tuple(job_row(state, job, now=now) for job in waiting(state)),
        history=tuple(job_row(state, job, now=now) for job in state.ended[:MAX_HISTORY_ROWS]),
        unit=money(state).symbol or "Earned",
        summary=f"{count(today.finished)} done today",
        summary_note=_summary_note(state, today, now=now),
        average=_average(state, today),
        empty_title=title,
        empty_text=text,
    )


def find_job(state: NodeState, job_id: str) -> Job | None:
    """A live or remembered job."""
    live = next((job for job in state.jobs.values() if job.terms.job_id == job_id), None)
    return live or next((job for job in state.ended if job.terms.job_id == job_id), None)


def details(state: NodeState, job_id: str, *, now: Now) -> JobDetails | None:
    """One job's details, or None when it is not known any more."""
    job = find_job(state, job_id)
    return job_details(state, job, now=now) if job is not None else None


def _summary_note(state: NodeState, today: Served, *, now: Now) -> str:
    declined = sum(
        1
        for job in state.ended
        if job.state is JobState.DECLINED and int((job.ended_at or 0) // DAY_S) == int(now.at // DAY_S)
    )
    parts = [on_time_words(today.finished, today.on_time)] if today.finished else []
    if today.failed:
        parts.append(f"{count(today.failed)} failed")
    if declined:
        parts.append(f"{count(declined)} declined")
    return "  ·  ".join(parts)


def _average(state: NodeState, today: Served) -> str:
    jobs_billed = today.finished + today.failed + today.cancelled
    if jobs_billed == 0 or today.amount == 0:
        return ""
    return f"{money(state).full(today.amount // jobs_billed)} average"


def _empty(state: NodeState, now: Now) -> tuple[str, str]:
    if state.presence is Presence.JOINED:
        return "Waiting for the next job", why_idle(state, now)
    if state.presence is Presence.JOINING:
        return "Almost there", "Jobs show up here as soon as this computer has joined."
    return "No jobs yet", "Jobs show up here the moment you join."
