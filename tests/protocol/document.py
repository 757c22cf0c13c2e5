"""The generated parts of p2p/PROTOCOL.md: what stands between its marks, and putting it there.

A part begins with <!-- made: KEY --> and ends with <!-- end -->; all else in the document is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.protocol import bounds
from tests.protocol.diagrams import job_diagram, job_transitions
from tests.protocol.dialogues import sequence_diagram
from tests.protocol.spoken import PROTOCOLS
from tests.protocol.tables import protocol_tables
from tests.protocol.vectors import examples

DOCUMENT = Path(__file__).resolve().parents[2] / "p2p" / "PROTOCOL.md"
_PART = re.compile(r"<!-- made: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


def parts() -> dict[str, str]:
    """Every part by its key, made anew."""
    tables = {
        "transport": bounds.TRANSPORT,
        "frames": bounds.FRAMES,
        "hello": bounds.HELLO,
        "dht": bounds.DHT,
        "relay": bounds.RELAY,
        "query": bounds.QUERY,
        "job": bounds.JOB,
        "peers": bounds.PEERS,
        "reach": bounds.REACH,
        "model": bounds.MODEL,
        "rows": bounds.ROWS,
    }
    names = [f"| `{spoken.name}` | [{spoken.key}](#{spoken.key}) |" for spoken in PROTOCOLS]
    return {
        "protocols": "\n".join(["| name | section |", "|---|---|", *names]),
        "job-diagram": job_diagram(),
        "job-sequence": sequence_diagram("a paid answer"),
        "job-transitions": job_transitions(),
        "examples": examples(),
        "trust-points": bounds.trust_table(),
        **{f"{spoken.key}-messages": protocol_tables(spoken) for spoken in PROTOCOLS},
        **{f"{key}-bounds": bounds.bounds_table(table) for key, table in tables.items()},
    }


def made_anew(text: str) -> str:
    """The document with all its parts made anew. Raises KeyError for a mark that nothing belongs to."""
    made = parts()
    return _PART.sub(lambda found: f"<!-- made: {found[1]} -->\n{made[found[1]]}\n<!-- end -->", text)


def keys_in(text: str) -> list[str]:
    """The keys of the marks, in their order."""
    return [found[1] for found in _PART.finditer(text)]
