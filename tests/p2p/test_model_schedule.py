"""Laws of who is asked for which piece: everything comes, nothing is asked too often, whoever lies or stops is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2p.model_schedule import MOST_ASKED, MOST_HOLDERS, PIECE_S, STALL_S, PieceSchedule

HONEST, GARBAGE, STOPS, TRICKLES = "honest", "garbage", "stops", "trickles"


class Play:
    """Sources that send in turn, by their kind and pace, until the file is there; every ask is held to the laws."""

    def __init__(self, pieces: int, kinds: list[tuple[str, float]]) -> None:
        self.schedule = PieceSchedule(pieces)
        self.kinds = {f"{kind}-{place}": (kind, pace) for place, (kind, pace) in enumerate(kinds)}
        self.rows: dict[str, list[int]] = {name: [] for name in self.kinds}
        self.due = {name: pace for name, (_, pace) in self.kinds.items()}
        self.kept: list[int] = []
        self.now = 0.0
        for name in self.kinds:
            self.schedule.join(name, now=0.0)

    def run(self) -> None:
        for _ in range(20_000):
            self.ask()
            if self.schedule.is_done:
                return
            self.now += 0.05
            for name in self.schedule.silent(self.now):
                self.schedule.leave(name)
                self.rows[name] = []
            for name, (kind, pace) in self.kinds.items():
                self.act(name, kind, pace)
        raise AssertionError("it never ends")

    def ask(self) -> None:
        for ask in self.schedule.asks(self.now):
            assert not self.schedule.is_condemned(ask.source) and ask.source in self.schedule.sources
            assert not set(ask.pieces) & set(self.kept)
            self.rows[ask.source] += ask.pieces
            assert len(self.rows[ask.source]) <= MOST_ASKED
            for piece in ask.pieces:
                assert sum(piece in row for row in self.rows.values()) <= MOST_HOLDERS

    def act(self, name: str, kind: str, pace: float) -> None:
        if not self.rows[name] or self.now < self.due[name] or name not in self.schedule.sources:
            return
        if kind == TRICKLES:
            self.schedule.heard(name, now=self.now)
        if kind in (STOPS, TRICKLES):
            return
        self.due[name] = self.now + pace
        index = self.rows[name].pop(0)
        assert self.schedule.is_wanted(name, index)
        self.schedule.arrived(name, index, now=self.now)
        if kind == GARBAGE and not self.schedule.is_here(index):
            self.schedule.condemn(name)
            self.rows[name] = []
            return
        if not self.schedule.is_here(index):
            self.kept.append(index)
        self.schedule.keep(name, index)


KINDS = st.lists(
    st.tuples(st.sampled_from((HONEST, GARBAGE, STOPS, TRICKLES)), st.floats(0.05, 3.0)), max_size=5
)


@given(st.integers(1, 40), KINDS, st.floats(0.05, 3.0))
def test_one_honest_source_is_enough_whatever_others_do(
    pieces: int, others: list[tuple[str, float]], pace: float
) -> None:
    play = Play(pieces, [(HONEST, pace), *others])
    play.run()
    assert sorted(play.kept) == list(range(pieces))


def test_pieces_are_asked_from_the_start_and_few_at_once() -> None:
    schedule = PieceSchedule(20)
    schedule.join("a", now=0.0)
    schedule.join("b", now=0.0)
    asks = schedule.asks(0.0)
    assert sorted(piece for ask in asks for piece in ask.pieces) == [0, 1, 2, 3]
    assert schedule.asks(0.0) == ()


def test_what_is_here_already_is_not_asked_for() -> None:
    schedule = PieceSchedule(4, done={0, 2})
    schedule.join("a", now=0.0)
    assert schedule.asks(0.0)[0].pieces == (1, 3)


def test_a_condemned_source_does_not_come_back() -> None:
    schedule = PieceSchedule(4)
    schedule.join("a", now=0.0)
    schedule.asks(0.0)
    schedule.condemn("a")
    schedule.join("a", now=1.0)
    assert schedule.asks(1.0) == () and schedule.sources == ()
    schedule.join("b", now=1.0)
    assert schedule.asks(1.0)[0].pieces == (0, 1)


def test_a_silent_source_is_one_that_owes_something() -> None:
    schedule = PieceSchedule(4)
    schedule.join("a", now=0.0)
    assert schedule.silent(STALL_S + 1) == ()
    schedule.asks(100.0)
    assert schedule.silent(100.0 + STALL_S) == ()
    assert schedule.silent(100.1 + STALL_S) == ("a",)


def test_a_trickle_is_not_enough() -> None:
    schedule = PieceSchedule(4)
    schedule.join("a", now=0.0)
    schedule.asks(0.0)
    schedule.heard("a", now=PIECE_S)
    assert schedule.silent(PIECE_S) == ()
    schedule.heard("a", now=PIECE_S + 1)
    assert schedule.silent(PIECE_S + 1) == ("a",)


def test_the_last_pieces_of_a_slow_source_are_asked_of_a_fast_one_too() -> None:
    schedule = PieceSchedule(5)
    for name in ("fast", "slow"):
        schedule.join(name, now=0.0)
    schedule.asks(0.0)
    for index in (0, 1):
        schedule.arrived("fast", index, now=0.1 * (index + 1))
        schedule.keep("fast", index)
    assert [(ask.source, ask.pieces) for ask in schedule.asks(0.2)] == [("fast", (4, 2, 3))]


def test_pieces_that_are_lost_are_asked_for_again() -> None:
    schedule = PieceSchedule(2, done={0, 1})
    schedule.join("a", now=0.0)
    schedule.lose({1})
    assert not schedule.is_done and schedule.asks(0.0)[0].pieces == (1,)
