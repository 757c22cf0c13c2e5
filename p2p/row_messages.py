"""What two peers say to each other about speeds: the messages of the rows protocol, their limits, and what gets signed.

Pure. A row names no machine, no owner and no model (core.metamodel.federation); the peer id is there for the signature
and for one vote a peer, nothing else.
"""

from __future__ import annotations

import msgspec

from core.job import PeerId
from core.metamodel.federation import MAX_ROWS, SharedRow, row_fault
from p2p.identity import is_signed_by

ROWS_PROTOCOL = "/starling/rows/1.0.0"
VERSION = 1
MAX_QUESTION_BYTES = 1 << 10
MAX_ROWS_BYTES = 1 << 20
MAX_SETS = 32
MAX_AGE_DAYS = 30
UNSIGNED = "The rows are not signed by their peer."


class GetRows(msgspec.Struct, frozen=True, tag="get_rows"):
    """Which rows do you know? Answered by Rows."""

    version: int = VERSION


class SignedRows(msgspec.Struct, frozen=True):
    """What one peer measured, as of a day (days since the epoch, UTC), and its identity key's signature, in hex."""

    peer_id: str
    day: int
    rows: tuple[SharedRow, ...]
    signature: str = ""


class Rows(msgspec.Struct, frozen=True, tag="rows"):
    """At most MAX_SETS, one a peer; the asker checks every signature and every number itself."""

    sets: tuple[SignedRows, ...]


def rows_bytes(signed: SignedRows) -> bytes:
    """What a peer signs of its rows."""
    return b"starling-rows-1:" + msgspec.json.encode(msgspec.structs.replace(signed, signature=""))


def rows_fault(signed: SignedRows, *, today: int) -> str | None:
    """Why these rows are not to be believed, or None. One bad row spoils all of its peer's."""
    if not today - MAX_AGE_DAYS <= signed.day <= today + 1:
        return "The rows are too old, or from the future."
    if not 1 <= len(signed.rows) <= MAX_ROWS:
        return "There are no rows, or too many."
    fault = next(filter(None, map(row_fault, signed.rows)), None)
    if fault is not None:
        return fault
    if not is_signed_by(PeerId(signed.peer_id), rows_bytes(signed), signature=signed.signature):
        return UNSIGNED
    return None
