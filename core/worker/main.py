"""The worker child: `python -m core.worker.main`. Frames come on stdin and go out on what was stdout.

The only importer of core.runtimes, and only after stdout is safe. No keys, no sockets; a stranger's model may crash it.
"""

from __future__ import annotations

import os
import sys
import traceback

from core.worker.confinement import MEMORY_LIMIT_VARIABLE, confine
from core.worker.grants import grants_of, make_targets
from core.worker.lifeline import hold_lifeline
from core.worker.messages import Confined, Fault, FaultKind
from core.worker.wire import Wire, open_wire

EXIT_BROKEN = 1


def main() -> None:
    """Take the pipes, give up what the first command does not need, and serve until stdin ends."""
    wire = open_wire()
    hold_lifeline(os.environ)
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    wire.send(_confine(wire))
    wire.start()
    try:
        _serve(wire)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the process edge: say what it was, then die
        traceback.print_exc()
        wire.send(Fault(FaultKind.INTERNAL, f"The worker broke down: {type(error).__name__}."))
        sys.exit(EXIT_BROKEN)


def _confine(wire: Wire) -> Confined:
    """Nothing of ours is imported and no thread runs before this: what they bring could not be confined any more."""
    grants = grants_of(wire.first())
    make_targets(grants)
    limit = os.environ.get(MEMORY_LIMIT_VARIABLE, "")
    return confine(grants, memory_bytes=int(limit) if limit.isdecimal() else None)


def _serve(wire: Wire) -> None:
    from core.runtimes.runtime import OutOfMemory, RuntimeFault
    from core.worker.serving import Server
    from core.worker.tasks import free_bytes, run_task

    server = Server(wire, lambda command: run_task(command, wire.send))
    while True:
        try:
            server.run()
        except OutOfMemory as fault:
            wire.send(Fault(fault.kind, fault.message, fault.free_bytes or free_bytes()))
        except RuntimeFault as fault:
            wire.send(Fault(fault.kind, fault.message))
        except MemoryError:
            wire.send(Fault(FaultKind.OUT_OF_MEMORY, "The worker has used up its share of memory.", free_bytes()))
            sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    main()
