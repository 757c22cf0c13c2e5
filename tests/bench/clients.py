"""Clients of a worker as a workload describes them: the tokens they say are made up, how many there are is not.

Never says the same twice but for what the description shares.
"""

from __future__ import annotations

import msgspec

from core.job import ChatMessage
from core.metamodel.timetable import Clients, Workload, answer_tokens
from tests.bench.peers.streams import Ask, Client
from tests.bench.synthetic import words

_GROUPS, _MEMBERS, _TURNS = 10, 100, 100


class Voice(msgspec.Struct, frozen=True):
    """How words are chosen: another seed is another set of texts; words_per_token of the model's vocabulary."""

    seed: int = 0
    words_per_token: float = 1.0

    def text(self, tokens: float, *, place: int) -> str:
        """About so many tokens; another place is another text."""
        count = max(1, round(tokens * self.words_per_token))
        return words(count, seed=1 + place + self.seed * _GROUPS * _MEMBERS * _TURNS)


def clients_of(workload: Workload, voice: Voice) -> list[Client]:
    """One client for each of the workload's, in its order."""
    return [
        _client(clients, voice, group=group, member=member)
        for group, clients in enumerate(workload)
        for member in range(clients.count)
    ]


def _client(clients: Clients, voice: Voice, *, group: int, member: int) -> Client:
    place = (group * _MEMBERS + 1 + member) * _TURNS
    shared = group * _MEMBERS * _TURNS

    async def client(ask: Ask) -> None:
        said = _opening(clients, voice, place=shared)
        for turn in range(clients.rounds):
            own = voice.text(clients.prompt_tokens - clients.shared_tokens, place=place + turn)
            asked = (*said, ChatMessage("user", own))
            answer = await ask(asked, answer_tokens(clients, member, turn=turn))
            if clients.keeps:
                said = (*asked, ChatMessage("assistant", answer.text))

    return client


def _opening(clients: Clients, voice: Voice, *, place: int) -> tuple[ChatMessage, ...]:
    if clients.shared_tokens < 1:
        return ()
    return (ChatMessage("system", voice.text(clients.shared_tokens, place=place)),)
