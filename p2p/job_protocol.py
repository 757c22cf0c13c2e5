"""The two ends of one job's conversation, without I/O: bytes in, messages out, and a table of who may say what when.

Never waits, never does I/O, knows no clock and checks no signature. A peer that breaks the table or its own sums raises
RemoteProtocolError (drop it); a message of ours that does so raises LocalProtocolError (a bug of ours).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

from core.framing import FrameDecoder, FramingError, encode_frame
from core.job import JobRequest, Usage
from p2p.job_answer import JobAnswer
from p2p.messages import (
    MAX_PROVIDER_FRAME_BYTES,
    MAX_REQUESTER_FRAME_BYTES,
    AmountDue,
    Cancel,
    Chunk,
    Failed,
    Finished,
    Keep,
    Pay,
    Propose,
    ProviderMessage,
    Quoted,
    Rejected,
    RequesterMessage,
    Resume,
    Resumed,
)
from p2p.protocol_error import HungUp, LocalProtocolError, RemoteProtocolError

FRAMES_PER_JOB = 4_096
FRAMES_PER_TOKEN = 4


class Phase(StrEnum):
    """Where the conversation is. ABANDONED and CANCELLING wait for the provider's last word after a Cancel; RESUMING
    waits for the rest of a job whose line broke."""

    OPEN = "open"
    RESUMING = "resuming"
    PROPOSED = "proposed"
    QUOTED = "quoted"
    RUNNING = "running"
    ABANDONED = "abandoned"
    CANCELLING = "cancelling"
    ENDED = "ended"
    CLOSED = "closed"


Table = Mapping[tuple[Phase, type[Any]], Phase]

# What the requester says, seen from either end.
REQUESTER_SAYS: Table = {
    (Phase.OPEN, Propose): Phase.PROPOSED,
    (Phase.OPEN, Resume): Phase.RESUMING,
    (Phase.RESUMING, Keep): Phase.RESUMING,
    (Phase.RESUMING, Cancel): Phase.CANCELLING,
    (Phase.PROPOSED, Keep): Phase.PROPOSED,
    (Phase.PROPOSED, Cancel): Phase.ABANDONED,
    (Phase.QUOTED, Keep): Phase.QUOTED,
    (Phase.QUOTED, Cancel): Phase.ABANDONED,
    (Phase.QUOTED, Pay): Phase.RUNNING,
    (Phase.RUNNING, Keep): Phase.RUNNING,
    (Phase.RUNNING, Pay): Phase.RUNNING,
    (Phase.RUNNING, Cancel): Phase.CANCELLING,
    (Phase.ABANDONED, Keep): Phase.ABANDONED,
    (Phase.CANCELLING, Keep): Phase.CANCELLING,
    (Phase.CANCELLING, Pay): Phase.CANCELLING,
    (Phase.ENDED, Pay): Phase.ENDED,
}
# What may still arrive because it was under way when the provider said its last word.
CROSSING: Table = {
    (Phase.ENDED, Keep): Phase.ENDED,
    (Phase.ENDED, Cancel): Phase.ENDED,
    (Phase.CLOSED, Keep): Phase.CLOSED,
    (Phase.CLOSED, Cancel): Phase.CLOSED,
}
PROVIDER_SAYS: Table = {
    (Phase.RESUMING, Keep): Phase.RESUMING,
    (Phase.RESUMING, Resumed): Phase.RUNNING,
    (Phase.RESUMING, Rejected): Phase.CLOSED,
    (Phase.PROPOSED, Keep): Phase.PROPOSED,
    (Phase.PROPOSED, Quoted): Phase.QUOTED,
    (Phase.PROPOSED, Rejected): Phase.CLOSED,
    (Phase.PROPOSED, Failed): Phase.ENDED,
    (Phase.QUOTED, Keep): Phase.QUOTED,
    (Phase.QUOTED, Failed): Phase.ENDED,
    (Phase.RUNNING, Keep): Phase.RUNNING,
    (Phase.RUNNING, Chunk): Phase.RUNNING,
    (Phase.RUNNING, AmountDue): Phase.RUNNING,
    (Phase.RUNNING, Finished): Phase.ENDED,
    (Phase.RUNNING, Failed): Phase.ENDED,
    (Phase.ABANDONED, Keep): Phase.ABANDONED,
    (Phase.ABANDONED, Quoted): Phase.ABANDONED,
    (Phase.ABANDONED, Rejected): Phase.CLOSED,
    (Phase.ABANDONED, Failed): Phase.ENDED,
    (Phase.CANCELLING, Keep): Phase.CANCELLING,
    (Phase.CANCELLING, Resumed): Phase.CANCELLING,
    (Phase.CANCELLING, Rejected): Phase.CLOSED,
    (Phase.CANCELLING, Chunk): Phase.CANCELLING,
    (Phase.CANCELLING, AmountDue): Phase.CANCELLING,
    (Phase.CANCELLING, Finished): Phase.ENDED,
    (Phase.CANCELLING, Failed): Phase.ENDED,
}

Received = TypeVar("Received")


class JobProvider:
    """The end that does the work. Feed bytes, take events, send messages; b"" is the end of the stream."""

    def __init__(self) -> None:
        self._inbox: _Inbox[RequesterMessage] = _Inbox(RequesterMessage, MAX_REQUESTER_FRAME_BYTES)
        self._answer = JobAnswer()
        self.phase = Phase.OPEN

    def receive_data(self, received: bytes) -> None:
        """Bytes from the requester. Raises RemoteProtocolError."""
        self._inbox.receive(received)

    def next_event(self) -> RequesterMessage | None:
        """The next legal message; None: more bytes are needed. Raises RemoteProtocolError, also at an early end."""
        message = self._inbox.take(is_over=self.phase in (Phase.ENDED, Phase.CLOSED))
        if message is None:
            return None
        self.phase = _heard({**REQUESTER_SAYS, **CROSSING}, self.phase, message=message)
        if isinstance(message, Propose):
            self._answer.request = message.request
            self._inbox.max_frames = _max_frames(message.request)
        return message

    def take_up(self, answer: JobAnswer) -> None:
        """After a Resume: the answer as it was at the chunk that was asked for."""
        self._answer = answer
        if answer.request is not None:
            self._inbox.max_frames = _max_frames(answer.request)

    def send(self, message: ProviderMessage) -> bytes:
        """The bytes of a message of ours. Raises LocalProtocolError if it is not ours to say now."""
        phase = _said(PROVIDER_SAYS, self.phase, message=message)
        try:
            self._answer.check(message)
        except RemoteProtocolError as error:
            raise LocalProtocolError(str(error)) from error
        self.phase = phase
        return encode_frame(message)

    @property
    def is_over(self) -> bool:
        """True once our last word is said; a final payment may still come."""
        return self.phase in (Phase.ENDED, Phase.CLOSED)

    @property
    def delivered_tokens(self) -> int:
        """Completion tokens in the chunks sent so far."""
        return self._answer.tokens

    @property
    def next_seq(self) -> int:
        """The number of the next chunk."""
        return self._answer.chunks

    def digest(self) -> str:
        """SHA-256 of the text sent so far, in hex: Finished carries it."""
        return self._answer.digest()


class JobRequester:
    """The end that asks and pays. Feed bytes, take events, send messages; b"" is the end of the stream.

    answer: what was heard of the job on a line that broke; this conversation then begins with a Resume."""

    def __init__(self, answer: JobAnswer | None = None) -> None:
        self._inbox: _Inbox[ProviderMessage] = _Inbox(ProviderMessage, MAX_PROVIDER_FRAME_BYTES)
        self.answer = answer or JobAnswer()
        self.phase = Phase.OPEN

    def receive_data(self, received: bytes) -> None:
        """Bytes from the provider. Raises RemoteProtocolError."""
        self._inbox.receive(received)

    def next_event(self) -> ProviderMessage | None:
        """The next legal message; None: more bytes are needed. Raises RemoteProtocolError, also at an early end."""
        message = self._inbox.take(is_over=self.phase in (Phase.OPEN, Phase.ENDED, Phase.CLOSED))
        if message is None:
            return None
        phase = _heard(PROVIDER_SAYS, self.phase, message=message)
        self.answer.check(message)
        self.phase = phase
        return message

    def send(self, message: RequesterMessage) -> bytes:
        """The bytes of a message of ours. Raises LocalProtocolError if it is not ours to say now."""
        self.phase = _said(REQUESTER_SAYS, self.phase, message=message)
        if isinstance(message, Propose):
            self.answer.request = message.request
        if self.answer.request is not None:
            self._inbox.max_frames = _max_frames(self.answer.request)
        return encode_frame(message)

    @property
    def is_over(self) -> bool:
        """True once the provider's last word is heard."""
        return self.phase in (Phase.ENDED, Phase.CLOSED)

    @property
    def usage(self) -> Usage:
        """What was delivered so far; a prompt counts as read with its first token."""
        quote = self.answer.quote
        tokens = self.answer.tokens
        return Usage(quote.prompt_tokens, tokens) if quote is not None and tokens else Usage()


