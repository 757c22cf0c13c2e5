"""What the grid is of: models, quantizations, workloads. Values only; tests.bench.grid measures them.

Small, so that a cell takes seconds; unlike each other in what decides between switches: how much prompts share, how
uneven answers are, how many ask at once, how long prompts are beside their answers.
"""

from __future__ import annotations

from core.metamodel.timetable import Clients, Workload

DEMO = "demo"
# F16 comes last: the other files are made from it.
MODELS = {
    DEMO: ("Q8_0", "F16"),
    "20m": ("Q8_0", "Q4_K_M", "F16"),
    "60m": ("Q8_0", "Q4_K_M", "F16"),
    "160m": ("Q8_0",),
}
SLOT_CONTEXT = 1024
# The words of the synthetic vocabulary are a token each; the demo model knows other words.
WORDS_PER_TOKEN = {DEMO: 0.4}

# A file's own speeds: one prompt, one answer alone, four at once; how many tokens that is.
PROBES = {
    "prefill": ((Clients(1, 256, 1, rounds=1),), 256),
    "decode_1": ((Clients(1, 8, 48, rounds=1),), 48),
    "decode_4": ((Clients(4, 8, 48, rounds=1),), 4 * 48),
}

WORKLOADS: dict[str, Workload] = {
    "stream": (Clients(1, 32, 40, rounds=2),),
    "reader": (Clients(1, 256, 6, rounds=2),),
    "assistant": (Clients(1, 160, 12, shared_tokens=144, rounds=3),),
    "chat": (Clients(4, 112, 12, shared_tokens=96, rounds=2),),
    "busy chat": (Clients(8, 80, 8, shared_tokens=64, spread=0.5, rounds=2),),
    "uneven chat": (Clients(4, 64, 20, shared_tokens=48, spread=0.9, rounds=2),),
    "long beside streams": (Clients(3, 16, 32, rounds=1), Clients(1, 256, 4, rounds=2)),
    "long prompts": (Clients(3, 224, 6, rounds=1),),
    "short, mixed": (Clients(8, 16, 12, spread=0.9, rounds=2),),
    "short, even": (Clients(4, 16, 20, rounds=2),),
    "short beside long answers": (Clients(2, 24, 40, rounds=1), Clients(3, 24, 8, rounds=3)),
    "turns": (Clients(4, 40, 10, shared_tokens=16, rounds=2, keeps=True),),
    "turns alone": (Clients(1, 48, 12, shared_tokens=16, rounds=4, keeps=True),),
    "documents": (Clients(2, 192, 16, spread=0.6, rounds=2),),
    "labels": (Clients(6, 96, 2, shared_tokens=80, rounds=2),),
}
