"""The laws of the grid: rows come back as they were written, and clients say what the workload says."""

from __future__ import annotations

from pathlib import Path

from core.job import ChatMessage
from core.metamodel.timetable import Clients, answer_tokens
from tests.bench import grid_rows
from tests.bench.clients import Voice, clients_of
from tests.bench.grid_workloads import MODELS, WORKLOADS
from tests.bench.peers.streams import Answer
from tests.bench.synthetic import SHAPES

RUN = grid_rows.Run("20m", "Q8_0", "short, mixed", "all", 1, 0, 0.5, 0.25, 0.125, 0.25, 0.03125, 100, 10, 32)


async def said_by(workload: tuple[Clients, ...], voice: Voice) -> list[list[tuple[tuple[ChatMessage, ...], int]]]:
    """What each client asks, when every answer is one word."""
    heard = []
    for client in clients_of(workload, voice):
        asked: list[tuple[tuple[ChatMessage, ...], int]] = []

        async def ask(messages: tuple[ChatMessage, ...], tokens: int, asked: list = asked) -> Answer:
            asked.append((messages, tokens))
            return Answer("yes", tokens, 0.0, 0.0, 0.0, 0.0)

        await client(ask)
        heard.append(asked)
    return heard


def test_rows_come_back_as_they_were_written_in_several_goes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for _ in range(2):
        grid_rows.append(path, [RUN, RUN], about="where from\nand how")
    assert grid_rows.read(path, grid_rows.Run) == [RUN] * 4
    assert path.read_text().startswith("# where from\n# and how\nmodel,")


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    grid_rows.append(tmp_path / "rows.csv", [], about="nothing")
    assert grid_rows.read(tmp_path / "rows.csv", grid_rows.Run) == []


async def test_clients_ask_for_as_many_tokens_as_a_timetable_counts() -> None:
    clients = Clients(3, 20, 10, shared_tokens=8, spread=0.5, rounds=2)
    heard = await said_by((clients,), Voice())
    assert [[tokens for _, tokens in asked] for asked in heard] == [
        [answer_tokens(clients, client, turn=turn) for turn in range(2)] for client in range(3)
    ]


async def test_only_the_shared_part_of_a_prompt_is_said_twice() -> None:
    workload = (Clients(3, 20, 10, shared_tokens=8, rounds=2), Clients(2, 12, 4, shared_tokens=6, rounds=2))
    heard = [messages for asked in await said_by(workload, Voice()) for messages, _ in asked]
    assert len({messages[0].content for messages in heard}) == 2
    assert len({messages[1].content for messages in heard}) == 3 * 2 + 2 * 2
    assert {len(messages[0].content.split()) for messages in heard} == {8, 6}


async def test_another_seed_says_nothing_of_the_one_before() -> None:
    first, second = [
        {message.content for asked in await said_by(WORKLOADS["chat"], Voice(seed)) for m, _ in asked for message in m}
        for seed in (1, 2)
    ]
    assert first and not first & second


async def test_a_conversation_says_all_that_was_said_before() -> None:
    turns = (await said_by((Clients(1, 10, 4, rounds=3, keeps=True),), Voice()))[0]
    assert [len(messages) for messages, _ in turns] == [1, 3, 5]
    assert turns[2][0][:3] == turns[1][0]


def test_every_model_of_the_grid_can_be_made() -> None:
    assert set(MODELS) - {"demo"} <= set(SHAPES)
