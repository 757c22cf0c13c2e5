"""`python -m tests.bench NAME [--json] [--quick]`: one benchmark, a readable table or one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from tests.bench import start, throughput
from tests.bench.report import Report

BENCHES: dict[str, Callable[..., Report]] = {"start": start.run, "throughput": throughput.run}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fit in a minute")
    arguments = parser.parse_args()
    report = BENCHES[arguments.name](is_quick=arguments.quick)
    command = f"python -m tests.bench {arguments.name}{' --quick' if arguments.quick else ''}"
    if arguments.json:
        print(json.dumps({"bench": arguments.name, **report.object(), "command": command}))
    else:
        print(report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
