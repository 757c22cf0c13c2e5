"""Which steps a workload takes under a plan's switches: counts of work, never seconds.

Every client asks again as soon as it has its answer, so the order of the steps does not hang on the machine's speed:
one timetable serves every device and quantization. It follows the rules of the batch (core.runtimes.batch), many plain
steps at once. Pure: knows tokens, never a text, and never runs anything.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

# Passes of at most so many rows are bound by the weights' bytes, wider ones by arithmetic. On a CPU llama.cpp
# multiplies weights with four rows at once, and with what is left over one by one; and it looks back on earlier tokens
# by a slower way in runs of fewer tokens of one sequence than FLASH_ROWS, by tiles of so many in longer runs.
NARROW_ROWS = 8
FLASH_ROWS = 64
WORTH_A_TILE = 16
ROWS_AT_ONCE = 4
# Without chunks llama.cpp takes a step in passes of this many tokens.
WHOLE_PASS_TOKENS = 512
# What the engine's prefix cache finds worth taking over, and worth waiting for.
MIN_SHARED = 16
MIN_AWAITED = 32
# What a segment costs is these counts, in this order, each times its own seconds. reshaped: passes for which llama.cpp
# makes its graph anew: wide ones, and those of another width than the one before; odd_rows: those of narrow passes that
# are left over from fours; depths: rows times the tokens that they look back on, in long runs of one sequence (read) or
# short ones and single rows (drawn); drawn: tokens; begun: jobs, looked_up: those whose beginning was sought in the
# cache; copied: tokens that were found.
COSTS = (
    "steps", "passes", "reshaped", "narrow_rows", "odd_rows", "wide_rows", "read_depth", "drawn_depth",
    "drawn", "begun", "looked_up", "copied",
)  # fmt: skip
_GOLDEN = 0.6180339887498949


class Switches(msgspec.Struct, frozen=True):
    """The part of a plan that decides who steps when. chunk_tokens 0: whole prompts, up to context_tokens a step."""

    slots: int
    chunk_tokens: int = 128
    prefix_cache: bool = False
    continuous_batching: bool = True
    context_tokens: int = 2048


class Clients(msgspec.Struct, frozen=True):
    """So many clients that each ask `rounds` times, one question after another.

    shared_tokens of each prompt_tokens are the same for all of them. Answers have output_tokens, evenly between
    (1 - spread) and (1 + spread) times that. keeps: a conversation; each prompt is all that was said before, and
    prompt_tokens - shared_tokens more; known_answers is the share of its own answers whose tokens are found again.
    """

    count: int
    prompt_tokens: float
    output_tokens: float
    shared_tokens: float = 0.0
    spread: float = 0.0
    rounds: int = 3
    keeps: bool = False
    known_answers: float = 1.0


Workload = tuple[Clients, ...]


class Timetable(msgspec.Struct, frozen=True):
    """Segments of like steps. counts: one row of COSTS a segment, over all its steps; steps: how many there are.

    watched: whether someone was waiting for a further token then. asked and first, by job: the segment at whose begin
    it was asked, and at whose end its first token was there. tokens: of all answers.
    """

    counts: NDArray[np.float64]
    steps: NDArray[np.float64]
    watched: NDArray[np.bool_]
    asked: NDArray[np.int64]
    first: NDArray[np.int64]
    tokens: int

    @property
    def rows(self) -> float:
        """Tokens read and drawn from, in all passes."""
        return float(self.counts[:, [COSTS.index("narrow_rows"), COSTS.index("wide_rows")]].sum())


def timetable(workload: Workload, switches: Switches) -> Timetable:
    """All steps from the first question to the last answer. There must be a client."""
    course = _Course(workload, switches)
    while course.goes_on():
        course.advance()
    jobs = course.jobs
    return Timetable(
        counts=np.array(course.counts),
        steps=np.array([row[0] for row in course.counts]),
        watched=np.array(course.watched),
        asked=np.array([job.asked for job in jobs]),
        first=np.array([job.first for job in jobs]),
        tokens=sum(job.output for job in jobs),
    )


def answer_tokens(clients: Clients, client: int, *, turn: int) -> int:
    """How long this client's answer is in this turn: spread evenly, the same in every run."""
    place = ((client * clients.rounds + turn + 1) * _GOLDEN) % 1.0
    return max(1, round(clients.output_tokens * (1 + clients.spread * (2 * place - 1))))


