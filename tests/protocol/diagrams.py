"""The job protocol's state machine as the document shows it: drawn from the tables of p2p.job_protocol themselves."""

from __future__ import annotations

from collections import defaultdict

from p2p.job_protocol import CROSSING, PROVIDER_SAYS, REQUESTER_SAYS, Phase, Table


def job_diagram() -> str:
    """A Mermaid state diagram: R: the requester says it, P: the provider does. What changes no state is left out."""
    moves: defaultdict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for who, table in (("R", REQUESTER_SAYS), ("P", PROVIDER_SAYS)):
        for (before, kind), after in table.items():
            if before is not after:
                moves[before, after].append(f"{who} {kind.__struct_config__.tag}")
    lines = [f"    {before} --> {after}: {', '.join(said)}" for (before, after), said in moves.items()]
    ends = [f"    {phase} --> [*]" for phase in Phase if not any(before is phase for before, _ in moves)]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.OPEN}", *lines, *ends, "```"])


def job_transitions() -> str:
    """The same, and what changes no state, as one table: a row for each state, what may be said there, and then."""
    rows = [f"| `{phase}` | {_said(REQUESTER_SAYS, phase)} | {_said(PROVIDER_SAYS, phase)} |" for phase in Phase]
    crossing = [f"| `{phase}` | {_said(CROSSING, phase)} | |" for phase in dict.fromkeys(key[0] for key in CROSSING)]
    head = ["| state | the requester may say | the provider may say |", "|---|---|---|"]
    late = "What the requester said before it heard the last word may still arrive:"
    return "\n".join([*head, *rows, "", late, "", *head, *crossing])


def _said(table: Table, phase: Phase) -> str:
    found = [(kind, after) for (before, kind), after in table.items() if before is phase]
    return ", ".join(f"{kind.__struct_config__.tag} → `{after}`" if after is not phase else str(
        kind.__struct_config__.tag) for kind, after in found) or "nothing"
