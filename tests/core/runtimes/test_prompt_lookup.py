"""Laws of guessing a sequence's next tokens from its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.runtimes.prompt_lookup import MAX_REST, NGRAM, PromptLookup


def test_what_came_after_the_same_three_tokens_is_guessed() -> None:
    assert PromptLookup(4).guess([1, 2, 3, 4, 5, 6, 1, 2, 3], 9) == [4, 5, 6, 1]


def test_a_text_that_repeats_itself_is_guessed_to_go_on_so() -> None:
    assert PromptLookup(5).guess([9, 1, 2, 1, 2, 1, 2], 9) == [1, 2, 1, 2, 1]


def test_the_last_time_counts() -> None:
    assert PromptLookup(1).guess([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 9) == [5]


def test_nothing_is_guessed_beyond_what_may_be_drawn() -> None:
    tokens = [1, 2, 3, 4, 5, 1, 2, 3]
    assert PromptLookup(4).guess(tokens, 1) == [4]
    assert PromptLookup(4).guess(tokens, 0) == []


def test_new_text_without_repetition_gives_no_guess() -> None:
    assert PromptLookup(4).guess(list(range(20)), 9) == []


def test_one_that_errs_rests_longer_each_time_and_starts_afresh_when_it_is_right() -> None:
    tokens = [1, 2, 3, 4, 1, 2, 3]
    lookup = PromptLookup(2)
    rests = []
    for _ in range(8):
        lookup.judge(2, 0)
        rest = 0
        while not lookup.guess(tokens, 9):
            rest += 1
        rests.append(rest)
    assert rests == [2, 4, 8, 16, 32, 64, MAX_REST, MAX_REST]
    lookup.judge(1, 1)
    lookup.judge(2, 0)
    assert [bool(lookup.guess(tokens, 9)) for _ in range(3)] == [False, False, True]


def test_guesses_get_shorter_when_their_ends_are_wrong_and_longer_again_when_right() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3]
    lookup = PromptLookup(4)
    lookup.judge(4, 1)
    assert lookup.guess(tokens, 9) == [4]
    lookup.judge(1, 1)
    assert lookup.guess(tokens, 9) == [4, 5]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_every_guess_is_a_piece_of_the_text_that_follows_its_own_end(tokens: list[int], most: int) -> None:
    lookup = PromptLookup(most)
    for end in range(len(tokens) + 1):
        seen = tokens[:end]
        guess = lookup.guess(seen, 9)
        assert len(guess) <= most
        if guess:
            after = [*seen, *guess]
            places = range(NGRAM, end)
            assert any(seen[i - NGRAM : i] == seen[-NGRAM:] and after[i : i + len(guess)] == guess for i in places)
