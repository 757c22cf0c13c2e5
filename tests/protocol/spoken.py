"""What the document speaks of: every protocol, who says what in it, and the structs inside what is said.

The document's tables are made from this list and from the structs themselves; a message that is not in it is not on the
wire.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args

import msgspec

from core.job import JobState, PriorityClass, QualityClass
from p2p import messages, model_messages, peer_messages, reach_messages, row_messages


class Voice(msgspec.Struct, frozen=True):
    """What one end of a protocol may say: says is a Struct or a union of them, most the longest frame in bytes."""

    who: str
    says: Any
    most: int

    @property
    def kinds(self) -> tuple[type[msgspec.Struct], ...]:
        """The message types."""
        return get_args(self.says) if isinstance(self.says, UnionType) else (self.says,)


class Spoken(msgspec.Struct, frozen=True):
    """One protocol. name: as negotiated."""

    name: str
    key: str
    asks: Voice
    answers: Voice


PROTOCOLS = (
    Spoken(
        peer_messages.HELLO_PROTOCOL,
        "hello",
        Voice("whoever dialled", peer_messages.Hello, peer_messages.MAX_HELLO_BYTES),
        Voice("the other", peer_messages.Hello, peer_messages.MAX_HELLO_BYTES),
    ),
    Spoken(
        messages.QUERY_PROTOCOL,
        "query",
        Voice("asker", messages.Query, messages.MAX_QUERY_FRAME_BYTES),
        Voice("answerer", messages.QueryAnswer, messages.MAX_ANSWER_FRAME_BYTES),
    ),
    Spoken(
        messages.JOB_PROTOCOL,
        "job",
        Voice("requester", messages.RequesterMessage, messages.MAX_REQUESTER_FRAME_BYTES),
        Voice("provider", messages.ProviderMessage, messages.MAX_PROVIDER_FRAME_BYTES),
    ),
    Spoken(
        peer_messages.PEERS_PROTOCOL,
        "peers",
        Voice("asker", peer_messages.GetPeers, peer_messages.MAX_QUESTION_BYTES),
        Voice("answerer", peer_messages.Peers, peer_messages.MAX_PEERS_BYTES),
    ),
    Spoken(
        reach_messages.REACH_PROTOCOL,
        "reach",
        Voice("asker", reach_messages.ReachQuestion, reach_messages.MAX_FRAME_BYTES),
        Voice("answerer", reach_messages.Checked | reach_messages.Dialled, reach_messages.MAX_FRAME_BYTES),
    ),
    Spoken(
        model_messages.MODEL_PROTOCOL,
        "model",
        Voice("asker", model_messages.Question, model_messages.MAX_QUESTION_BYTES),
        Voice("answerer", model_messages.Answer, model_messages.MAX_ANSWER_BYTES),
    ),
    Spoken(
        row_messages.ROWS_PROTOCOL,
        "rows",
        Voice("asker", row_messages.GetRows, row_messages.MAX_QUESTION_BYTES),
        Voice("answerer", row_messages.Rows, row_messages.MAX_ROWS_BYTES),
    ),
)
ENUMS = (PriorityClass, QualityClass, JobState)


def structs_of(spoken: Spoken) -> list[type[msgspec.Struct]]:
    """Every struct of a protocol: the messages first, then what is inside them, each once."""
    found: dict[type[msgspec.Struct], None] = dict.fromkeys((*spoken.asks.kinds, *spoken.answers.kinds))
    waiting = list(found)
    while waiting:
        inner = [kind for field in fields_of(waiting.pop(0)) for kind in structs_in(field.type)]
        waiting += [kind for kind in inner if kind not in found]
        found |= dict.fromkeys(inner)
    return list(found)


def fields_of(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    """The fields of a struct, in the order in which they are written."""
    told = msgspec.inspect.type_info(kind)
    assert isinstance(told, msgspec.inspect.StructType)
    return told.fields


def structs_in(kind: msgspec.inspect.Type) -> list[type[msgspec.Struct]]:
    """The structs that a field holds."""
    match kind:
        case msgspec.inspect.StructType(cls=cls):
            return [cls]
        case msgspec.inspect.VarTupleType(item_type=inner) | msgspec.inspect.Metadata(type=inner):
            return structs_in(inner)
        case msgspec.inspect.TupleType(item_types=inners) | msgspec.inspect.UnionType(types=inners):
            return [found for one in inners for found in structs_in(one)]
        case _:
            return []
