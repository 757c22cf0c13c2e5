"""One step: rows into the context's buffers, one decode, and a token (or with guesses several) for each that draws.

Never decides who takes part. A guess is kept only when it is what would have been drawn anyway.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import numpy as np

from core.job import FinishReason, JobId, TokenLogprob
from core.runtimes.job_batch import Drawn
from core.runtimes.llama_context import LlamaContext, Logits
from core.runtimes.llama_sampler import SamplerChain
from core.runtimes.runtime import RuntimeFault
from core.runtimes.sequence import Rows, Sequence
from core.runtimes.voice import Voice, chunk_of

Speaker = Voice[SamplerChain | None]


class _Place(msgspec.Struct, frozen=True):
    """Where a drawing row's results are: its first row in the batch, and that row's place among the outputs."""

    row: Rows
    at: int
    output: int


class Step:
    """Fills the context's buffers when it is made. decode, then draw, once each."""

    def __init__(self, context: LlamaContext, rows: list[Rows]) -> None:
        self._context = context
        self._rows = rows
        self.refused: list[Sequence] = []
        self.size = len(rows)
        self._outputs = len(rows)
        context.begin()
        is_plain = all(row.count == 1 and row.outputs == 1 and row.draws for row in rows)
        self._places = self._fill_plain() if is_plain else self._fill()

    def decode(self) -> None:
        """Run it, and wait for its logits. Raises RuntimeFault."""
        self._context.decode()
        self._context.logits(self._outputs)

    def draw(self, voices: Mapping[JobId, Speaker]) -> list[Drawn]:
        """The fed tokens are in the KV; one draw or more for each that draws."""
        for row in self._rows:
            row.sequence.advance(row.start + row.count)
        if not self._places:
            return []
        logits = self._context.logits(self._outputs)
        speakers = [voices[place.row.sequence.job_id] for place in self._places]
        best = np.argmax(logits, axis=1).tolist() if any(voice.sampler is None for voice in speakers) else []
        now = time.perf_counter()
        drawn = []
        for place, voice in zip(self._places, speakers, strict=True):
            voice.count_step(len(self._places), now)
            drawn.append(self._speak(place, voice, logits=logits, best=best))
        return drawn

    def _fill_plain(self) -> list[_Place]:
        """Everyone decodes one token: whole arrays at once."""
        sequences = [row.sequence for row in self._rows]
        starts = [row.start for row in self._rows]
        tokens = [s.tokens[start] for s, start in zip(sequences, starts, strict=True)]
        self._context.put_each(tokens, slots=[s.slot for s in sequences], positions=starts)
        return [_Place(row, number, number) for number, row in enumerate(self._rows)]

    def _fill(self) -> list[_Place]:
        places = []
        outputs = self.size = 0
        for row in self._rows:
            sequence = row.sequence
            tokens = [*sequence.tokens[row.start : row.start + row.count], *row.guesses]
            last = self._context.put(tokens, slot=sequence.slot, position=row.start, draws=row.outputs)
            self.size += len(tokens)
            outputs += row.outputs
            if row.draws:
                back = len(row.guesses)
                places.append(_Place(row, last - back, outputs - 1 - back))
        self._outputs = outputs
        return places

    def _speak(self, place: _Place, voice: Speaker, *, logits: Logits, best: list[int]) -> Drawn:
        """Draw from its row, and from the rows of its guesses as long as they come true."""
        row, sequence = place.row, place.row.sequence
        before, accepted = sequence.completion_tokens, 0
        texts: list[str] = []
        odds: list[TokenLogprob] = []
        reason: FinishReason | None = None
        for number in range(1 + len(row.guesses)):
            at = place.output + number
            try:
                token = self._token(voice, place.at + number, best=best[at] if best else 0, logits=logits[at])
            except RuntimeFault as fault:
                return Drawn(sequence, sequence.completion_tokens - before, 0, 0, None, None, fault)
            if voice.tells_logprobs and not voice.is_end(token):
                odds.append(voice.logprob(token, logits[at]))
            text, reason = voice.say(sequence, token)
            texts.append(text)
            if reason is not None or number == len(row.guesses) or token != row.guesses[number]:
                break
            accepted += 1
        self._settle(row, accepted)
        return Drawn(
            sequence,
            sequence.completion_tokens - before,
            len(row.guesses),
            accepted,
            chunk_of(sequence, "".join(texts), odds=tuple(odds), is_over=reason is not None),
            reason,
        )

    def _token(self, voice: Speaker, at: int, *, best: int, logits: Logits) -> int:
        if voice.sampler is None:
            return voice.correct(best, logits)
        return voice.sampler.draw(self._context.handle, at)

    def _settle(self, row: Rows, accepted: int) -> None:
        """Count the guesses that came true; the KV must forget the others."""
        sequence, guessed = row.sequence, len(row.guesses)
        if guessed == 0:
            return
        sequence.advance(row.start + row.count + accepted)
        sequence.drafted += guessed
        sequence.accepted += accepted
        if sequence.lookup is not None:
            sequence.lookup.judge(guessed, accepted)
        if accepted < guessed:
            self.refused.append(sequence)
