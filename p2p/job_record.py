"""What was made of one job's answer and may have to be said again: its newest chunks, what is due, and the last word.

Pure and bounded. Never knows who listens: streams come and go, each with a place of its own in the answer.
"""

from __future__ import annotations

from core.job import JobRequest, JobState
from core.job_output import OutputEnded
from core.offer import Quote
from p2p.job_answer import JobAnswer
from p2p.messages import Chunk, Failed, Finished, ProviderMessage
from p2p.protocol_error import LocalProtocolError, RemoteProtocolError

MAX_RECORD_BYTES = 1 << 20


class JobRecord:
    """The answer of a job that was quoted and paid for. due is the most that was asked for; last is None until the end.

    Full (max_bytes of text): the oldest chunks go, and nobody can resume before them."""

    def __init__(self, request: JobRequest, quote: Quote, *, max_bytes: int = MAX_RECORD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._floor = JobAnswer()
        self._floor.request, self._floor.quote = JobRequest(request.terms, ()), quote  # the prompt is let go
        self._head = self._floor.copy()
        self._chunks: dict[int, Chunk] = {}
        self.text_bytes = 0
        self.due = 0
        self.last: Finished | Failed | None = None

    @property
    def next_seq(self) -> int:
        """The number of the next chunk."""
        return self._head.chunks

    def add(self, text: str, completion_tokens: int) -> None:
        """The next piece of the answer. Raises LocalProtocolError if it does not add up."""
        chunk = Chunk(self._head.chunks, text, completion_tokens)
        _checked(self._head, chunk)
        self._chunks[chunk.seq] = chunk
        self.text_bytes += _size(chunk)
        while self.text_bytes > self._max_bytes and len(self._chunks) > 1:
            oldest = self._chunks.pop(next(iter(self._chunks)))
            self._floor.check(oldest)
            self.text_bytes -= _size(oldest)

    def ask(self, amount: int) -> None:
        """What the job has cost so far."""
        self.due = max(self.due, amount)

    def end(self, ended: OutputEnded) -> None:
        """The last word. Raises LocalProtocolError if it does not add up."""
        last: Finished | Failed
        if ended.state is JobState.FINISHED:
            last = Finished(ended.usage, ended.reason, ended.amount, self._head.digest())
        else:
            state = JobState.CANCELLED if ended.state is JobState.CANCELLED else JobState.FAILED
            last = Failed(state, ended.reason, ended.usage, ended.amount)
        _checked(self._head, last)
        self.last = last

    def chunk(self, seq: int) -> Chunk | None:
        """This chunk, or None when it is not made yet or no longer held."""
        return self._chunks.get(seq)

    def answer_at(self, seq: int) -> JobAnswer | None:
        """The sums of the answer before this chunk, or None when that is not held any more, or not reached."""
        if not self._floor.chunks <= seq <= self._head.chunks:
            return None
        answer = self._floor.copy()
        for number in range(self._floor.chunks, seq):
            answer.check(self._chunks[number])
        return answer


def _size(chunk: Chunk) -> int:
    return len(chunk.text.encode("utf-8", "surrogatepass"))


def _checked(answer: JobAnswer, message: ProviderMessage) -> None:
    try:
        answer.check(message)
    except RemoteProtocolError as error:
        raise LocalProtocolError(str(error)) from error
