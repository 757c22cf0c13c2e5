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
    "160m": ("Q4_K_M",),
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
    "reader": (Clients(1, 320, 6, rounds=2),),
    "assistant": (Clients(1, 208, 12, shared_tokens=192, rounds=3),),
    "chat": (Clients(4, 176, 16, shared_tokens=160, rounds=2),),
    "busy chat": (Clients(8, 112, 10, shared_tokens=96, spread=0.5, rounds=2),),
    "uneven chat": (Clients(4, 80, 24, shared_tokens=64, spread=0.9, rounds=2),),
    "long beside streams": (Clients(3, 16, 56, rounds=1), Clients(1, 320, 4, rounds=2)),
    "long prompts": (Clients(4, 256, 6, rounds=2),),
    "short, mixed": (Clients(8, 16, 16, spread=0.9, rounds=2),),
    "short, even": (Clients(4, 16, 24, rounds=2),),
    "short beside long answers": (Clients(2, 24, 48, rounds=1), Clients(3, 24, 8, rounds=4)),
    "turns": (Clients(4, 40, 12, shared_tokens=16, rounds=3, keeps=True),),
    "turns alone": (Clients(1, 48, 16, shared_tokens=16, rounds=4, keeps=True),),
    "documents": (Clients(2, 224, 20, spread=0.6, rounds=2),),
    "labels": (Clients(6, 144, 2, shared_tokens=128, rounds=2),),
}
