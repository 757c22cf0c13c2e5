"""Where torch comes from on a computer. Never installs it."""

from __future__ import annotations

import socket

from installing.facts import Facts, Gpu, System

PROCESSOR_INDEX = "https://download.pytorch.org/whl/cpu"
INDEX_ADDRESS = ("download.pytorch.org", 443)
REACH_S = 3.0


def torch_words(facts: Facts) -> tuple[str, ...]:
    """More words for pip: Linux without an NVIDIA GPU takes the processor build, a tenth of the download."""
    if facts.system is not System.LINUX or facts.gpu is Gpu.NVIDIA or not is_reachable():
        return ()
    return ("--extra-index-url", PROCESSOR_INDEX)


def is_reachable() -> bool:
    """Whether PyTorch's own index answers: without it pip would retry for a minute before it went on."""
    try:
        socket.create_connection(INDEX_ADDRESS, timeout=REACH_S).close()
    except OSError:
        return False
    return True