class _Inbox(Generic[Received]):
    """Frames that came in and were not taken yet, with a cap on how many one job may send."""

    def __init__(self, message_type: Any, max_frame_bytes: int) -> None:
        self._decoder: FrameDecoder[Received] = FrameDecoder(message_type, max_frame_bytes=max_frame_bytes)
        self._waiting: deque[Received] = deque()
        self._is_at_end = False
        self._frames = 0
        self.max_frames = FRAMES_PER_JOB

    def receive(self, received: bytes) -> None:
        if not received:
            self._is_at_end = True
            return
        if self._is_at_end:
            raise LocalProtocolError("bytes after the end of the stream")
        try:
            messages = self._decoder.feed(received)
        except FramingError as error:
            raise RemoteProtocolError(str(error)) from error
        self._frames += len(messages)
        if self._frames > self.max_frames:
            raise RemoteProtocolError("more messages than one job may need")
        self._waiting.extend(messages)

    def take(self, *, is_over: bool) -> Received | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._is_at_end and not is_over:
            raise HungUp("it hung up before the job was over")
        return None


def _heard(table: Table, phase: Phase, *, message: object) -> Phase:
    after = table.get((phase, type(message)))
    if after is None:
        raise RemoteProtocolError(f"{type(message).__name__} may not come while {phase}")
    return after


def _said(table: Table, phase: Phase, *, message: object) -> Phase:
    after = table.get((phase, type(message)))
    if after is None:
        raise LocalProtocolError(f"{type(message).__name__} may not be sent while {phase}")
    return after


def _max_frames(request: JobRequest) -> int:
    return FRAMES_PER_JOB + FRAMES_PER_TOKEN * request.terms.max_tokens
