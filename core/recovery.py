"""What to write down when an engine finds jobs that its predecessor left half done.

Pure. Never guesses usage: what was vouchered is what is known to have been paid for.
"""

from __future__ import annotations

from core.events import JobEnded
from core.job import JobState
from core.node_state import NodeState

STOPPED = "The engine stopped while this job ran. What was paid for it is kept."
LEFT = "This peer left the network while this job ran. What was paid for it is kept."


def abandoned(state: NodeState, now: float, *, reason: str = STOPPED) -> tuple[JobEnded, ...]:
    """One end for every job that was live when the last engine, or this one's stay in the network, stopped."""
    return tuple(
        JobEnded(
            at=now,
            job_id=job_id,
            state=JobState.FAILED,
            reason=reason,
            usage=job.usage,
            amount=job.vouchered,
        )
        for job_id, job in state.jobs.items()
    )
