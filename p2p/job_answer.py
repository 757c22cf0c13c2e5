"""The sums of one answer, kept alike at both ends of a job: what a provider says must add up.

Pure. Knows no turn-taking (job_protocol does) and no vouchers: it compares claims with the quote and with each other.
"""

from __future__ import annotations

from hashlib import sha256

from core.job import JobRequest, JobState, Usage, charge
from core.offer import MAX_WINDOW_TOKENS, Quote
from p2p.messages import AmountDue, Chunk, Failed, Finished, Keep, ProviderMessage, Quoted, Rejected, Resumed
from p2p.protocol_error import RemoteProtocolError

MAX_BYTES_PER_TOKEN = 1_024


class JobAnswer:
    """What was quoted, said and asked for so far; tokens is the total of the chunks."""

    def __init__(self) -> None:
        self._text = sha256()
        self._text_bytes = 0
        self._asked = 0
        self.request: JobRequest | None = None
        self.quote: Quote | None = None
        self.chunks = 0
        self.tokens = 0

    def copy(self) -> JobAnswer:
        """The same sums, to go on from here apart."""
        copied = JobAnswer()
        copied.__dict__.update(self.__dict__)
        copied._text = self._text.copy()
        return copied

    def digest(self) -> str:
        """SHA-256 of the text so far, in hex."""
        return self._text.hexdigest()

    def check(self, message: ProviderMessage) -> None:
        """Take a provider's message into the sums. Raises RemoteProtocolError if it does not add up."""
        match message:
            case Quoted(quote=quote):
                self._check_quote(quote)
            case Chunk():
                self._check_chunk(message)
            case Resumed(seq=seq):
                _require(seq == self.chunks, "the answer goes on at another place")
            case AmountDue(amount=amount):
                self._check_due(amount)
            case Finished(usage=usage, amount=amount, digest=digest):
                self._check_end(usage, amount)
                _require(digest == self.digest(), "the digest is not that of the text")
            case Failed(usage=usage, amount=amount, state=state):
                _require(state in (JobState.FAILED, JobState.CANCELLED), "a failed job has another state")
                self._check_end(usage, amount)
            case Rejected() | Keep():
                return

    def _check_quote(self, quote: Quote) -> None:
        if self.request is None:
            raise RemoteProtocolError("a quote without a proposal")
        terms = self.request.terms
        _require((quote.job_id, quote.model) == (terms.job_id, terms.model), "the quote is for another job")
        price = quote.price
        amounts = (price.input_per_mtok, price.output_per_mtok, price.tip_bp, quote.prompt_tokens, quote.window_tokens)
        _require(min(amounts) >= 0, "the quote has a negative number")
        _require(quote.window_tokens <= MAX_WINDOW_TOKENS, "the window is too long")
        self.quote = quote

    def _check_chunk(self, chunk: Chunk) -> None:
        _require(chunk.seq == self.chunks, "a chunk is missing or came twice")
        _require(self.tokens <= chunk.completion_tokens <= self._max_tokens(), "the token count is out of bounds")
        raw = chunk.text.encode("utf-8", "surrogatepass")
        self._text_bytes += len(raw)
        _require(self._text_bytes <= MAX_BYTES_PER_TOKEN * self._max_tokens(), "the answer is too long")
        _require(chunk.completion_tokens <= self._text_bytes + self._window(), "more tokens are counted than text came")
        self._text.update(raw)
        self.chunks += 1
        self.tokens = chunk.completion_tokens

    def _check_due(self, amount: int) -> None:
        _require(self._asked <= amount <= self._most(self.tokens), "more is asked than was delivered")
        self._asked = amount

    def _check_end(self, usage: Usage, amount: int) -> None:
        if self.quote is None:
            _require((usage, amount) == (Usage(), 0), "a job without a quote cannot cost anything")
            return
        window = self._window()
        _require(usage.prompt_tokens in (0, self.quote.prompt_tokens), "the prompt is not the quoted one")
        _require(0 <= usage.completion_tokens <= self.tokens + window, "more tokens are billed than were delivered")
        _require(0 <= amount <= charge(self.quote.price, usage), "the amount is more than the price")

    def _most(self, tokens: int) -> int:
        """What may be asked for: the prompt, what was delivered, and one window."""
        if self.quote is None:
            return 0
        tokens = min(tokens + self._window(), self._max_tokens())
        return charge(self.quote.price, Usage(self.quote.prompt_tokens, tokens))

    def _window(self) -> int:
        return self.quote.window_tokens if self.quote is not None else 0

    def _max_tokens(self) -> int:
        return self.request.terms.max_tokens if self.request is not None else 0


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise RemoteProtocolError(fault)