class _Job(msgspec.Struct, eq=False):
    """One question: tokens of its prompt, how many of them may be known, and how far it is."""

    group: int
    client: int
    turn: int
    prompt: int
    shared: int
    kept: int
    output: int
    asked: int = 0
    first: int = -1
    fed: int = 0
    drawn: int = 0
    leader: _Job | None = None

    @property
    def due(self) -> int:
        """Prompt tokens that could be read now."""
        return 0 if self.leader is not None else self.prompt - self.fed

    @property
    def is_reading(self) -> bool:
        return self.drawn == 0


class _Course:
    """The workload under way: who comes, waits and runs."""

    def __init__(self, workload: Workload, switches: Switches) -> None:
        self.counts: list[list[float]] = []
        self.watched: list[bool] = []
        self.jobs: list[_Job] = []
        self._workload = workload
        self._switches = switches
        self._chunk = switches.chunk_tokens or switches.context_tokens
        self._pass_rows = switches.chunk_tokens + switches.slots if switches.chunk_tokens else WHOLE_PASS_TOKENS
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._known: set[int] = set()
        self._begun = self._looked_up = self._copied = 0
        self._shape = 0
        members = [(group, client) for group, clients in enumerate(workload) for client in range(clients.count)]
        self._coming = [self._question(group, client, turn=0) for group, client in members]

    def goes_on(self) -> bool:
        """Whether anyone asks, waits or runs."""
        return bool(self._coming or self._waiting or self._running)

    def advance(self) -> None:
        """One segment. Who asks while others step comes in after that step; a worker that has nothing to do takes in
        all who ask."""
        coming, self._coming = self._coming, []
        if not self._waiting and not self._running:
            self._waiting.extend(coming)
            coming = []
        self._seat()
        self._follow()
        reads = self._reads()
        decoding = [job for job in self._running if not job.is_reading]
        many = 1 if reads or coming else max(1, min((job.output - job.drawn for job in decoding), default=1))
        self._count(reads, decoding, many=many)
        self._read(reads)
        for job in decoding:
            job.drawn += many
        self._end()
        self._waiting.extend(coming)

    def _question(self, group: int, client: int, *, turn: int) -> _Job:
        clients = self._workload[group]
        shared, own = round(clients.shared_tokens), round(clients.prompt_tokens - clients.shared_tokens)
        said = kept = 0
        if clients.keeps and turn:
            answers = [answer_tokens(clients, client, turn=before) for before in range(turn)]
            said = turn * own + sum(answers)
            kept = shared + said - max(1, round((1 - clients.known_answers) * answers[-1]))
        job = _Job(
            group, client, turn, shared + said + own, shared, kept, answer_tokens(clients, client, turn=turn),
            asked=len(self.counts),
        )  # fmt: skip
        self.jobs.append(job)
        return job

    def _seat(self) -> None:
        """Fill free slots, first come first."""
        if self._running and not self._switches.continuous_batching:
            return
        while self._waiting and len(self._running) < self._switches.slots:
            job = self._waiting.popleft()
            self._begun += 1
            if self._switches.prefix_cache:
                self._look_up(job)
            self._running.append(job)

    def _look_up(self, job: _Job) -> None:
        """Start from what is known of its prompt, or wait for one who reads more of it."""
        self._looked_up += 1
        known = max(job.kept, job.shared if job.group in self._known else 0)
        leader = next((other for other in self._running if other.group == job.group and other.due), None)
        if leader is not None and job.shared >= known + MIN_AWAITED:
            job.leader = leader
        elif known >= MIN_SHARED:
            job.fed = min(known, job.prompt - 1)
            self._copied += job.fed

    def _follow(self) -> None:
        for job in self._running:
            if job.leader is not None and job.leader.fed >= job.shared:
                job.leader = None
                job.fed = min(job.shared, job.prompt - 1)
                self._copied += job.fed

    def _reads(self) -> list[tuple[_Job, int]]:
        """Prompts by arrival up to the chunk; what would fit into a step, but not beside the others, waits."""
        budget, reads = self._chunk, []
        tail = FLASH_ROWS + any(not job.is_reading for job in self._running)
        for job in self._running:
            due = job.due if job.is_reading else 0
            count = min(due, budget)
            if count == 0 or (count < due <= self._chunk and budget < self._chunk):
                continue
            budget -= count
            if count == self._chunk < due and WORTH_A_TILE <= due - count < tail <= count:
                count -= tail - (due - count)
            reads.append((job, count))
        return reads

    def _count(self, reads: list[tuple[_Job, int]], decoding: list[_Job], *, many: int) -> None:
        looked_back = sum(job.prompt + job.drawn + (many - 1) / 2 for job in decoding)
        passes = [(len(decoding), 1, looked_back)]
        if reads:
            runs = [*((1, job.prompt + job.drawn - 1) for job in decoding), *((count, job.fed) for job, count in reads)]
            passes = list(_passes(runs, self._pass_rows))
        shapes = [rows for rows, _, _ in passes]
        depths = [many * sum(d * _tiled(each) for _, each, d in passes if each >= FLASH_ROWS)]
        depths.append(many * sum(d for _, each, d in passes if each < FLASH_ROWS))
        narrow = [rows for rows in shapes if rows <= NARROW_ROWS]
        odd = sum(rows % ROWS_AT_ONCE for rows in narrow)
        reshaped = sum(one != now or now > NARROW_ROWS for one, now in itertools.pairwise([self._shape, *shapes]))
        self._shape = shapes[-1]
        rows = [many * sum(narrow), many * odd, many * (sum(shapes) - sum(narrow))]
        drawn = many * len(decoding) + sum(count == job.due for job, count in reads)
        jobs = [self._begun, self._looked_up, self._copied]
        self.counts.append([many, many * len(shapes), reshaped, *rows, *depths, drawn, *jobs])
        self.watched.append(bool(decoding))
        self._begun = self._looked_up = self._copied = 0

    def _read(self, reads: list[tuple[_Job, int]]) -> None:
        for job, count in reads:
            job.fed += count
            if job.shared and job.fed >= job.shared:
                self._known.add(job.group)
            if job.fed == job.prompt:
                job.drawn, job.first = 1, len(self.counts) - 1

    def _end(self) -> None:
        """Who has the whole answer leaves, and asks the next question."""
        ended = [job for job in self._running if job.drawn >= job.output]
        for job in sorted(ended, key=lambda job: (job.group, job.client)):
            self._running.remove(job)
            if job.turn + 1 < self._workload[job.group].rounds:
                self._coming.append(self._question(job.group, job.client, turn=job.turn + 1))


def _tiled(rows: int) -> float:
    """How much more than its own rows a long run costs, as a tile that is not full costs as much as a full one."""
    return -(-rows // FLASH_ROWS) * FLASH_ROWS / rows


def _passes(runs: Sequence[tuple[int, float]], most: int) -> Iterator[tuple[int, int, float]]:
    """Each pass over the weights: its rows, how many of each sequence, and what they look back on. runs: of each
    sequence how many rows there are, and how many tokens lie before them. llama.cpp takes equally many rows of every
    slot that has any left."""
    while runs:
        each = min(min(rows for rows, _ in runs), max(1, most // len(runs)))
        yield each * len(runs), each, each * (sum(depth for _, depth in runs) + len(runs) * (each + 1) / 2)
        runs = [(rows - each, depth + each) for rows, depth in runs if rows > each]
