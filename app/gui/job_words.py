"""One job in the owner's words: its pill, tokens, deadline, row, and details with timeline.

Pure: no Qt. Never shows a prompt or an answer; a Job does not even hold them.
"""

from __future__ import annotations

from typing import assert_never

from app.gui.figures import (
    DAY_S,
    NONE,
    Now,
    clock_time,
    count,
    duration,
    moment,
    money,
    ordinal,
    plural,
    short_hex,
    short_id,
    speed,
    until,
)
from app.gui.served import joined, model_title, quantization
from app.gui.views import JobDetails, JobRow, Mark, PillView, Step, Tone
from core.job import FinishReason, Job, JobState, PriorityClass
from core.node_state import NodeState

HURRY_S = 2.0
FAR_S = 600.0
ENDINGS = {
    FinishReason.STOP.value: "The model came to the end of its answer.",
    FinishReason.LENGTH.value: "The answer reached the most tokens that were asked for.",
}


def job_row(state: NodeState, job: Job, *, now: Now) -> JobRow:
    """A live or ended job as a table row."""
    deadline, tone = deadline_words(job, now)
    name, level = _priority(job.terms.priority)
    return JobRow(
        job_id=job.terms.job_id,
        pill=job_pill(job, now),
        title=model_title(state, job.terms.model),
        variant=quantization(state, job.terms.model),
        quality=f"{job.terms.quality.value} quality",
        priority=name,
        priority_level=level,
        tokens=token_words(job),
        fraction=token_fraction(job),
        bar_tone=Tone.ACCENT if job.state is JobState.DECODING else Tone.INFO,
        speed=f"{speed(job.tokens_per_s)} tok/s" if job.tokens_per_s > 0 else NONE,
        deadline=deadline,
        deadline_tone=tone,
        amount=money(state).text(job.amount) if job.amount else NONE,
        ended=moment(job.ended_at, now) if job.ended_at is not None else "",
    )


def job_details(state: NodeState, job: Job, *, now: Now) -> JobDetails:
    """Everything that may be known of one job."""
    return JobDetails(
        job_id=job.terms.job_id,
        short_id=short_id(job.terms.job_id),
        pill=job_pill(job, now),
        tokens=count(job.usage.completion_tokens),
        of_tokens=f"of at most {plural(job.terms.max_tokens, 'token')}",
        fraction=_share(job),
        speed=f"{speed(job.tokens_per_s)} tok/s" if job.tokens_per_s > 0 else "",
        to_go=_to_go(job),
        steps=_steps(job, now),
        facts=_facts(state, job, now=now),
        why=_why(job),
        can_cancel=not job.state.is_over,
    )


def job_pill(job: Job, now: Now) -> PillView:
    """The state in one or two words."""
    if not job.state.is_over and now.at > job.received_at + job.terms.deadline_s:
        return PillView("Running late", Tone.WARN)
    match job.state:
        case JobState.QUEUED:
            return PillView("Queued", Tone.NEUTRAL)
        case JobState.LOADING:
            return PillView("Loading model", Tone.INFO)
        case JobState.PREFILL:
            return PillView("Reading prompt", Tone.INFO)
        case JobState.DECODING:
            return PillView("Generating", Tone.ACCENT)
        case JobState.FINISHED:
            return PillView("Done", Tone.ACCENT, "check")
        case JobState.FAILED:
            return PillView("Failed", Tone.DANGER)
        case JobState.CANCELLED:
            return PillView("Cancelled", Tone.NEUTRAL)
        case JobState.DECLINED:
            return PillView("Declined", Tone.NEUTRAL)
        case _:
            assert_never(job.state)


def token_words(job: Job) -> str:
    """634 / 1,024, or where the job stands before its first token."""
    match job.state:
        case JobState.QUEUED:
            return _place(job)
        case JobState.LOADING:
            return "Loading model"
        case JobState.PREFILL:
            return "Reading prompt"
        case JobState.DECLINED:
            return NONE
        case JobState.DECODING:
            return f"{count(job.usage.completion_tokens)} / {count(job.terms.max_tokens)}"
        case JobState.FINISHED | JobState.FAILED | JobState.CANCELLED:
            return count(job.usage.completion_tokens)
        case _:
            assert_never(job.state)


def token_fraction(job: Job) -> float | None:
    """How much of the token limit is out; None where a bar would say nothing."""
    if job.state in (JobState.PREFILL, JobState.LOADING):
        return 0.05
    return _share(job) if job.state is JobState.DECODING else None


def deadline_words(job: Job, now: Now) -> tuple[str, Tone]:
    """11 s left, by 18:00, 3 s late; for ended jobs whether it was met."""
    due = job.received_at + job.terms.deadline_s
    if job.ended_at is not None:
        return _ended_deadline(job, due)
    left = due - now.at
    if left < 0:
        return f"{duration(-left)} late", Tone.DANGER
    if left > FAR_S:
        return f"by {until(due, now)}", Tone.NEUTRAL
    return f"{duration(left)} left", Tone.WARN if left < HURRY_S else Tone.NEUTRAL


