"""`python -m tests.bench NAME [--json] [--quick]`: one benchmark, a readable table or one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.bench import (
    choice,
    choose,
    discovery,
    engine,
    exchange,
    federation,
    hostile,
    jobs,
    nat,
    start,
    swarm,
    switches,
    throughput,
)
from tests.bench.report import Report

BENCHES: dict[str, Callable[..., Report]] = {
    "choose": choose.run,
    "choice": choice.run,
    "discovery": discovery.run,
    "engine": engine.run,
    "exchange": exchange.run,
    "federation": federation.run,
    "hostile": hostile.run,
    "jobs": jobs.run,
    "nat": nat.run,
    "start": start.run,
    "swarm": swarm.run,
    "switches": switches.run,
    "throughput": throughput.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fit in a minute")
    parser.add_argument("--model", choices=("160m", "1b", "8b"), help="engine: this synthetic model only")
    parser.add_argument("--gpu", action="store_true", help="engine: all layers on the first GPU, 1 to 64 requests")
    parser.add_argument("--threads", type=int, default=0, help="engine: threads of every engine (one for each core)")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"is_quick": arguments.quick}
    if arguments.name == "engine":
        options |= {"model": arguments.model or "", "is_gpu": arguments.gpu, "threads": arguments.threads}
    report = BENCHES[arguments.name](**options)
    command = " ".join(["python -m tests.bench", *sys.argv[1:]]).replace(" --json", "")
    if arguments.json:
        print(json.dumps({"bench": arguments.name, **report.object(), "command": command}))
    else:
        print(report.table())
    if report.failure:
        print(report.failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
