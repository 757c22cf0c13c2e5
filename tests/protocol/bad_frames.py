"""Frames and proposals that must be refused, and why: the kinds of fault that every protocol shares."""

from __future__ import annotations

from typing import Any

import msgspec

from core.framing import encode_frame, encode_varint
from p2p.messages import Propose, proposal_fault
from tests.protocol import samples as s
from tests.protocol.spoken import Spoken, Voice, fields_of

NOT_VARINT, TOO_LONG, NO_JSON, NO_TYPE, NO_KEY, WRONG = (
    "not_a_varint", "too_long", "not_json", "unknown_type", "missing_key", "wrong_value",
)  # fmt: skip
_TERMS: tuple[dict[str, Any], ...] = (
    {"job_id": "a b"}, {"job_id": ""}, {"max_tokens": 0}, {"max_tokens": 1 << 21}, {"deadline_s": 0.0}, {"fan_out": 0},
    {"fan_out": 17}, {"bid_per_mtok": -1}, {"max_total": 1 << 96}, {"model": ""}, {"model": "x" * 97},
    {"prompt_bytes": (1 << 20) + 1},
)  # fmt: skip
_SAMPLING: tuple[dict[str, Any], ...] = (
    {"max_tokens": 65}, {"temperature": -0.5}, {"top_p": 1.5}, {"min_p": -0.1}, {"top_k": -1}, {"seed": 1 << 32},
    {"stop": ("",)}, {"stop": ("x",) * 17},
)  # fmt: skip


def bad_frames(spoken: Spoken) -> list[dict[str, str]]:
    """Bytes that must be refused from each end of a protocol: the frame in hex, and the kind of fault."""
    found = []
    for says, voice in (("asks", spoken.asks), ("answers", spoken.answers)):
        good = next(message for message in s.samples()[spoken.key] if isinstance(message, voice.kinds))
        found += [{"says": says, "fault": fault, "frame": frame.hex()} for fault, frame in _bad(voice, good)]
    return found


def _bad(voice: Voice, good: msgspec.Struct) -> list[tuple[str, bytes]]:
    body = msgspec.to_builtins(good)
    named = next((k for k in voice.kinds if any(field.required for field in fields_of(k))), None)
    bad = [
        (NOT_VARINT, b"\xff" * 5),
        (TOO_LONG, encode_varint(voice.most + 1)),
        (NO_JSON, _frame(b"{")),
        (NO_JSON, _frame(b'{"type":"\xff"}')),
        (NO_JSON, _frame(b"")),
        (NO_TYPE, _frame(b"[]")),
        (NO_TYPE, encode_frame({**body, "type": "shout"})),
        (NO_TYPE, encode_frame({**body, "type": 1})),
    ]
    if len(voice.kinds) > 1:
        bad.append((NO_TYPE, _frame(b"{}")))
    if named is not None:
        tag = named.__struct_config__.tag
        first = next(field for field in fields_of(named) if field.required)
        bad += [(NO_KEY, encode_frame({"type": tag})), (WRONG, encode_frame({"type": tag, first.encode_name: {}}))]
    return bad


def _frame(body: bytes) -> bytes:
    return encode_varint(len(body)) + body


def bad_proposals() -> list[dict[str, Any]]:
    """Well-formed proposals that are rejected before anything is spent on them, with the reason that is given."""
    changed = [msgspec.structs.replace(s.REQUEST, terms=msgspec.structs.replace(s.TERMS, **one)) for one in _TERMS]
    changed += [
        msgspec.structs.replace(s.REQUEST, sampling=msgspec.structs.replace(s.REQUEST.sampling, **one))
        for one in _SAMPLING
    ]
    changed.append(msgspec.structs.replace(s.REQUEST, messages=()))
    proposals = [Propose(request, s.PAYER, s.proof()) for request in changed]
    proposals.append(Propose(s.REQUEST, s.PAYER, s.proof(), version=2))
    return [{"frame": encode_frame(one).hex(), "reason": proposal_fault(one)} for one in proposals]