def _ended_deadline(job: Job, due: float) -> tuple[str, Tone]:
    took = (job.ended_at or job.received_at) - job.received_at
    if job.state is not JobState.FINISHED:
        return NONE, Tone.NEUTRAL
    if (job.ended_at or 0.0) <= due:
        return f"Met · {duration(took)}", Tone.NEUTRAL
    return f"Missed · {duration(took)}", Tone.WARN


def _priority(priority: PriorityClass) -> tuple[str, int]:
    match priority:
        case PriorityClass.INTERACTIVE:
            return "Interactive", 3
        case PriorityClass.STANDARD:
            return "Standard", 2
        case PriorityClass.BATCH:
            return "Batch", 1
        case _:
            assert_never(priority)


def _place(job: Job) -> str:
    if job.place == 0:
        return "Finding its place"
    return "Next up" if job.place == 1 else f"{ordinal(job.place)} in line"


def _share(job: Job) -> float:
    return min(1.0, job.usage.completion_tokens / max(1, job.terms.max_tokens))


def _to_go(job: Job) -> str:
    left = job.terms.max_tokens - job.usage.completion_tokens
    if job.state is not JobState.DECODING or job.tokens_per_s <= 0 or left <= 0:
        return ""
    return f"at most {duration(left / job.tokens_per_s)} to go"


def _why(job: Job) -> str:
    if job.state is JobState.QUEUED:
        return job.why_here
    return ENDINGS.get(job.reason, job.reason) if job.state.is_over else ""


def _steps(job: Job, now: Now) -> tuple[Step, ...]:
    shown = clock_time(job.received_at, now, seconds=True)
    if now.at - job.received_at > DAY_S:
        shown = moment(job.received_at, now)
    received = Step("Received", Mark.DONE, shown)
    if job.state is JobState.DECLINED:
        return (received, Step("Declined", Mark.WRONG, _after(job, job.ended_at)))
    is_started = job.state is not JobState.QUEUED and (not job.state.is_over or job.usage.prompt_tokens > 0)
    waiting = Mark.DONE if is_started else Mark.NOW if not job.state.is_over else Mark.LATER
    return (received, Step("Waited its turn", waiting), _prompt_step(job), _answer_step(job), _end_step(job))


def _prompt_step(job: Job) -> Step:
    if job.prompt_read_at is not None or job.usage.completion_tokens:
        words = (plural(job.usage.prompt_tokens, "token"), _after(job, job.prompt_read_at))
        return Step("Prompt read", Mark.DONE, joined(*words))
    mark = Mark.NOW if job.state is JobState.PREFILL else Mark.LATER
    return Step("Reading prompt" if mark is Mark.NOW else "Prompt read", mark, "now" if mark is Mark.NOW else "")


def _answer_step(job: Job) -> Step:
    if job.state is JobState.DECODING:
        return Step("Generating", Mark.NOW, "now")
    is_done = job.state.is_over and job.usage.completion_tokens > 0
    value = plural(job.usage.completion_tokens, "token") if is_done else ""
    return Step("Generated" if is_done else "Generating", Mark.DONE if is_done else Mark.LATER, value)


def _end_step(job: Job) -> Step:
    match job.state:
        case JobState.FINISHED:
            return Step("Done", Mark.DONE, _after(job, job.ended_at))
        case JobState.FAILED:
            return Step("Failed", Mark.WRONG, _after(job, job.ended_at))
        case JobState.CANCELLED:
            return Step("Cancelled", Mark.WRONG, _after(job, job.ended_at))
        case _:
            return Step("Done", Mark.LATER)


def _after(job: Job, at: float | None) -> str:
    return f"after {duration(at - job.received_at)}" if at is not None else ""


def _facts(state: NodeState, job: Job, *, now: Now) -> tuple[tuple[str, str], ...]:
    coin = money(state)
    first = duration(job.first_token_at - job.received_at) if job.first_token_at is not None else NONE
    deadline, _ = deadline_words(job, now)
    return (
        ("Model", joined(model_title(state, job.terms.model), quantization(state, job.terms.model))),
        ("Priority", _priority(job.terms.priority)[0]),
        ("First token", f"after {first}" if first != NONE else NONE),
        ("Deadline", f"{deadline} of {duration(job.terms.deadline_s)}" if deadline.endswith("left") else deadline),
        ("Price", f"{coin.text(job.price.output_per_mtok)} per 1M out" if job.price.output_per_mtok else NONE),
        ("Requester", short_hex(job.payer) if job.payer else NONE),
        ("You earn", coin.full(job.amount)),
    )
