"""A paid job on its way: its answer comes from the engine whether or not anybody is on the line.

Holds the answer in memory, never longer or more of it than its owner (p2p.job_sales) allows. One stream at a time
carries it: a newer one takes the older one's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

import trio

from core.job import JobId, JobRequest, JobState, PeerId, Usage
from core.job_output import JobOutput, OutputChunk, OutputDue, OutputEnded
from core.offer import Quote
from p2p.chunk_buffer import ChunkBuffer
from p2p.job_record import JobRecord


class HeldJob:
    """One job of one peer. paid is what vouchers cover of it."""

    def __init__(self, request: JobRequest, quote: Quote, *, peer: PeerId, paid: int) -> None:
        self.job_id: JobId = request.terms.job_id
        self.peer = peer
        self.record = JobRecord(request, quote)
        self.paid = paid
        self.news = trio.Event()
        self.settled = trio.Event()
        self.waiting = trio.CancelScope()
        self._line: trio.CancelScope | None = None

    @property
    def is_over(self) -> bool:
        """Whether the last word is known."""
        return self.record.last is not None

    @property
    def is_carried(self) -> bool:
        """Whether a stream carries it now."""
        return self._line is not None

    @contextmanager
    def line(self) -> Iterator[trio.CancelScope]:
        """For the length of the block, this stream carries the job; an older stream's block is cancelled, and so is the
        wait for the requester's return."""
        if self._line is not None:
            self._line.cancel()
        self.waiting.cancel()
        with trio.CancelScope() as scope:
            self._line = scope
            try:
                yield scope
            finally:
                if self._line is scope:
                    self._line = None

    def end(self, ended: OutputEnded) -> None:
        """The last word."""
        self.record.end(ended)
        self.credit(self.paid)
        self._tell()

    def credit(self, paid: int) -> None:
        """So much of the job is paid by now."""
        self.paid = max(self.paid, paid)
        last = self.record.last
        if last is not None and self.paid >= last.amount:
            self.settled.set()

    async def take(self, output: trio.MemoryReceiveChannel[JobOutput]) -> None:
        """Write the output down until its end, small pieces together."""
        buffer = ChunkBuffer()
        with output:
            while not self.is_over:
                piece: JobOutput | None = None
                with trio.move_on_at(buffer.flush_at):
                    piece = await _next(output)
                if isinstance(piece, OutputChunk):
                    buffer.add(piece.text, piece.completion_tokens, now=trio.current_time())
                if not isinstance(piece, OutputChunk) or buffer.is_ripe:
                    self._flush(buffer)
                self._note(piece)

    def _flush(self, buffer: ChunkBuffer) -> None:
        if (ready := buffer.take()) is not None:
            self.record.add(*ready)
            self._tell()

    def _note(self, piece: JobOutput | None) -> None:
        match piece:
            case OutputDue(amount=amount):
                self.record.ask(amount)
                self._tell()
            case OutputEnded():
                self.end(piece)
            case OutputChunk() | None:
                return
            case _:
                assert_never(piece)

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()


async def _next(output: trio.MemoryReceiveChannel[JobOutput]) -> JobOutput:
    try:
        return await output.receive()
    except trio.EndOfChannel:
        return OutputEnded(JobState.FAILED, "The job ended without a result.", Usage(), 0)
