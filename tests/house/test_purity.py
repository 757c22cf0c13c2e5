"""What decides must not act: the modules that the architecture calls pure import no clock, chance, system or loop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PURE = {
    "core.job", "core.model_card", "core.device", "core.settings", "core.offer", "core.pricing",
    "core.model_shelf", "core.model_shards", "core.model_download.source", "core.model_download.messages",
    "core.availability", "core.scheduler", "core.admission", "core.commands", "core.events", "core.state",
    "core.node_state", "core.memory", "core.framing", "core.plan", "core.verification", "core.metamodel.candidates",
    "core.metamodel.federation", "core.metamodel.own_measurements", "core.demand", "core.speed_record",
    "core.calibration", "p2p.row_messages", "p2p.row_book",
    "core.piece_manifest", "core.model_giving", "p2p.model_messages", "p2p.model_wire",
    "p2p.model_schedule", "p2p.manifest_book", "p2p.upload_limit",
    "core.metamodel.features", "core.metamodel.roofline", "core.metamodel.columns", "core.metamodel.correction",
    "core.metamodel.inputs", "core.worker.messages", "core.runtimes.batch",
    "core.runtimes.kv_slots", "core.runtimes.prefix_cache", "core.runtimes.prompt_lookup", "core.runtimes.sequence",
    "core.runtimes.tally", "core.runtimes.gbnf", "core.runtimes.schema_limits", "core.runtimes.turn_marks",
    "core.runtimes.logit_adjustment", "core.runtimes.logprobs", "core.runtimes.request_limits", "core.synthetic",
    "core.runtimes.text_stream", "core.metamodel.gpu_use", "core.metamodel.choice", "core.metamodel.abilities",
    "core.metamodel.alternatives", "core.metamodel.described", "core.metamodel.shapes", "core.metamodel.scatter",
    "core.pinned", "core.metamodel.service", "core.metamodel.timetable",
    "core.payments.voucher", "core.payments.channel",
    "core.payments.ledger",
    "core.payments.redemption", "p2p.messages", "p2p.job_protocol", "p2p.offer_book", "p2p.placement",
    "p2p.path", "p2p.punch_limit", "p2p.relay_book", "p2p.reach", "p2p.reach_messages",
    "p2p.address_book", "p2p.peer_address", "p2p.peer_record", "p2p.peer_messages", "p2p.peer_choice", "p2p.clock_skew",
    "p2p.wakefulness", "core.network_words", "core.network", "core.peer_seen", "core.fair_share",
    "p2p.peer_score", "p2p.job_answer", "p2p.job_record", "p2p.token_bucket", "p2p.trust", "p2p.candidates",
    "p2p.audit", "app.control_protocol", "app.gui.presenter",
}  # fmt: skip
IMPURE = {
    "time", "random", "secrets", "uuid", "os", "sys", "asyncio", "trio", "anyio", "socket", "subprocess", "threading",
    "multiprocessing", "tempfile", "shutil", "platform", "getpass", "urllib", "http", "sqlite3", "psutil", "requests",
    "httpx", "web3", "libp2p", "PySide6", "torch", "llama_cpp", "lightgbm", "sqlite_utils",
}  # fmt: skip
# They make what a pure module only looks at: checking a signature is pure, making its key is not.
LOOKED_AT_ONLY = {"p2p.identity"}
OURS = ("app.", "core.", "p2p.")
CALLS = {"now", "utcnow", "today", "time", "monotonic", "environ", "getenv"}


def path_of(module: str) -> Path:
    stem = ROOT.joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


PRESENT = [pytest.param(module, id=module) for module in sorted(PURE) if path_of(module).exists()]


def imports_of(module: str) -> set[str]:
    """Full names of what a module imports; names taken from a package count as its modules where they are files."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if path_of(name).exists()}
            found |= modules or {node.module}
    return found


def reached_from(module: str) -> dict[str, set[str]]:
    """A module and every module of ours that it stands on, each with what it imports."""
    reached: dict[str, set[str]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in LOOKED_AT_ONLY:
            reached[name] = imports_of(name)
            waiting += [other for other in reached[name] if other.startswith(OURS) and path_of(other).exists()]
    return reached


@pytest.mark.parametrize("module", PRESENT)
def test_a_pure_module_and_all_it_stands_on_import_nothing_impure(module: str) -> None:
    reached = reached_from(module)
    found = {name: {other for other in imports if other.split(".")[0] in IMPURE} for name, imports in reached.items()}
    assert {name: impure for name, impure in found.items() if impure} == {}


@pytest.mark.parametrize("module", PRESENT)
def test_a_pure_module_waits_for_nothing_and_reads_no_clock(module: str) -> None:
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    waits = [node for node in ast.walk(tree) if isinstance(node, (ast.Await, ast.AsyncFunctionDef, ast.AsyncWith))]
    reads = [n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    assert waits == []
    assert CALLS & set(reads) == set()
