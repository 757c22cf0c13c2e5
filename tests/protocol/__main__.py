"""`python -m tests.protocol`: write the generated parts of p2p/PROTOCOL.md and the golden vectors anew."""

from __future__ import annotations

import sys

from tests.protocol.document import DOCUMENT, made_anew
from tests.protocol.vectors import write_vectors


def main() -> int:
    """Always 0: what changed is for the eyes of whoever commits it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(made_anew(text), encoding="utf-8")
    write_vectors()
    return 0


if __name__ == "__main__":
    sys.exit(main())
