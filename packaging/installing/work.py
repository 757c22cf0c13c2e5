"""One set-up under way: what was asked, what is known, where it is told. Never starts anything by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from installing.choices import Advice
from installing.facts import Facts
from installing.failures import explain
from installing.home import Home
from installing.progress import StepError, Steps, run_logged


class SetupError(Exception):
    """The set-up cannot go on; carries what to tell the owner."""

    def __init__(self, advice: Advice) -> None:
        super().__init__(advice.sentence)
        self.advice = advice


@dataclass(frozen=True)
class Wish:
    """What the owner's words ask: what the tests need, torch whatever the GPU, what failed before once again."""

    tests: bool = False
    torch: bool = False
    again: bool = False

    @property
    def needs_torch(self) -> bool:
        """Whether torch must be there, rather than merely being of use."""
        return self.torch or self.tests


@dataclass(frozen=True)
class Work:
    """One set-up under way."""

    home: Home
    facts: Facts
    wish: Wish
    steps: Steps

    @property
    def python_version(self) -> str:
        """The Python that the environment is for, as the stamp has it."""
        return ".".join(map(str, self.facts.python))

    def attempt(
        self,
        words: Sequence[str],
        *,
        step: str,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Run one command with its output in the log; SetupError with its reason if it fails."""
        try:
            run_logged(words, self.home.log, on_line=on_line, extra_env=env)
        except StepError as fault:
            raise SetupError(Advice(explain(fault.tail, step=step))) from fault


def refuse(advice: Advice | None) -> None:
    """Stop here if there is something to say."""
    if advice is not None:
        raise SetupError(advice)
