"""What to write down when an engine finds jobs that its predecessor left half done.

Pure. Never guesses usage: what was vouchered is what is known to have been paid for.
"""

from __future__ import annotations

from core.events import JobEnded
from core.job import JobState
from core.node_state import NodeState

SENTENCE = "The engine stopped while this job ran. What was paid for it is kept."


def abandoned(state: NodeState, now: float) -> tuple[JobEnded, ...]:
    """One end for every job that was live when the last engine stopped."""
    return tuple(
        JobEnded(
            at=now,
            job_id=job_id,
            state=JobState.FAILED,
            reason=SENTENCE,
            usage=job.usage,
            amount=job.vouchered,
        )
        for job_id, job in state.jobs.items()
    )
